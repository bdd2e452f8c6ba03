"""Mask R-CNN and its kin: detectron2's model-zoo graphs with our backbone in them."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import detectron2
import torch
from detectron2.config import LazyConfig, instantiate
from detectron2.layers import ShapeSpec
from detectron2.modeling import GeneralizedRCNN
from detectron2.structures import ImageList, Instances
from omegaconf import OmegaConf, SCMode
from torch import Tensor, nn

from backbones.base.errors import UserError
from backbones.features import Backbone
from backbones.spec import BackboneSpec
from backbones.training.norms import recompute
from detection.config import DetectionConfig, EvaluationConfig, ModelConfig
from detection.model.adapter import adapt, freeze, freeze_unused
from detection.model.arithmetic import BOX_BINS, MASK_BINS
from detection.model.lazy_masks import with_lazy_masks
from detection.model.pyramid import laid_out, make_norm
from detection.model.roi_align import SeparableRoIAlign

# By path, since ``detectron2.model_zoo`` imports pkg_resources, which setuptools has dropped.
_GRAPHS = Path(detectron2.__file__).parent / "model_zoo" / "configs" / "common" / "models"
_GRAPH_FILES = {"mask-rcnn": "mask_rcnn_fpn.py", "cascade-mask-rcnn": "cascade_rcnn.py"}

# A region of 224 pixels belongs to level 4 where anchors are 8 strides wide (Lin et al. 2017,
# "Feature Pyramid Networks", equation 1); with other anchors it moves along.
_CANONICAL_SIDE = 224
_CANONICAL_ANCHOR_SCALE = 8


class Detector(GeneralizedRCNN):
    """A two-stage detector; RGB images of values 0 to 255 in, detectron2's losses or boxes out.

    Attributes:
        net: The backbone without its neck.
        unused: Names of backbone parameters that the maps do not depend on; they stay fixed.
    """

    def __init__(
        self,
        net: Backbone,
        spec: BackboneSpec,
        config: DetectionConfig,
        num_classes: int,
        has_masks: bool,
    ) -> None:
        """Put fresh neck and heads on a backbone; they draw from torch's global generator.

        Args:
            net: The backbone, weights loaded.
            spec: Its name card: mean and standard deviation of its images.
            config: Resolved.
            num_classes: Of the data.
            has_masks: Whether the data have masks; without them the mask head falls away.

        Raises:
            UserError: The backbone lacks a map that the config's levels need.
        """
        quiet = freeze(net, config.model)
        unused = freeze_unused(net, config.data.img_size, config.model.features)
        if config.model.activation_checkpointing:
            recompute(net)
        graph = _graph(config.model, config.evaluation, num_classes, has_masks)
        super().__init__(
            backbone=adapt(net, config.model, config.padded_square),
            proposal_generator=_make(graph.proposal_generator),
            roi_heads=_make_heads(graph.roi_heads),
            pixel_mean=[255 * value for value in spec.mean],
            pixel_std=[255 * value for value in spec.std],
            input_format="RGB",
        )
        self.unused = unused
        self._square = config.padded_square
        self._quiet = quiet
        # Outside the module tree, where the backbone is already, below its adapter.
        object.__setattr__(self, "net", net)

    def train(self, mode: bool = True) -> "Detector":
        """Switch modes, but keep frozen parts in evaluation mode."""
        super().train(mode)
        for module in self._quiet:
            module.eval()
        return self

    def losses_by_part(
        self, batched_inputs: list[dict[str, Any]], size: int, enter: Callable[[int], None]
    ) -> dict[str, Tensor]:
        """Return the losses of a batch that is several micro-batches of the recipe.

        detectron2 averages a loss over what it sampled in a micro-batch. So each part is sampled
        and averaged by itself, while the backbone sees all images at once.

        Args:
            batched_inputs: As in ``forward``, all of one size after padding.
            size: Images of a part.
            enter: Called with the number of each part before anything is drawn for it.

        Returns:
            By name, the mean over the parts.
        """
        images = self.preprocess_image(batched_inputs)
        truth = [item["instances"].to(self.device) for item in batched_inputs]
        maps = self.backbone(images.tensor)
        found = []
        for number, start in enumerate(range(0, len(truth), size)):
            part = slice(start, start + size)
            some = ImageList(images.tensor[part], images.image_sizes[part])
            features = {name: values[part] for name, values in maps.items()}
            enter(number)
            proposals, losses = self.proposal_generator(some, features, truth[part])
            _, more = self.roi_heads(some, features, proposals, truth[part])
            found.append({**more, **losses})
        return {name: torch.stack([each[name] for each in found]).mean() for name in found[0]}

    def inference(
        self,
        batched_inputs: list[dict[str, Any]],
        detected_instances: list[Instances] | None = None,
        do_postprocess: bool = True,
    ) -> Any:
        """Detect, as detectron2 does, but leave masks to be drawn one after another.

        100 masks of a picture of 12 megapixels take 1.2 GB when all are drawn at once.

        Args:
            batched_inputs: As in ``forward``.
            detected_instances: Boxes that are known already, else None.
            do_postprocess: Return boxes and masks in pixels of the files.

        Returns:
            As in detectron2; ``pred_masks`` is a ``LazyMasks``.
        """
        found = super().inference(batched_inputs, detected_instances, do_postprocess=False)
        if not do_postprocess:
            return found
        return [{"instances": placed} for placed in map(_place, found, batched_inputs)]

    def preprocess_image(self, batched_inputs: list[dict[str, Any]]) -> ImageList:
        """Normalise and pad a batch.

        Raises:
            UserError: An image exceeds the square it should be padded to, where detectron2 would
                crop it in silence.
        """
        for item in batched_inputs:
            height, width = item["image"].shape[-2:]
            if self._square and max(height, width) > self._square:
                raise UserError(
                    f"Image {item.get('image_id', '')} comes with {width}x{height} pixels, more "
                    f"than the padded square of {self._square}; make data.img_size larger."
                )
        images = super().preprocess_image(batched_inputs)
        images.tensor = laid_out(images.tensor)
        return images


def _place(found: Instances, item: dict[str, Any]) -> Instances:
    height, width = found.image_size
    return with_lazy_masks(found, item.get("height", height), item.get("width", width))


def build_detector(
    net: Backbone, spec: BackboneSpec, config: DetectionConfig, facts: tuple[int, bool], seed: int
) -> Detector:
    """Return a detector with fresh neck and heads, on the CPU, in training mode.

    Args:
        net: The backbone, weights loaded; layers that the config freezes become fixed.
        spec: Its name card.
        config: Resolved.
        facts: Number of classes, and whether there are masks.
        seed: Of the fresh weights.

    Raises:
        UserError: The backbone lacks a map that the config's levels need.
    """
    # Weights are drawn on the CPU, so that GPUs and their generators are left alone.
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return Detector(net, spec, config, *facts).train()


def _graph(
    model: ModelConfig, evaluation: EvaluationConfig, num_classes: int, has_masks: bool
) -> Any:
    """Return detectron2's graph of the detector with the config's sizes in it."""
    graph = LazyConfig.load(str(_GRAPHS / _GRAPH_FILES[model.detector])).model
    _set_proposals(graph.proposal_generator, model)
    heads = graph.roi_heads
    heads.num_classes = num_classes
    heads.batch_size_per_image = model.roi_samples
    heads.box_in_features = [f"p{level}" for level in model.roi_levels]
    _set_pooler(heads.box_pooler, model)
    cascade = model.detector == "cascade-mask-rcnn"
    for head in heads.box_heads if cascade else [heads.box_head]:
        head.input_shape = ShapeSpec(channels=model.channels, height=BOX_BINS, width=BOX_BINS)
        head.conv_dims = [model.channels] * model.box_convs
        head.fc_dims = list(model.box_fcs)
        head.conv_norm = _head_norm(model)
    for predictor in heads.box_predictors if cascade else [heads.box_predictor]:
        predictor.input_shape = ShapeSpec(channels=model.box_fcs[-1])
        predictor.test_score_thresh = evaluation.score_threshold
        predictor.test_nms_thresh = evaluation.nms_threshold
        predictor.test_topk_per_image = evaluation.detections_per_image
    _set_masks(heads, model, has_masks)
    return graph


def _set_proposals(generator: Any, model: ModelConfig) -> None:
    generator.in_features = [f"p{level}" for level in model.rpn_levels]
    generator.head.in_channels = model.channels
    generator.head.num_anchors = len(model.anchor_ratios)
    generator.head.conv_dims = [-1] * model.rpn_convs
    anchors = generator.anchor_generator
    anchors.sizes = [[model.anchor_scale * 2**level] for level in model.rpn_levels]
    anchors.aspect_ratios = list(model.anchor_ratios)
    anchors.strides = [2**level for level in model.rpn_levels]
    generator.batch_size_per_image = model.rpn_samples
    generator.pre_nms_topk = list(model.rpn_candidates)
    generator.post_nms_topk = list(model.proposals)


def _set_pooler(pooler: Any, model: ModelConfig) -> None:
    pooler.scales = [1 / 2**level for level in model.roi_levels]
    pooler.sampling_ratio = model.sampling_ratio
    side = _CANONICAL_SIDE * model.anchor_scale / _CANONICAL_ANCHOR_SCALE
    pooler.canonical_box_size = side


def _make_heads(graph: Any) -> nn.Module:
    """Return the RoI heads; with a fixed sampling ratio RoIAlign takes the short way on a CPU."""
    heads: nn.Module = _make(graph)
    for name in ("box_pooler", "mask_pooler"):
        pooler = getattr(heads, name, None)
        if pooler is not None and pooler.level_poolers[0].sampling_ratio:
            pooler.level_poolers = nn.ModuleList(map(SeparableRoIAlign, pooler.level_poolers))
    return heads


def _make(graph: Any) -> Any:
    """Instantiate a part of the graph with plain lists.

    Modules keep OmegaConf's otherwise, and iterating those takes 5 ms of every step.
    """
    mode = SCMode.INSTANTIATE
    return instantiate(OmegaConf.to_container(graph, resolve=True, structured_config_mode=mode))


def _set_masks(heads: Any, model: ModelConfig, has_masks: bool) -> None:
    if not has_masks:
        heads.mask_in_features = None
        del heads.mask_pooler, heads.mask_head
        return
    heads.mask_in_features = [f"p{level}" for level in model.roi_levels]
    _set_pooler(heads.mask_pooler, model)
    head = heads.mask_head
    head.input_shape = ShapeSpec(channels=model.channels, height=MASK_BINS, width=MASK_BINS)
    # The last one is the upsampling deconvolution.
    head.conv_dims = [model.channels] * (model.mask_convs + 1)
    head.conv_norm = _head_norm(model)


def _head_norm(model: ModelConfig) -> Any:
    return partial(make_norm, model.head_norm) if model.head_norm else ""
