"""Instance masks of a training image, each kept only where its object is."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pycocotools.mask as rle_tools
import torch
from detectron2.structures import BitMasks, Boxes
from torch import Tensor
from torchvision.ops import roi_align

from detection.data.augmentation import Plan, Points, apply_to_points, source_pixels
from detection.data.segmentation import Segmentation

# Zero pixels kept round an object: what RoIAlign's interpolation sees beyond it.
_MARGIN = 1


@dataclass(frozen=True)
class Patch:
    """A mask cut out round its object.

    Attributes:
        left: Column of the patch's first pixel in the image.
        top: Row of the patch's first pixel in the image.
        pixels: (h, w), 0 or 1.
        box: Tight box x0, y0, x1, y1 in image pixels; zeros where the mask is empty.
    """

    left: int
    top: int
    pixels: npt.NDArray[np.uint8]
    box: tuple[int, int, int, int]


class PatchMasks:
    """Stands where detectron2 expects ``BitMasks``, with the same targets for the mask head.

    ``BitMasks`` holds, moves and resamples the whole image for every instance and once more for
    every region matched to it; the objects fill a small part of that.

    Attributes:
        image_size: Height and width of the image, in pixels.
        indices: (N,) int64 on the CPU: which stored mask each entry is; regions share masks.
    """

    def __init__(
        self,
        pixels: Tensor,
        spans: Tensor,
        boxes: Tensor,
        image_size: tuple[int, int],
        indices: Tensor | None = None,
    ) -> None:
        """Take what ``from_patches`` packs.

        Args:
            pixels: All patches one after another, flat, uint8.
            spans: (M, 5) int64 on the CPU: start in ``pixels``, left, top, height, width.
            boxes: (M, 4) float32 tight boxes.
            image_size: Height and width in pixels.
            indices: As the attribute; None for all stored masks in order.
        """
        self._pixels = pixels
        self._spans = spans
        self._boxes = boxes
        self.image_size = image_size
        self.indices = torch.arange(len(spans)) if indices is None else indices

    @classmethod
    def from_patches(cls, patches: Sequence[Patch], image_size: tuple[int, int]) -> "PatchMasks":
        """Pack patches of one image."""
        sizes = [patch.pixels.size for patch in patches]
        starts = np.cumsum([0, *sizes])[:-1]
        spans = [
            (start, patch.left, patch.top, *patch.pixels.shape)
            for start, patch in zip(starts, patches, strict=True)
        ]
        flat = [patch.pixels.reshape(-1) for patch in patches]
        return cls(
            torch.from_numpy(np.concatenate(flat) if flat else np.zeros(0, np.uint8)),
            torch.tensor(spans, dtype=torch.int64).reshape(-1, 5),
            torch.tensor([patch.box for patch in patches], dtype=torch.float32).reshape(-1, 4),
            image_size,
        )

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, item: int | slice | Tensor) -> "PatchMasks":
        """Select entries by position, slice, index tensor or boolean tensor."""
        if isinstance(item, int):
            item = slice(item, item + 1) if item != -1 else slice(-1, None)
        chosen = item.cpu() if isinstance(item, Tensor) else item
        return PatchMasks(
            self._pixels, self._spans, self._boxes, self.image_size, self.indices[chosen]
        )

    @property
    def device(self) -> torch.device:
        """Where the pixels are."""
        return self._pixels.device

    def to(self, *args: Any, **kwargs: Any) -> "PatchMasks":
        """Return the masks with their pixels moved; as ``Tensor.to``, the type stays uint8."""
        device = torch.empty(0, device=self.device).to(*args, **kwargs).device
        pixels = self._pixels.to(device, non_blocking=bool(kwargs.get("non_blocking")))
        return PatchMasks(pixels, self._spans, self._boxes, self.image_size, self.indices)

    def nonempty(self) -> Tensor:
        """Return (N,) bool: the mask has a pixel."""
        return (self._boxes[:, 2] > self._boxes[:, 0])[self.indices]

    def get_bounding_boxes(self) -> Boxes:
        """Return (N, 4) tight boxes, zeros for empty masks."""
        return Boxes(self._boxes[self.indices])

    def crop_and_resize(self, boxes: Tensor, mask_size: int) -> Tensor:
        """Resample each mask inside its box, as ``BitMasks.crop_and_resize`` does.

        Args:
            boxes: (N, 4) x0, y0, x1, y1 in pixels, one for each entry.
            mask_size: Side of the result.

        Returns:
            (N, mask_size, mask_size) bool on the boxes' device.
        """
        targets = boxes.new_zeros((len(self), mask_size, mask_size), dtype=torch.bool)
        for index in sorted(set(self.indices.tolist())):
            entries = (self.indices == index).nonzero().squeeze(1).to(boxes.device)
            start, left, top, height, width = self._spans[index].tolist()
            patch = self._pixels[start : start + height * width].to(boxes.device)
            patch = patch.reshape(1, 1, height, width).to(boxes.dtype)
            moved = boxes[entries] - boxes.new_tensor((left, top, left, top))
            sampled = roi_align(patch, [moved], mask_size, sampling_ratio=0, aligned=True)
            targets[entries] = sampled.squeeze(1) >= 0.5
        return targets

    def to_bitmasks(self) -> BitMasks:
        """Return the same masks as detectron2's whole-image bitmaps."""
        whole = torch.zeros((len(self), *self.image_size), dtype=torch.bool)
        for mask, index in zip(whole, self.indices.tolist(), strict=True):
            start, left, top, height, width = self._spans[index].tolist()
            patch = self._pixels[start : start + height * width].reshape(height, width)
            mask[top : top + height, left : left + width] = patch
        return BitMasks(whole)


def transform_masks(
    segmentations: Sequence[Segmentation],
    plan: Plan,
    old_size: tuple[int, int],
    new_size: tuple[int, int],
) -> PatchMasks:
    """Carry masks of any encoding through a plan.

    Polygons move as points and are drawn after all steps, run lengths take the nearest pixel in
    each resize; both as in detectron2, without drawing anything larger than its object.

    Args:
        segmentations: One per object, canonical (``detection.data.segmentation``).
        plan: What happened to the image.
        old_size: Height and width before it, in pixels.
        new_size: Height and width after it, in pixels.
    """
    polygons = _move_polygons(segmentations, plan)
    sources: tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]] | None = None
    patches = []
    for segmentation in segmentations:
        if isinstance(segmentation, list):
            patches.append(_draw([next(polygons) for _ in segmentation], new_size))
            continue
        if sources is None:
            sources = source_pixels(plan, *old_size)
        patches.append(_resample(segmentation, *sources))
    return PatchMasks.from_patches(patches, new_size)


def _move_polygons(segmentations: Sequence[Segmentation], plan: Plan) -> Any:
    """Return an iterator over all polygons in order, each (N, 2), moved in one go."""
    polygons = [p for s in segmentations if isinstance(s, list) for p in s]
    if not polygons:
        return iter(())
    flat = np.concatenate([np.asarray(p, dtype=np.float64) for p in polygons]).reshape(-1, 2)
    ends = np.cumsum([len(p) // 2 for p in polygons])[:-1]
    return iter(np.split(apply_to_points(plan, flat), ends))


def _draw(polygons: Sequence[Points], size: tuple[int, int]) -> Patch:
    """Draw the union of an object's polygons, with the rules of COCO's own rasteriser."""
    low = np.min([p.min(0) for p in polygons], 0)
    high = np.max([p.max(0) for p in polygons], 0)
    left, top = (max(0, int(np.floor(x)) - _MARGIN) for x in low)
    right = min(size[1], int(np.ceil(high[0])) + _MARGIN)
    bottom = min(size[0], int(np.ceil(high[1])) + _MARGIN)
    if right <= left or bottom <= top:
        return _EMPTY
    moved = [(p - (left, top)).reshape(-1) for p in polygons]
    rle = rle_tools.merge(rle_tools.frPyObjects(moved, bottom - top, right - left))
    return _trim(rle_tools.decode(rle), left, top, size)


def _resample(
    rle: dict[str, Any], rows: npt.NDArray[np.intp], columns: npt.NDArray[np.intp]
) -> Patch:
    """Take each pixel from its row (H,) and column (W,), only where the object's box ends up."""
    x, y, width, height = rle_tools.toBbox(rle)
    inside_rows = np.flatnonzero((rows >= y) & (rows < y + height))
    inside_columns = np.flatnonzero((columns >= x) & (columns < x + width))
    if not len(inside_rows) or not len(inside_columns):
        return _EMPTY
    top, bottom = max(0, inside_rows[0] - _MARGIN), inside_rows[-1] + 1 + _MARGIN
    left, right = max(0, inside_columns[0] - _MARGIN), inside_columns[-1] + 1 + _MARGIN
    whole = rle_tools.decode(rle)
    pixels = whole[rows[top:bottom, None], columns[None, left:right]]
    return _trim(pixels, int(left), int(top), (len(rows), len(columns)))


def _trim(pixels: npt.NDArray[np.uint8], left: int, top: int, size: tuple[int, int]) -> Patch:
    """Return (h, w) pixels as a patch with exactly the margin round its object, less at the border.

    At the border RoIAlign repeats the last pixel, so no zeros may be added there.
    """
    rows, columns = np.flatnonzero(pixels.any(1)), np.flatnonzero(pixels.any(0))
    if not len(rows):
        return _EMPTY
    x, y = left + columns[[0, -1]], top + rows[[0, -1]]
    box = (int(x[0]), int(y[0]), int(x[1]) + 1, int(y[1]) + 1)
    new_left, new_top = max(0, box[0] - _MARGIN), max(0, box[1] - _MARGIN)
    new_right, new_bottom = min(size[1], box[2] + _MARGIN), min(size[0], box[3] + _MARGIN)
    cut = pixels[new_top - top : new_bottom - top, new_left - left : new_right - left]
    return Patch(new_left, new_top, np.ascontiguousarray(cut), box)


_EMPTY = Patch(0, 0, np.zeros((1, 1), np.uint8), (0, 0, 0, 0))
