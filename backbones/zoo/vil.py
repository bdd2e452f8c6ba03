"""Vision Longformer (Zhang et al. 2021), with relative positions."""

from functools import partial
from typing import TYPE_CHECKING

from backbones.spec import BackboneSpec, BuildOptions
from backbones.staged.config import ViLConfig

if TYPE_CHECKING:
    from backbones.features import Backbone


def _build(config: ViLConfig, options: BuildOptions) -> "Backbone":
    from backbones.staged.vil import ViL

    return ViL(config, options)


def _vil(name: str, config: ViLConfig, source: str) -> BackboneSpec:
    return BackboneSpec(
        name=name,
        build=partial(_build, config),
        layout="hierarchical",
        strides=(4, 8, 16, 32),
        channels=config.channels,
        num_layers=sum(config.depths),
        source=source,
    )


SPECS = (
    _vil(
        "vil-nano",
        ViLConfig(
            (32, 64, 128, 256), (1, 1, 2, 1), (1, 2, 4, 8), (1, 1, 1, 0), (8, 8, 8, 4), window=4
        ),
        "ViL with chunks of 4: for two CPU cores",
    ),
    # In its last stage at 224 pixels, all tokens are in one chunk: hence the smaller table.
    _vil(
        "vil-2262",
        ViLConfig((96, 192, 384, 768), (2, 2, 6, 2), (3, 6, 12, 24), (1, 1, 1, 0), (14, 14, 14, 7)),
        "Li et al. 2022 (EsViT), table 4; microsoft/esvit README, --arch vil_2262",
    ),
)
