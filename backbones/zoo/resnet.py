"""ResNets (He et al. 2016), through timm."""

from functools import partial
from typing import TYPE_CHECKING, Any

from backbones.spec import BackboneSpec, BuildOptions

if TYPE_CHECKING:
    from backbones.features import Backbone


def _build(timm_name: str, arguments: dict[str, Any], options: BuildOptions) -> "Backbone":
    from backbones.timm_networks.families import build_timm

    return build_timm(timm_name, options, **arguments)


def _resnet(name: str, timm_name: str, width: int, source: str, **arguments: Any) -> BackboneSpec:
    return BackboneSpec(
        name=name,
        build=partial(_build, timm_name, arguments),
        layout="hierarchical",
        strides=(4, 8, 16, 32),
        channels=(width, 2 * width, 4 * width, 8 * width),
        num_layers=4,
        source=source,
        fresh_params=("*.num_batches_tracked",),
        batch_norm=True,
    )


SPECS = (
    _resnet(
        "resnet-nano",
        "resnet10t",
        32,
        "timm's resnet10t, one basic block a stage, at half its width: for two CPU cores",
        channels=(32, 64, 128, 256),
        stem_width=16,
    ),
    _resnet("resnet50", "resnet50", 256, "He et al. 2016, table 1; torchvision's variant (v1.5)"),
)
