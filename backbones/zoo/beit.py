"""BEiT's ViT-B (Bao et al. 2022): relative position biases and LayerScale, through timm."""

from typing import TYPE_CHECKING

from backbones.spec import BackboneSpec, BuildOptions

if TYPE_CHECKING:
    from backbones.features import Backbone


def _build(options: BuildOptions) -> "Backbone":
    from backbones.timm_networks.families import build_timm

    return build_timm("beit_base_patch16_224", options)


SPECS = (
    BackboneSpec(
        name="beit-b16",
        build=_build,
        layout="plain",
        strides=(16,),
        channels=(768,),
        num_layers=12,
        windows=True,
        source="Bao et al. 2022, section 3.1; microsoft/unilm beit. SimMIM's ViT-B is the same.",
    ),
)
