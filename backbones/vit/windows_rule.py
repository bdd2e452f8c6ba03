"""Which blocks of a plain ViT attend globally, by ViTDet's rule; imports no torch."""

from collections.abc import Sequence

from backbones.base.errors import UserError
from backbones.spec import BuildOptions


def global_blocks(num_layers: int, options: BuildOptions) -> tuple[int, ...]:
    """Return the blocks without windows; by default the last of each quarter.

    Args:
        num_layers: Blocks of the network.
        options: May name the blocks.

    Raises:
        UserError: A named block does not exist.
    """
    if options.global_blocks:
        if not set(options.global_blocks) <= set(range(num_layers)):
            raise UserError(
                f"global_blocks {options.global_blocks}: blocks are 0 to {num_layers - 1}."
            )
        return options.global_blocks
    return tuple(num_layers * quarter // 4 - 1 for quarter in (1, 2, 3, 4))


def attention_in_words(windows: Sequence[int]) -> str:
    """Return how the blocks of a plain ViT attend, as records keep it.

    Args:
        windows: Window side of each block in tokens, 0 for global attention.
    """
    sides = sorted({window for window in windows if window})
    everywhere = [index for index, window in enumerate(windows) if not window]
    if not sides:
        return "global in all blocks"
    inside = (
        f"windows of {' and '.join(map(str, sides))} in {len(windows) - len(everywhere)} blocks"
    )
    return f"{inside}, global in {', '.join(map(str, everywhere)) or 'none'}"


def shifts_in_words(stages: Sequence[Sequence[tuple[int, int]]]) -> str:
    """Return the windows of a Swin, as records keep them.

    Args:
        stages: Window side and shift of each block in tokens, stage by stage.
    """
    texts = []
    for stage in stages:
        sides = " and ".join(str(side) for side in sorted({side for side, _ in stage}))
        shifted = [shift for _, shift in stage if shift]
        by = f", shifted by {shifted[0]} in {len(shifted)}" if shifted else ", not shifted"
        texts.append(f"{sides} in {len(stage)} blocks{by}")
    return "; ".join(texts)
