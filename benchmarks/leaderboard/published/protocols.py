"""Rules of published figures that are not our protocols, and what is nearest to them."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Foreign:
    """Rules that no recipe of ours follows.

    Attributes:
        about: What they are, with their source.
        nearest: Our protocols that come nearest, one of each length; empty for none.
        differences: What it does otherwise; empty without one.
        facts: About its detector, as far as the source says, by name as records keep them.
    """

    about: str
    nearest: tuple[str, ...] = ()
    differences: str = ""
    facts: Mapping[str, str] = field(default_factory=dict)


_LI = (
    "neck is a simple feature pyramid from the last map (there FPN over four taps), LayerNorm "
    "(there SyncBN)"
)
_MMDET = "mmdetection in place of detectron2"
_GLOBAL = {"attention": "global in all blocks"}
_POSITIONS = "global attention in every block, positions interpolated image by image"

# By the protocol's name without its length.
FOREIGN: dict[str, Foreign] = {
    "li-2021": Foreign(
        "Li et al. 2021, Benchmarking Detection Transfer: Mask R-CNN, FPN, LSJ 1024",
        ("benchmarking-vit-sfp/v1+25ep", "benchmarking-vit-sfp/v1+100ep"),
        _LI,
    ),
    "li-2021-replica": Foreign(
        "hustvl/MIMDet's replication of Li et al. 2021, also used by ConvMAE",
        ("benchmarking-vit-sfp/v1+25ep", "benchmarking-vit-sfp/v1+100ep"),
        _LI,
    ),
    "mimdet": Foreign("hustvl/MIMDet: convolutional stem, partial tokens, multi-scale, 3x"),
    "vitdet-mmdet": Foreign("ViTDet in mmdetection", ("vitdet/v1+100ep",), _MMDET),
    "vitdet-cascade": Foreign("detectron2 projects/ViTDet: ViT-H with Cascade Mask R-CNN"),
    "vitdet-mvit": Foreign("detectron2 projects/ViTDet, MViTv2 with Cascade Mask R-CNN"),
    "vitdet-pe-spatial": Foreign(
        "facebookresearch/perception_models apps/detection: Mask R-CNN on PE spatial, 36 epochs",
        ("vitdet-pe/v1+75ep",),
        "36 epochs in place of 75",
    ),
    "vitdet-eva02": Foreign(
        "baaivision/EVA EVA-02/det: ViTDet with Cascade Mask R-CNN, LSJ 1024, 60,000 steps"
    ),
    "vit-adapter": Foreign("czczup/ViT-Adapter: an adapter beside the ViT, mmdetection"),
    "cae-mmdet": Foreign(
        "Atten4Vis/CAE: Mask R-CNN with SyncBN heads in mmdetection, 1x multi-scale; " + _POSITIONS,
        facts=_GLOBAL,
    ),
    "ibot-cascade": Foreign(
        "bytedance/ibot: Cascade Mask R-CNN in mmdetection, 1x multi-scale; " + _POSITIONS,
        facts=_GLOBAL,
    ),
    "swin-mmdet-cascade": Foreign(
        "Swin-Transformer-Object-Detection: Cascade Mask R-CNN, SyncBN heads, GIoU loss",
        ("swin-mmdet/v1+3x+cascade",),
        "heads without SyncBN, smooth L1 in place of GIoU",
    ),
    "swin-mmdet-single-scale": Foreign("mmdetection: Swin-T, Mask R-CNN, 1x, one scale"),
    "detectron2-lsj": Foreign("detectron2 MODEL_ZOO, new baselines: from scratch, LSJ, SyncBN"),
    "mmselfsup-r50-fpn": Foreign(
        "open-mmlab/mmselfsup: Mask R-CNN R50-FPN 1x in mmdetection",
        ("detectron2-fpn/v1+1x",),
        _MMDET,
    ),
    "mask-rcnn-unstated": Foreign("Mask R-CNN whose further settings the source does not state"),
    "knn-mean": Foreign("k-NN on the mean of the patch tokens, microsoft/unilm issue #419"),
    "knn-radio": Foreign("NVlabs/RADIO: k-NN on the summary token at each network's own size"),
    "knn-dinov3": Foreign("facebookresearch/dinov3 dinov3/eval/knn.py"),
    "linear-dinov3": Foreign("facebookresearch/dinov3: linear evaluation"),
    "linear-dino-other": Foreign(
        "facebookresearch/dino eval_linear.py on ResNet-50 and XCiT", ("linear-dino/v1",),
        "the last four class tokens, which these networks do not have",
    ),
    "linear-esvit-resnet": Foreign(
        "microsoft/esvit eval_linear.py on ResNet-50", ("linear-esvit/v1",),
        "features of the last four blocks, which a ResNet does not have",
    ),
    "linear-mocov3-resnet": Foreign(
        "facebookresearch/moco-v3 main_lincls.py on ResNet-50", ("linear-mocov3/v1",),
        "the class token, which a ResNet does not have",
    ),
    "linear-moby": Foreign("SwinTransformer/Transformer-SSL: linear evaluation of MoBY"),
    "linear-ibot": Foreign("bytedance/ibot: linear evaluation over rates and features"),
    "linear-cae": Foreign("Atten4Vis/CAE: linear evaluation"),
    "linear-swav": Foreign("facebookresearch/swav eval_linear.py on ResNet-50"),
    "linear-mmselfsup": Foreign(
        "open-mmlab/mmselfsup: linear evaluation of its own weights", ("linear-mae/v1",),
        "class token, BatchNorm and LARS as facebookresearch/mae has them",
    ),
    "linear-unstated": Foreign("a linear probe whose settings the source does not state"),
    "finetune-simmim": Foreign(
        "microsoft/SimMIM and Swin-Transformer MODELHUB: other lengths and SwinV2 networks",
        ("finetune-swin-b/v1",),
        "the settings of Swin-B after 800 epochs",
    ),
    "finetune-mmselfsup": Foreign("open-mmlab/mmselfsup: fine-tuning of its own weights"),
    "finetune-hiera": Foreign("facebookresearch/hiera: fine-tuning after MAE"),
    "finetune-convnextv2": Foreign("facebookresearch/ConvNeXt-V2 TRAINING.md: after FCMAE"),
    "finetune-beit": Foreign("microsoft/unilm beit: end-to-end fine-tuning, layer decay, EMA"),
    "finetune-ibot": Foreign("bytedance/ibot: BEiT's fine-tuning with other rates"),
    "finetune-cae": Foreign("Atten4Vis/CAE: BEiT's fine-tuning"),
    "finetune-deit": Foreign("facebookresearch/moco-v3: DeiT's recipe, 150 epochs for ViT-B"),
    "finetune-unstated": Foreign("fine-tuning whose settings the source does not state"),
    "supervised-training": Foreign("trained from labels, tested as it is; nothing is fine-tuned"),
}  # fmt: skip


# Facts of detectors under our protocols whose networks have no recipe here, as their sources state
# them: perception_models apps/detection/projects/ViTDet/configs/COCO/mask_rcnn_PEcore_G_coco75ep.py
# and detectron2_pe/modeling/backbone/pev1_det.py, where patches of 14 are resized to 16.
STATED: dict[str, Mapping[str, str]] = {
    "vitdet-pe/v1+75ep": {
        "attention": "windows of 32 in 46 blocks, global in 12, 24, 36, 49",
        "relative positions": "rotary",
        "patches": "16 pixels",
        "neck reads": "last block, no final norm",
    },
}


def foreign(protocol: str) -> Foreign | None:
    """Return what a published protocol is, None for one of our own."""
    return FOREIGN.get(protocol.partition("+")[0])


def nearest(protocol: str) -> str:
    """Return our protocol nearest to a published one: itself, or what stands in for it.

    Args:
        protocol: As in ``figures.csv``.
    """
    found = foreign(protocol)
    if found is None:
        return protocol
    length = protocol.partition("+")[2]
    same = [ours for ours in found.nearest if f"+{length}" in ours]
    return next(iter(same or found.nearest), "")
