"""What is known of a backbone before it is built."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from backbones.vit.positions_rule import BICUBIC, PositionRule

if TYPE_CHECKING:
    from backbones.features import Backbone

Layout = Literal["plain", "hierarchical"]

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class BuildOptions:
    """How a use of a backbone may vary it; a backbone ignores what it has no notion of.

    Attributes:
        img_size: Side in pixels that tables of absolute or relative positions are made for; any
            other size still runs, by interpolation.
        drop_path: Rate of stochastic depth at the last block, rising linearly from 0.
        window_size: Plain layout only: side in tokens of the attention windows; 0 attends globally
            in every block.
        global_blocks: Plain layout only: with windows, the blocks that still attend globally;
            empty means the last block of each quarter (ViTDet, section 3).
        relative_positions: Plain layout only: adds decomposed relative positions to attention,
            zero-initialised, hence fresh parameters, unless the network brings relative positions
            of its own (rotary, bias tables or MLPs, iRPE).
        tile_positions: Plain layout only: absolute positions are repeated over a larger grid in
            place of being interpolated to it.
        keep_windows: Swin only: windows keep their size on maps that are smaller, which are padded,
            and every second block shifts them, as in detectors (detectron2 and
            Swin-Transformer-Object-Detection); without it, windows shrink to such maps and do not
            shift, as in classifiers.
    """

    img_size: int = 224
    drop_path: float = 0.0
    window_size: int = 0
    global_blocks: tuple[int, ...] = ()
    relative_positions: bool = False
    tile_positions: bool = False
    keep_windows: bool = False


@dataclass(frozen=True)
class PackagedWeights:
    """Weights that an installed Python package carries, so that no download is needed to use them.

    Attributes:
        package: Name and version as pip takes them, ``NAME==VERSION``.
        file: The weights file, from the package's own folder on.
        sha256: Of its bytes.
        format: Key layout, see ``backbones.weights.formats``.
        method: What made the weights.
        data: What they were made from.
        img_size: Side in pixels of the images they were made with.
        licence: Under which the weights may be used.
    """

    package: str
    file: str
    sha256: str
    format: str
    method: str
    data: str
    img_size: int
    licence: str


@dataclass(frozen=True)
class BackboneSpec:
    """A backbone's name card; a file in ``backbones/zoo/`` that holds one registers it.

    Attributes:
        name: As typed on the command line.
        build: Makes the network with fresh weights; draws only from torch's global generator.
        layout: "plain" has one stride, "hierarchical" several.
        strides: Of the maps, finest first.
        channels: Of the maps.
        num_layers: Layer-decay layers, see ``Backbone.layer_id``.
        fresh_params: Shell patterns of parameters that a checkpoint need not hold; they start
            fresh, everything else missing is an error.
        mean: Per-channel mean of the images, RGB on the scale 0 to 1.
        std: Per-channel standard deviation, likewise.
        img_size: Side in pixels of the images that the network was designed for.
        fixed_size: Whether it runs only at the square size that it is built for
            (``BuildOptions.img_size``), unless it is built with windows.
        runs_at: Of a network of fixed size: takes a side in pixels, returns whether the network
            can be built for it; None where nobody can tell.
        windows: Plain layout only: whether it heeds ``BuildOptions.window_size`` and
            ``relative_positions``.
        own_window: Plain layout only: side of the windows that its design fixes; 0 for none.
        position_table: Plain layout only: whether it adds a table of absolute positions.
        position_rule: How it resizes that table, unless its weights were trained by another rule.
        swin_stages: Swin only: window side in tokens and number of blocks of each stage, by design.
        timm_layers: Number of layers by timm's own grouping of parameters, where that is another
            than ours (``timm_networks.layers``); 0 where both are the same.
        one_drop_rate: Whether timm gives all blocks one rate of stochastic depth; here it rises, as
            ``BuildOptions.drop_path`` says.
        batch_norm: Whether it has batch norms, whose statistics in training are those of the images
            that are held at once.
        source: Where the architecture comes from: paper and reference implementation.
        weights: What the name alone means, where a package has it; fresh weights without.
        file_sha256: Of the file that defines a plug-in, set where it is read; empty for others.
    """

    name: str
    build: Callable[[BuildOptions], "Backbone"]
    layout: Layout
    strides: tuple[int, ...]
    channels: tuple[int, ...]
    num_layers: int
    source: str
    fresh_params: tuple[str, ...] = ()
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    weights: PackagedWeights | None = None
    file_sha256: str = ""
    img_size: int = 224
    fixed_size: bool = False
    runs_at: Callable[[int], bool] | None = None
    windows: bool = False
    own_window: int = 0
    position_table: bool = False
    position_rule: PositionRule = BICUBIC
    swin_stages: tuple[tuple[int, int], ...] = ()
    timm_layers: int = 0
    one_drop_rate: bool = False
    batch_norm: bool = False
