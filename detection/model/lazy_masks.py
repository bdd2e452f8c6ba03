"""Masks of detections that are drawn at full size only when somebody wants them."""

from dataclasses import dataclass

from detectron2.layers import paste_masks_in_image
from detectron2.modeling.postprocessing import detector_postprocess
from detectron2.structures import Instances
from torch import Tensor

# As detectron2's ``detector_postprocess``.
_THRESHOLD = 0.5


@dataclass(frozen=True)
class LazyMasks:
    """Masks of one image, as the mask head gives them.

    Attributes:
        probabilities: (N, side, side) of the pixels of each box.
        boxes: (N, 4) x0, y0, x1, y1 in pixels of the image file.
        size: Height and width of the image file, in pixels.
    """

    probabilities: Tensor
    boxes: Tensor
    size: tuple[int, int]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of what ``draw`` returns."""
        return (len(self), *self.size)

    def __len__(self) -> int:
        return len(self.probabilities)

    def __getitem__(self, chosen: slice | Tensor) -> "LazyMasks":
        """Select masks by slice, index tensor or boolean tensor."""
        return LazyMasks(self.probabilities[chosen], self.boxes[chosen], self.size)

    def draw(self) -> Tensor:
        """Return the masks at full size, (N, height, width) bool."""
        drawn: Tensor = paste_masks_in_image(self.probabilities, self.boxes, self.size, _THRESHOLD)
        return drawn


def with_lazy_masks(found: Instances, height: int, width: int) -> Instances:
    """Return detections in pixels of the image file, as ``detector_postprocess`` does.

    Args:
        found: In pixels of the resized image; masks (N, 1, side, side).
        height: Of the file, in pixels.
        width: Of the file, in pixels.
    """
    if not found.has("pred_masks"):
        return detector_postprocess(found, height, width)
    fields = found.get_fields()
    probabilities = fields.pop("pred_masks")[:, 0]
    bare = Instances(found.image_size, **fields, probabilities=probabilities)
    placed = detector_postprocess(bare, height, width)
    kept = placed.get_fields().pop("probabilities")
    placed.pred_masks = LazyMasks(kept, placed.pred_boxes.tensor, (height, width))
    return placed
