"""Options that several commands share."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.flags import flag, switch


@dataclass(frozen=True, kw_only=True)
class CommandOptions:
    """What every command takes."""

    json: bool = switch("print one JSON document on stdout")


@dataclass(frozen=True, kw_only=True)
class InFolder(CommandOptions):
    """Options of a command on a folder of runs."""

    out: Path = flag(
        "folder of runs (default: %(default)s)", default=Path("runs"), type=Path, metavar="DIR"
    )


@dataclass(frozen=True, kw_only=True)
class WithPlugins(CommandOptions):
    """Options of a command that knows backbones."""

    plugins: Path | None = flag(
        "folder of additional backbones", default=None, type=Path, metavar="DIR"
    )


@dataclass(frozen=True, kw_only=True)
class WithData(InFolder):
    """Options of a command that reads data sets."""

    data: Sequence[str] = flag(
        "coco=DIR, images=PATH, imagenet=DIR or NAME=PATH for your own; repeatable; in run also "
        "several of your own, or sets.toml (default: $DETECTRON2_DATASETS and $IMAGENET_DIR where "
        "set, otherwise the embedded mini data)",
        default=[],
        action="append",
        metavar="KIND=DIR",
    )


@dataclass(frozen=True, kw_only=True)
class Anonymous(InFolder):
    """Options of a command that makes something for other people."""

    anonymous: bool = switch("leave out host names, user names and paths")
