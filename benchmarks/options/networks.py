"""Options of the commands that look at networks, weights and the machine."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.flags import flag
from benchmarks.options.bases import WithData, WithPlugins


@dataclass(frozen=True, kw_only=True)
class ExportOptions(WithPlugins):
    """Write weights in the layout of an official project, or the detector of a run."""

    source: Path = flag(
        "weights.safetensors (the backbone) or objective.safetensors (the backbone and the heads) "
        "of a pretraining run; or a finished detection run: entry, run id or its first digits",
        positional=True,
        type=Path,
        metavar="FILE|RUN",
    )
    layout: str = flag(
        "mae, lomar, dino, esvit, mocov3, simmim, swin or timm; for a detection run detectron2, "
        "torchscript or onnx",
        name="format",
        metavar="NAME",
    )
    out: Path = flag("file to write", name="to", type=Path, metavar="FILE")
    runs: Path = flag(
        "folder of runs (default: %(default)s)", default=Path("runs"), name="out", type=Path,
        metavar="DIR")  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class ListOptions(WithPlugins):
    """List suites, entries, recipes and checkpoint formats."""

    what: Sequence[str] = flag(
        "suites, backbones, recipes or formats, or none of these for an overview; other words "
        "filter: `list recipes mae` shows what contains mae, `list mini` everything that "
        "contains mini",
        positional=True,
        nargs="*",
        metavar="WHAT",
    )


@dataclass(frozen=True, kw_only=True)
class CheckOptions(WithPlugins):
    """Test in half a minute that a backbone or a pretraining recipe works."""

    names: Sequence[str] = flag(
        "backbone, timm:NAME or pretraining recipe", positional=True, nargs="+", metavar="NAME"
    )


@dataclass(frozen=True, kw_only=True)
class DoctorOptions(WithData):
    """Report what this machine has and lacks, with the fix."""
