"""Options of the commands that record, show and share results."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.flags import count, flag, given, names, share, switch
from benchmarks.options.bases import Anonymous, InFolder, WithData, WithPlugins

if TYPE_CHECKING:
    from benchmarks.plan.plan import Rerun


@dataclass(frozen=True, kw_only=True)
class ScoreOptions(WithData):
    """Score detections that another program wrote, without training anything."""

    files: Sequence[Path] = flag(
        "results files in COCO's format; the files of several seeds of one detector make one row",
        positional=True,
        nargs="+",
        type=Path,
        metavar="RESULTS",
    )
    entry: str = flag("name of the row", name="name", type=given, metavar="NAME")
    boxes_only: bool = switch("score boxes and leave masks out")
    rerun: "Rerun" = flag(
        "which files to score again; each choice includes those before it (default: %(default)s)",
        default="failed",
        choices=("missing", "failed", "stale", "all"),
    )


@dataclass(frozen=True, kw_only=True)
class PredictOptions(WithData, WithPlugins):
    """Use the detector of a finished run on any images."""

    run: str = flag("entry, run id, or the first digits of a run id", positional=True,
                    metavar="RUN")  # fmt: skip
    images: Sequence[str] = flag(
        "image, folder of images, pattern such as 'photos/*.jpg', or text file with a path a line",
        positional=True,
        nargs="+",
        metavar="IMAGES",
    )
    folder: Path = flag(
        "folder for results.json, images.json and pictures", name="to", type=Path, metavar="DIR"
    )
    least_score: float = flag(
        "lowest score that is drawn; results.json has all detections (default: %(default)s)",
        default=0.5,
        type=share,
        metavar="X",
    )
    no_pictures: bool = switch("write no pictures")


@dataclass(frozen=True, kw_only=True)
class CompareOptions(WithData):
    """Test whether one row is better than another, or whether it is chance."""

    names: Sequence[str] = flag(
        "entry, run id, or the first digits of a run id",
        positional=True,
        nargs="+",
        metavar="ROW",
    )
    task: str = flag("task to compare (default: all shared tasks)", default="", metavar="NAME")
    pictures: Path | None = flag(
        "folder for pictures of the images that differ most, with the boxes and masks of each row",
        default=None,
        type=Path,
        metavar="DIR",
    )
    images: int = flag(
        "number of images to draw (default: %(default)s)", default=6, type=count, metavar="N"
    )
    loaded_rates: bool = switch("also give ratios of speeds that other work disturbed")


@dataclass(frozen=True, kw_only=True)
class LeaderboardOptions(Anonymous):
    """Show the tables of a folder of records."""

    format: str = flag(
        "format of the output (default: %(default)s)",
        default="table",
        choices=("table", "markdown", "csv", "latex", "json"),
    )
    html: Path | None = flag(
        "write one page that opens from disk, instead of printing",
        default=None,
        type=Path,
        metavar="FILE",
    )
    readme: Path | None = flag(
        "write the tables, with a figure, between the two markers of a Markdown file",
        default=None,
        type=Path,
        metavar="FILE",
    )
    where: str = flag(
        "show only rows for which this is true: 'seeds >= 3 and backbone ~ vit'",
        default="",
        name="filter",
        metavar="EXPR",
    )
    order: Sequence[str] = flag(
        "columns to sort by: metrics best first, all others ascending; NAME:up and NAME:down "
        "set the direction",
        default=(),
        name="sort",
        type=names,
        metavar="A,B",
    )
    columns: Sequence[str] = flag(
        "columns to show, in this order", default=(), type=names, metavar="A,B"
    )
    caption: str = flag(
        "with --format latex: caption of the table, as LaTeX source (default: what rows share)",
        default="",
        metavar="TEXT",
    )
    label: str = flag(
        "with --format latex: label of the table (default: task and protocol)",
        default="",
        metavar="NAME",
    )
    published: str | None = flag(
        "also show published rows without a measured one; FILE adds those of your own CSV file",
        default=None,
        nargs="?",
        const="",
        metavar="FILE",
    )
    fail_if: str = flag(
        "end with exit code 6 if this is true for a row: 'APbox < baseline - 0.3'",
        default="",
        metavar="EXPR",
    )
    baseline: str = flag(
        "what `baseline` means in --fail-if: an entry, or another folder of runs",
        default="",
        metavar="ENTRY|DIR",
    )
    loaded_rates: bool = switch("let --fail-if and the page use speeds that other work disturbed")


@dataclass(frozen=True, kw_only=True)
class VerifyOptions(InFolder):
    """Check a measured row against its published result."""

    row: str = flag("entry, run id, or id of a published row", positional=True, metavar="ROW")
    published: Path | None = flag(
        "CSV file of your own published rows", default=None, type=Path, metavar="FILE"
    )


@dataclass(frozen=True, kw_only=True)
class BundleOptions(Anonymous):
    """Pack records into one file, which other people can merge."""

    file: Path = flag("zip file to write", positional=True, type=Path, metavar="FILE")


@dataclass(frozen=True, kw_only=True)
class MergeOptions(InFolder):
    """Add the records of a bundle to a folder of runs."""

    file: Path = flag("bundle to read", positional=True, type=Path, metavar="FILE")
    check: bool = switch("only say whether its records can be what they say; write nothing")
