"""CvT (Wu et al. 2021, "CvT: Introducing Convolutions to Vision Transformers")."""

from timm.layers import QuickGELU
from torch import nn
from torch.nn.init import trunc_normal_

from backbones.spec import BuildOptions
from backbones.staged.backbone import Embedding, Stage, StagedBackbone, StagedBlock, drop_path_rates
from backbones.staged.config import CvTConfig
from backbones.staged.conv_attention import ConvAttention, WindowConvAttention

_EPS = 1e-5  # microsoft/CvT and microsoft/esvit alike
_STD = 0.02
# Kernel, stride and padding of the first and of later embeddings: Wu et al. 2021, table 2.
_FIRST, _LATER = (7, 4, 2), (3, 2, 1)


class CvT(StagedBackbone):
    """CvT, with the paper's attention or with EsViT's windows.

    It has no positions: the convolutions carry them, so that any image size runs as it is.
    """

    def __init__(self, config: CvTConfig, options: BuildOptions) -> None:
        """Build the network with fresh weights."""
        rates = drop_path_rates(options.drop_path, config.depths)
        super().__init__([_stage(config, i, rates[i]) for i in range(len(rates))], _EPS)
        # microsoft/esvit draws convolutions as it draws linear layers, microsoft/CvT does not.
        drawn = (nn.Linear, nn.Conv2d) if config.window else (nn.Linear,)
        for module in self.modules():
            if isinstance(module, drawn):
                trunc_normal_(module.weight, std=_STD)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        for stage in self._stages():
            if stage.prefix is not None:
                trunc_normal_(stage.prefix, std=_STD)


def _stage(config: CvTConfig, index: int, rates: list[float]) -> Stage:
    channels, num_heads = config.channels[index], config.num_heads[index]
    before = config.channels[index - 1] if index else 3
    num_prefix = int(config.class_token and index == len(config.channels) - 1)

    def attention() -> nn.Module:
        if config.window:
            return WindowConvAttention(channels, num_heads, config.window)
        return ConvAttention(channels, num_heads, num_prefix)

    activation = QuickGELU if config.quick_gelu else nn.GELU
    blocks = [StagedBlock(channels, attention(), rate, _EPS, activation) for rate in rates]
    embed = Embedding(before, channels, *(_LATER if index else _FIRST), eps=_EPS)
    return Stage(embed, blocks, num_prefix)
