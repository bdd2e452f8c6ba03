"""Vision Longformer (Zhang et al. 2021, "Multi-Scale Vision Longformer …"), relative positions."""

from torch import nn
from torch.nn.init import trunc_normal_

from backbones.spec import BuildOptions
from backbones.staged.backbone import Embedding, Stage, StagedBackbone, StagedBlock, drop_path_rates
from backbones.staged.config import ViLConfig
from backbones.staged.sliding_attention import SlidingAttention

_EPS = 1e-6  # microsoft/vision-longformer src/config/msvit.yaml, microsoft/esvit experiments
_STD = 0.02
_FIRST_PATCH, _LATER_PATCH = 4, 2


class ViL(StagedBackbone):
    """Vision Longformer with relative positions; each stage brings global tokens of its own.

    Attention slides over chunks in every stage. At up to 224 pixels that is full attention in the
    last two, exactly as the authors build them; on larger images it stays linear in the number of
    patches, where the authors' code interpolates the bias of each pair of patches.
    """

    def __init__(self, config: ViLConfig, options: BuildOptions) -> None:
        """Build the network with fresh weights."""
        rates = drop_path_rates(options.drop_path, config.depths)
        super().__init__([_stage(config, i, rates[i]) for i in range(len(rates))], _EPS)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                trunc_normal_(module.weight, std=_STD)
                nn.init.zeros_(module.bias)
        for name, parameter in self.named_parameters():
            if name in self.no_weight_decay():
                trunc_normal_(parameter, std=_STD)


def _stage(config: ViLConfig, index: int, rates: list[float]) -> Stage:
    channels, num_heads = config.channels[index], config.num_heads[index]
    before = config.channels[index - 1] if index else 3
    patch = _LATER_PATCH if index else _FIRST_PATCH
    num_global = config.num_global[index]

    def attention() -> nn.Module:
        return SlidingAttention(channels, num_heads, num_global, config.window, config.reach[index])

    blocks = [StagedBlock(channels, attention(), rate, _EPS) for rate in rates]
    return Stage(Embedding(before, channels, patch, patch, 0, _EPS), blocks, num_global)
