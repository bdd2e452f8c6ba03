"""What a detection run is made of: frozen sections of plain values.

A component takes its own section. Sizes are pixels, rates are shares of 1, counts are per image
unless a name says otherwise. Where a section holds a value twice a person could set it
inconsistently; such values are derived in ``DetectionConfig.resolved``.
"""

from dataclasses import dataclass, field, replace

from backbones.base.errors import UserError
from backbones.base.sections import NEUTRAL
from detection.config_checks import problems


@dataclass(frozen=True)
class DetectionDataConfig:
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

    train_fraction: float = 1.0
    keep_empty: bool = False
    augmentation: str = "lsj"
    img_size: int = 1024
    square: bool = True
    scale_range: tuple[float, float] = (0.1, 2.0)
    short_sides: tuple[int, ...] = (800,)
    max_size: int = 1333
    crop_short_sides: tuple[int, ...] = (400, 500, 600)
    crop_range: tuple[int, int] = (384, 600)
    flip: float = 0.5


@dataclass(frozen=True)
class ModelConfig:
    """The detector round the backbone. Defaults are ViTDet's.

    Values ``by depth`` hold one number for every backbone, or three: for up to 12 layers, up to
    24, and deeper ones (``at_depth``).

    Attributes:
        detector: "mask-rcnn" or "cascade-mask-rcnn"; on data without masks the mask head falls
            away, which leaves Faster or Cascade R-CNN.
        freeze: Which backbone layers keep their weights: "none", "stem", "all", or "first-K" for
            the stem and the first K layers.
        freeze_batchnorm: Backbone BatchNorm uses its stored statistics and is not trained.
        drop_path: Stochastic depth of the backbone, by depth.
        window_size: Plain backbones: side in tokens of attention windows, 0 for global attention.
        relative_positions: Plain backbones: decomposed relative positions in attention.
        activation_checkpointing: Recompute backbone activations in the backward pass.
        channels: Of the neck's maps and of all convolutions in the heads.
        neck_norm: "LN", "GN", "BN", "SyncBN" or "" in the neck.
        head_norm: The same for box and mask head.
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

    detector: str = "mask-rcnn"
    freeze: str = "none"
    freeze_batchnorm: bool = False
    drop_path: tuple[float, ...] = (0.1, 0.4, 0.5)
    window_size: int = 14
    relative_positions: bool = True
    activation_checkpointing: bool = False
    channels: int = 256
    neck_norm: str = "LN"
    head_norm: str = "LN"
    rpn_levels: tuple[int, ...] = (2, 3, 4, 5, 6)
    roi_levels: tuple[int, ...] = (2, 3, 4, 5)
    anchor_scale: float = 8.0
    anchor_ratios: tuple[float, ...] = (0.5, 1.0, 2.0)
    rpn_convs: int = 2
    rpn_samples: int = 256
    rpn_candidates: tuple[int, int] = (2000, 1000)
    proposals: tuple[int, int] = (1000, 1000)
    roi_samples: int = 512
    sampling_ratio: int = 0
    box_convs: int = 4
    box_fcs: tuple[int, ...] = (1024,)
    mask_convs: int = 4


@dataclass(frozen=True)
class DetectionOptimConfig:
    """The optimizer. Defaults are ViTDet's.

    Attributes:
        optimizer: "adamw" or "sgd".
        base_lr: Learning rate at ``reference_batch_size`` images a step.
        reference_batch_size: Global batch size that ``base_lr`` was chosen for.
        lr_scaling: What another global batch size does to the rate: "none", "linear" or "sqrt".
        betas: Of AdamW.
        momentum: Of SGD.
        weight_decay: On what ``decay_rule`` does not spare.
        decay_rule: "vitdet" spares norm modules of torch and the backbone's ``no_weight_decay``,
            but neither biases nor channel-first norms, as detectron2 does. "names" spares every
            norm and ``no_weight_decay``, as Swin's configs do. "everything" spares nothing
            (ViTDet-H). "weights" spares all vectors (norms, biases) and ``no_weight_decay``.
        layer_decay: Rate factor from one backbone layer to the one below, by depth (see
            ``ModelConfig``); 1 for none.
        clip_norm: Largest global gradient norm; 0 for no clipping.
    """

    optimizer: str = "adamw"
    base_lr: float = 1e-4
    reference_batch_size: int = 64
    lr_scaling: str = "none"
    betas: tuple[float, float] = (0.9, 0.999)
    momentum: float = 0.9
    weight_decay: float = 0.1
    decay_rule: str = "vitdet"
    layer_decay: tuple[float, ...] = (0.7, 0.8, 0.9)
    clip_norm: float = 0.0

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
class DetectionScheduleConfig:
    """How long, in which portions and at which precision. Defaults are ViTDet's.

    Attributes:
        epochs: Passes over the training images in use.
        batch_size: Images a step over all devices.
        batch_size_per_device: Images a device holds at once; gradients accumulate up to
            ``batch_size``.
        decay: "step" or "cosine" (to 0).
        drops: "step": where the rate falls to a tenth, as shares of the run.
        warmup_images: Images over which the rate rises linearly, at most a tenth of the run.
        warmup_factor: Of the rate at the first step.
        precision: "fp32", or "bf16" for autocast.
        checkpoint_images: Images between two saved states, at least one step.
    """

    epochs: float = 100.0
    batch_size: int = 64
    batch_size_per_device: int = 1
    decay: str = "step"
    drops: tuple[float, ...] = (8 / 9, 26 / 27)
    warmup_images: int = 16_000
    warmup_factor: float = 1e-3
    precision: str = "bf16"
    checkpoint_images: int = 32_000

    @property
    def state_images(self) -> int:
        """Images between two saved states, in the word of the training loop."""
        return self.checkpoint_images


@dataclass(frozen=True)
class EvaluationConfig:
    """How detections are made and scored. Defaults are ViTDet's.

    Attributes:
        split: "val", or "train" to see how far a detector fits its own images.
        short_side: The short side becomes this, but
        max_size: the long side at most this; 0 in either stands for ``data.img_size``.
        batch_size_per_device: Images a device holds at once.
        score_threshold: Detections below are dropped.
        nms_threshold: Overlap at which the weaker of two boxes of one class is dropped.
        detections_per_image: The best so many are kept.
        every_epochs: Epochs between two evaluations during training, whose APs become curves; 0
            evaluates at the end alone. Changes no result.
    """

    split: str = "val"
    short_side: int = 0
    max_size: int = 0
    batch_size_per_device: int = 1
    score_threshold: float = 0.05
    nms_threshold: float = 0.5
    detections_per_image: int = 100
    every_epochs: float = field(default=0.0, metadata=NEUTRAL)


@dataclass(frozen=True)
class DetectionConfig:
    """All of a detection run but its backbone, data and seed.

    Attributes:
        protocol: Family, version and variant, for instance "vitdet/v1+100ep"; only results of one
            protocol are compared.
        data: Images and their augmentation.
        model: The detector.
        optim: The optimizer.
        schedule: Length, batches and precision.
        evaluation: Detections and their scoring.
    """

    protocol: str
    data: DetectionDataConfig = field(default_factory=DetectionDataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    optim: DetectionOptimConfig = field(default_factory=DetectionOptimConfig)
    schedule: DetectionScheduleConfig = field(default_factory=DetectionScheduleConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)

    def resolved(self) -> "DetectionConfig":
        """Check every value and fill the derived ones in.

        Raises:
            UserError: A value is impossible, alone or beside another; names it.
        """
        size = self.data.img_size
        evaluation = replace(
            self.evaluation,
            short_side=self.evaluation.short_side or size,
            max_size=self.evaluation.max_size or size,
        )
        config = replace(self, evaluation=evaluation)
        for problem in problems(config):
            raise UserError(f"{problem}; change it with --set.")
        return config

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
