"""Backbone + pyramid, forward and backward: ours against detectron2's ViTDet.

::

    python benchmarks/perf/backbone_speed.py                 # 5 rounds of every case
    python benchmarks/perf/backbone_speed.py 9 vit-s-1024    # 9 rounds of one

Both sides have ViTDet's geometry (windows of 14, four global blocks, relative positions, one image
a step). On the CPU detectron2 runs in float32, as it would there, against ours in float32 and,
where the processor multiplies bfloat16, in bfloat16; on a GPU both run in bfloat16.
"""

import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.perf.measure import Candidate, alternate, print_comparison

# Name: embed_dim, heads, image side.
CASES = {"vit-s-1024": (384, 6, 1024), "vit-b-512": (768, 12, 512)}
_LAYERS = 12
_PATCH = 16
_WINDOW = 14  # ViTDet, section 3
_GLOBAL_BLOCKS = (2, 5, 8, 11)
_PYRAMID_CHANNELS = 256
_ROUNDS = 5
_HERE = "benchmarks.perf.backbone_speed"


def main(args: list[str]) -> None:
    """Compare every case, or those named.

    Args:
        args: Number of rounds, then names of cases; both may be left out.
    """
    rounds = int(args[0]) if args else _ROUNDS
    on_gpu = torch.cuda.is_available()
    for case in args[1:] or CASES:
        theirs = "bfloat16" if on_gpu else "float32"
        sides = [
            Candidate(f"ours {dtype}", f"{_HERE}:ours", (case, dtype))
            for dtype in (["bfloat16"] if on_gpu else _cpu_dtypes())
        ]
        sides.append(Candidate(f"detectron2 {theirs}", f"{_HERE}:detectron2", (case, theirs)))
        comparison = alternate(sides, rounds=rounds, dtype=theirs)
        print_comparison(f"{case}, backbone + pyramid", comparison, _gflops(case))


def ours(case: str, dtype: str) -> Callable[[], object]:
    """Return our step."""
    from backbones.spec import BuildOptions
    from backbones.vit.network import VisionTransformer, ViTConfig
    from detection.model.pyramid import SimplePyramid

    embed_dim, heads, size = CASES[case]
    options = BuildOptions(
        img_size=size, window_size=_WINDOW, global_blocks=_GLOBAL_BLOCKS, relative_positions=True
    )
    config = ViTConfig(embed_dim, _LAYERS, heads, patch_size=_PATCH)
    net = VisionTransformer(config, options)
    neck = SimplePyramid(embed_dim, _PATCH, _PYRAMID_CHANNELS, (2, 3, 4, 5, 6), "LN")
    return _step(
        nn.ModuleList([net, neck]),
        lambda images: neck(net.forward_maps(images)[0], size, size),
        size,
        dtype,
    )


def detectron2(case: str, dtype: str) -> Callable[[], object]:
    """Return the step of detectron2's own modules."""
    model = _detectron2_model(case)
    return _step(model, model, CASES[case][2], dtype)


def _detectron2_model(case: str) -> nn.Module:
    from detectron2.modeling.backbone.fpn import LastLevelMaxPool
    from detectron2.modeling.backbone.vit import SimpleFeaturePyramid, ViT

    embed_dim, heads, size = CASES[case]
    vit = ViT(
        img_size=size,
        patch_size=_PATCH,
        embed_dim=embed_dim,
        depth=_LAYERS,
        num_heads=heads,
        norm_layer=partial(nn.LayerNorm, eps=1e-6),
        use_rel_pos=True,
        window_size=_WINDOW,
        window_block_indexes=[i for i in range(_LAYERS) if i not in _GLOBAL_BLOCKS],
    )
    pyramid: nn.Module = SimpleFeaturePyramid(
        vit,
        "last_feat",
        _PYRAMID_CHANNELS,
        scale_factors=(4.0, 2.0, 1.0, 0.5),
        top_block=LastLevelMaxPool(),
        norm="LN",
    )
    return pyramid


def _step(
    model: nn.Module, maps: Callable[[Tensor], dict[str, Tensor]], size: int, dtype: str
) -> Callable[[], object]:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model.to(device)
    images = torch.randn(1, 3, size, size, device=device)
    mixed: Callable[[], AbstractContextManager[object]] = partial(
        torch.autocast, device, torch.bfloat16, enabled=dtype == "bfloat16"
    )

    def step() -> None:
        model.zero_grad()
        with mixed():
            levels = maps(images)
        torch.autograd.backward([level.float().square().mean() for level in levels.values()])

    return step


def _gflops(case: str) -> float:
    """Count detectron2's arithmetic, forward and backward, on shapes alone."""
    size = CASES[case][2]
    model = _detectron2_model(case).to("meta")
    with FlopCounterMode(display=False) as counter:
        levels = model(torch.empty(1, 3, size, size, device="meta"))
        torch.autograd.backward([level.mean() for level in levels.values()])
    return float(counter.get_total_flops()) / 1e9


def _cpu_dtypes() -> list[str]:
    if torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return ["float32", "bfloat16"]
    print("This processor cannot multiply bfloat16; only float32 is measured.")
    return ["float32"]


if __name__ == "__main__":
    main(sys.argv[1:])
