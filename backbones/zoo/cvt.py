"""CvT (Wu et al. 2021), as the paper has it and with EsViT's windows."""

from functools import partial
from typing import TYPE_CHECKING

from backbones.spec import BackboneSpec, BuildOptions
from backbones.staged.config import CvTConfig

if TYPE_CHECKING:
    from backbones.features import Backbone


def _build(config: CvTConfig, options: BuildOptions) -> "Backbone":
    from backbones.staged.cvt import CvT

    return CvT(config, options)


def _cvt(name: str, config: CvTConfig, source: str) -> BackboneSpec:
    return BackboneSpec(
        name=name,
        build=partial(_build, config),
        layout="hierarchical",
        strides=(4, 8, 16, 32)[: len(config.channels)],
        channels=config.channels,
        num_layers=sum(config.depths),
        source=source,
        fresh_params=("*.num_batches_tracked",),
        batch_norm=True,
    )


_PAPER = "Wu et al. 2021, table 2; microsoft/CvT"

SPECS = (
    _cvt(
        "cvt-nano",
        CvTConfig((32, 64, 128, 256), (1, 1, 2, 1), (1, 2, 4, 8), window=4),
        "EsViT's CvT with windows of 4: for two CPU cores",
    ),
    _cvt("cvt-13", CvTConfig((64, 192, 384), (1, 2, 10), (1, 3, 6), class_token=True), _PAPER),
    _cvt("cvt-21", CvTConfig((64, 192, 384), (1, 4, 16), (1, 3, 6), class_token=True), _PAPER),
    _cvt(
        "cvt-t-w7",
        CvTConfig((64, 192, 384, 768), (2, 2, 6, 2), (1, 3, 6, 12), window=7),
        "Li et al. 2022 (EsViT), table 4; microsoft/esvit experiments/imagenet/cvt_v4/s1.yaml",
    ),
)
