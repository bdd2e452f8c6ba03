"""What a detection run is made of: frozen sections of plain values.

A component takes its own section. Sizes are pixels, rates are shares of 1, counts are per image
unless a name says otherwise. Where a section holds a value twice a person could set it
inconsistently; such values are derived in ``DetectionConfig.resolved``.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Literal, Self

from msgspec import Meta

from backbones.base.sections import (
    CHOSEN,
    HOW_IT_IS_DONE,
    LATER,
    OUTSIDE_IDENTITY,
    Conflict,
    Recipe,
    Section,
    check,
)
from backbones.base.values import (
    DISTINCT,
    RISING,
    Below1,
    Betas,
    Count,
    CountOrZero,
    Inside01,
    LayersOrNone,
    Name,
    NotNegative,
    Positive,
    PositiveRange,
    Probability,
    Rule,
    Share,
)
from backbones.training.config import Precision, undivided

# Padded sides are multiples of this, the stride of a backbone's coarsest map.
SIZE_DIVISIBILITY = 32
# Of how many blocks the neck reads the tokens, by ``ModelConfig.features``.
FEATURES = {"last": 1, "normed-last": 1, "normed-last4": 4}


def _consecutive(levels: Sequence[int]) -> bool:
    return list(levels) == list(range(levels[0], levels[0] + len(levels)))


_BY_DEPTH = Rule(
    "one for every backbone or three by its depth", lambda values: len(values) in (1, 3)
)
_AtLeastOne = Meta(min_length=1)
Norm = Literal["", "LN", "GN", "BN", "SyncBN"]
Levels = Annotated[tuple[Count, ...], _AtLeastOne, Rule("consecutive", _consecutive)]
Sides = Annotated[tuple[Count, ...], _AtLeastOne]


@dataclass(frozen=True)
class DetectionDataConfig(Section):
    """Which images are trained on, and how they are varied.

    Attributes:
        train_fraction: Share of the training images that is used, chosen by the run's seed.
        keep_empty: Also train on images without objects (detectron2 drops them).
        augmentation: "lsj": scale jitter, then a crop to the square ``img_size`` (ViTDet).
            "multiscale": the short side becomes one of ``short_sides``. "multiscale-crop": half
            of the images so, the others resized to one of ``crop_short_sides``, cropped to sides
            in ``crop_range``, then resized to one of ``short_sides`` (Swin).
        img_size: Side of the square for "lsj", and what tables of positions are made for.
        square: Pad every batch to the square ``img_size``; else only to a multiple of 32.
        scale_range: "lsj": range of the uniform factor on ``img_size``.
        short_sides: "multiscale": what the short side may become.
        max_size: "multiscale": upper bound of the long side.
        crop_short_sides: "multiscale-crop": the short sides before the crop.
        crop_range: "multiscale-crop": smallest and largest side of the crop.
        flip: Probability of a horizontal flip.
    """

    train_fraction: Share = 1.0
    keep_empty: bool = False
    augmentation: Literal["lsj", "multiscale", "multiscale-crop"] = "lsj"
    img_size: Annotated[int, Meta(gt=0, multiple_of=SIZE_DIVISIBILITY)] = 1024
    square: bool = True
    scale_range: PositiveRange = (0.1, 2.0)
    short_sides: Sides = (800,)
    max_size: Count = 1333
    crop_short_sides: Sides = (400, 500, 600)
    crop_range: Annotated[tuple[Count, Count], RISING] = (384, 600)
    flip: Probability = 0.5


@dataclass(frozen=True)
class ModelConfig(Section):
    """The detector around the backbone. Defaults are ViTDet's.

    Values ``by depth`` hold one number for every backbone, or three: for up to 12 layers, up to
    24, and deeper ones (``at_depth``).

    Attributes:
        detector: "mask-rcnn" or "cascade-mask-rcnn"; on data without masks the mask head falls
            away, which leaves Faster or Cascade R-CNN.
        freeze: Which backbone layers keep their weights: "none", "stem", "all", or "first-K" for
            the stem and the first K layers (``frozen_layers``).
        freeze_batchnorm: Backbone BatchNorm uses its stored statistics and is not trained.
        drop_path: Stochastic depth of the backbone, by depth.
        window_size: Plain backbones: side in tokens of attention windows, 0 for global attention.
        relative_positions: Plain backbones: decomposed relative positions in attention.
        global_blocks: Plain backbones: blocks without windows; empty for the last of each quarter.
        tiled_positions: Plain backbones: repeat the table of absolute positions over the image in
            place of interpolating it (Perception Encoder).
        features: What the neck reads of a plain backbone: "last" is the last block's tokens without
            the final norm (ViTDet); "normed-last" with it; "normed-last4" those of the last four
            blocks side by side.
        attention: Chosen when a run is planned, never typed: "own" where a network does not take
            windows and relative positions, "maps" where one of timm's does, "zoo" for networks of
            the zoo. See ``detection.protocols``.
        activation_checkpointing: Recompute backbone activations in the backward pass.
        channels: Channels of the neck's maps and of all convolutions in the heads.
        neck_norm: Normalization in the neck; "" for none.
        head_norm: Normalization in box and mask head; "" for none.
        rpn_levels: Pyramid levels with anchors; level n has stride 2**n.
        roi_levels: Levels that regions are pooled from.
        anchor_scale: Anchor side in units of the level's stride.
        anchor_ratios: Height to width.
        rpn_convs: Hidden convolutions of the region proposal head.
        rpn_samples: Anchors an image in the proposal loss.
        rpn_candidates: Proposals a level before NMS, in training and in testing.
        proposals: Proposals an image after NMS, in training and in testing.
        roi_samples: Regions an image in the box and mask losses.
        sampling_ratio: RoIAlign samples a bin and axis; 0 adapts to the region's size.
        box_convs: Convolutions of the box head.
        box_fcs: Widths of its fully connected layers.
        mask_convs: Convolutions of the mask head before its upsampling.
    """

    detector: Literal["mask-rcnn", "cascade-mask-rcnn"] = "mask-rcnn"
    freeze: Annotated[
        str,
        Meta(
            pattern=r"^(none|stem|all|first-[0-9]+)\Z",
            description='"none", "stem", "all" or "first-K", such as "first-3"',
        ),
    ] = "none"
    freeze_batchnorm: bool = False
    drop_path: Annotated[tuple[Below1, ...], _BY_DEPTH] = (0.1, 0.4, 0.5)
    window_size: CountOrZero = 14
    relative_positions: bool = True
    activation_checkpointing: bool = field(default=False, metadata=HOW_IT_IS_DONE)
    channels: Count = 256
    neck_norm: Norm = "LN"
    head_norm: Norm = "LN"
    rpn_levels: Levels = (2, 3, 4, 5, 6)
    roi_levels: Levels = (2, 3, 4, 5)
    anchor_scale: Positive = 8.0
    anchor_ratios: Annotated[tuple[Positive, ...], _AtLeastOne] = (0.5, 1.0, 2.0)
    rpn_convs: LayersOrNone = 2
    rpn_samples: Count = 256
    rpn_candidates: tuple[Count, Count] = (2000, 1000)
    proposals: tuple[Count, Count] = (1000, 1000)
    roi_samples: Count = 512
    sampling_ratio: CountOrZero = 0
    box_convs: LayersOrNone = 4
    box_fcs: Sides = (1024,)
    mask_convs: LayersOrNone = 4
    global_blocks: Annotated[tuple[CountOrZero, ...], DISTINCT] = field(default=(), metadata=LATER)
    tiled_positions: bool = field(default=False, metadata=LATER)
    features: Literal["last", "normed-last", "normed-last4"] = field(default="last", metadata=LATER)
    attention: Literal["zoo", "own", "maps"] = field(default="zoo", metadata=CHOSEN)

    def conflicts(self) -> Iterator[Conflict]:
        """Yield regions that are pooled from maps that do not exist."""
        if not set(self.roi_levels) <= set(self.rpn_levels):
            yield Conflict("roi_levels", f"levels among model.rpn_levels {list(self.rpn_levels)}")


@dataclass(frozen=True)
class DetectionOptimConfig(Section):
    """The optimizer. Defaults are ViTDet's.

    Attributes:
        optimizer: "adamw" or "sgd".
        base_lr: Learning rate at ``reference_batch_size`` images a step.
        reference_batch_size: Global batch size that ``base_lr`` was chosen for.
        lr_scaling: What another global batch size does to the rate: "none", "linear" or "sqrt".
        betas: Decay rates of AdamW's moments.
        momentum: Momentum of SGD.
        weight_decay: Weight decay of what ``decay_rule`` does not spare.
        decay_rule: "vitdet" spares norm modules of torch and the backbone's ``no_weight_decay``,
            but neither biases nor channel-first norms, as detectron2 does. "names" spares every
            norm and ``no_weight_decay``, as Swin's configs do. "everything" spares nothing
            (ViTDet-H). "weights" spares all vectors (norms, biases) and ``no_weight_decay``.
        layer_decay: Rate factor from one backbone layer to the one below, by depth (see
            ``ModelConfig``); 1 for none.
        clip_norm: Largest global gradient norm; 0 for no clipping.
    """

    optimizer: Literal["adamw", "sgd"] = "adamw"
    base_lr: Positive = 1e-4
    reference_batch_size: Count = 64
    lr_scaling: Literal["none", "linear", "sqrt"] = "none"
    betas: Betas = (0.9, 0.999)
    momentum: Below1 = 0.9
    weight_decay: NotNegative = 0.1
    decay_rule: Literal["vitdet", "names", "everything", "weights"] = "vitdet"
    layer_decay: Annotated[tuple[Share, ...], _BY_DEPTH] = (0.7, 0.8, 0.9)
    clip_norm: NotNegative = 0.0

    @property
    def clip(self) -> str:
        """What ``clip_norm`` bounds, in the words of the training loop."""
        return "global" if self.clip_norm else "none"

    @property
    def spared(self) -> str:
        """What decay spares besides what ``decay_rule`` names."""
        return "nothing"

    @property
    def eps(self) -> float:
        """What AdamW adds to the root of the second moment; torch's value."""
        return 1e-8


@dataclass(frozen=True)
class DetectionScheduleConfig(Section):
    """How long, in which portions and at which precision. Defaults are ViTDet's.

    Attributes:
        epochs: Passes over the training images in use.
        batch_size: Images a step over all devices.
        batch_size_per_device: Images a device holds at once by the recipe, over which losses are
            averaged; gradients accumulate up to ``batch_size``.
        micro_batch: Images that a device really holds at once, which changes no result; 0 chooses:
            as the memory of a GPU allows, else ``batch_size_per_device``.
        decay: "step" or "cosine" (to 0).
        drops: "step": where the rate falls to a tenth, as shares of the run.
        warmup_images: Images over which the rate rises linearly, at most a tenth of the run.
        warmup_factor: Share of the learning rate at the first step.
        precision: "fp32", or "bf16" for autocast.
        checkpoint_images: Images between two saved states, at least one step.
    """

    epochs: Positive = 100.0
    batch_size: Count = 64
    batch_size_per_device: Count = 1
    decay: Literal["step", "cosine"] = "step"
    drops: Annotated[tuple[Inside01, ...], RISING, DISTINCT] = (8 / 9, 26 / 27)
    warmup_images: CountOrZero = 16_000
    warmup_factor: Probability = 1e-3
    precision: Precision = "bf16"
    checkpoint_images: Count = 32_000
    micro_batch: CountOrZero = field(default=0, metadata=OUTSIDE_IDENTITY)

    def conflicts(self) -> Iterator[Conflict]:
        """Yield batches that cannot be divided into what a device holds."""
        yield from undivided(self.batch_size, self.batch_size_per_device, self.micro_batch)

    @property
    def state_images(self) -> int:
        """Images between two saved states, in the word of the training loop."""
        return self.checkpoint_images


@dataclass(frozen=True)
class EvaluationConfig(Section):
    """How detections are made and scored. Defaults are ViTDet's.

    Attributes:
        split: "val", or "train" to see how far a detector fits its own images.
        short_side: Length in pixels that images are resized to on their short side; 0 for
            ``data.img_size``.
        max_size: Largest length in pixels of the long side, which limits the resizing; 0 for
            ``data.img_size``.
        batch_size_per_device: Images a device holds at once.
        score_threshold: Detections with a lower score are dropped.
        nms_threshold: Overlap at which the weaker of two boxes of one class is dropped.
        detections_per_image: Number of highest-scoring detections that are kept.
        every_epochs: Epochs between two evaluations during training, whose APs become curves; 0
            evaluates only at the end. Changes no result.
    """

    split: Literal["train", "val"] = "val"
    short_side: CountOrZero = 0
    max_size: CountOrZero = 0
    batch_size_per_device: Count = 1
    score_threshold: Probability = 0.05
    nms_threshold: Probability = 0.5
    detections_per_image: Count = 100
    every_epochs: NotNegative = field(default=0.0, metadata=OUTSIDE_IDENTITY)


@dataclass(frozen=True)
class DetectionConfig(Recipe):
    """A detection run, except for its backbone, data and seed.

    Attributes:
        protocol: Family, version and variant, for instance "vitdet/v1+100ep"; only results of one
            protocol are compared.
        data: Images and their augmentation.
        model: The detector.
        optim: The optimizer.
        schedule: Length, batches and precision.
        evaluation: Detections and their scoring.
    """

    protocol: Name
    data: DetectionDataConfig = field(default_factory=DetectionDataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    optim: DetectionOptimConfig = field(default_factory=DetectionOptimConfig)
    schedule: DetectionScheduleConfig = field(default_factory=DetectionScheduleConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)

    def resolved(self) -> Self:
        """Return the recipe with derived values filled in.

        Raises:
            UserError: Some values are impossible; names all of them.
        """
        size, evaluation = self.data.img_size, self.evaluation
        derived = replace(
            evaluation,
            short_side=evaluation.short_side or size,
            max_size=evaluation.max_size or size,
        )
        config = replace(self, evaluation=derived)
        check(config)
        return config

    def conflicts(self) -> Iterator[Conflict]:
        """Yield images that are larger than the square that batches are padded to."""
        data, size = self.data, self.data.img_size
        fits = f"a number of at most data.img_size ({size}), or data.square=false"
        if data.square and self.evaluation.max_size > size:
            yield Conflict("evaluation.max_size", fits)
        if data.square and data.augmentation != "lsj" and data.max_size > size:
            yield Conflict("data.max_size", f'{fits}, with data.augmentation "{data.augmentation}"')

    @property
    def padded_square(self) -> int:
        """Side in pixels that every batch is padded to; 0 where batches follow their images."""
        return self.data.img_size if self.data.square else 0


def at_depth(values: tuple[float, ...], num_layers: int) -> float:
    """Return the value for a backbone of ``num_layers`` layers.

    Args:
        values: One for all, or three: up to 12 layers, up to 24, deeper. The bounds are those of
            ViT-B, L and H, and of Swin-T against S and B.
        num_layers: Of the backbone.
    """
    if len(values) == 1:
        return values[0]
    return values[(num_layers > 12) + (num_layers > 24)]


def frozen_layers(freeze: str, num_layers: int) -> int:
    """Return how many layer-decay layers stay frozen, counted from the stem.

    Args:
        freeze: As in ``ModelConfig``.
        num_layers: Layers of the backbone; "all" freezes them, the stem and what follows them.
    """
    fixed = {"none": 0, "stem": 1, "all": num_layers + 2}
    if freeze in fixed:
        return fixed[freeze]
    return min(int(freeze.removeprefix("first-")) + 1, num_layers + 2)
