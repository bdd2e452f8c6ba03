"""What may be typed after each command, a dataclass each.

The first line of a command's docstring is its help. A new flag is a deliberate edit in
``tests/benchmarks/commands/command_line.txt`` too.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from benchmarks.flags import count, flag, given, names, pieces, seeds, switch

if TYPE_CHECKING:
    from benchmarks.plan.plan import Rerun


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
        "coco=DIR, images=PATH, imagenet=DIR or NAME=PATH for your own; repeatable (default: "
        "$DETECTRON2_DATASETS and $IMAGENET_DIR where set, otherwise the embedded mini data)",
        default=[],
        action="append",
        metavar="KIND=DIR",
    )


@dataclass(frozen=True, kw_only=True)
class HowToRun(InFolder):
    """Options of a command that executes runs.

    Attributes:
        rerun: What is run although there is something of it; "all" drops what is there.
    """

    rerun: "Rerun" = "failed"
    executor: str = flag(
        "inline: one run at a time; local: several runs at a time on this machine, one per GPU or "
        "core; slurm: job arrays; print: a script for other schedulers (default: inline with GPUs, "
        "local without)",
        default="",
        choices=("inline", "local", "slurm", "print"),
    )
    jobs: int | None = flag(
        "with local: number of runs at a time (default: one per GPU, or per core without GPUs)",
        default=None,
        type=count,
        metavar="N",
    )
    processes: int | None = flag(
        "with local: number of processes of one run, each with a GPU of its own (default: 1)",
        default=None,
        type=count,
        metavar="N",
    )
    cluster: str = flag("with slurm: profile clusters/NAME.toml", default="", metavar="NAME")
    max_parallel: int | None = flag(
        "with slurm: number of runs of an array at a time (default: no limit)",
        default=None,
        type=count,
        metavar="N",
    )
    wait: bool = switch(
        "with slurm: where a limit on submitted jobs is reached, submit the rest later"
    )
    track: str = flag(
        "experiment tracker that progress is sent to, in addition to TensorBoard's files",
        default="",
        choices=("wandb", "mlflow"),
    )
    dry_run: bool = switch("show the plan and its cost, run nothing")


@dataclass(frozen=True, kw_only=True)
class HowToPlan(HowToRun, WithData, WithPlugins):
    """Options of a command that plans runs."""

    overrides: Sequence[str] = flag(
        "change one value of the recipe, which adds +custom to the protocol; repeatable",
        default=[],
        name="set",
        action="append",
        metavar="KEY=VALUE",
    )
    seeds: Sequence[int] = flag(
        "number of seeds (3 means 0,1,2) or a list (5,7; a single seed is 5,) (default: 1)",
        default=(0,),
        type=seeds,
        metavar="N|A,B",
    )
    rerun: "Rerun" = flag(
        "which runs to do again; each choice includes those before it (default: %(default)s)",
        default="failed",
        choices=("missing", "failed", "stale", "all"),
    )
    limit_images: int | None = flag(
        "use N images of each split, for trying out (default: all)",
        default=None,
        type=count,
        metavar="N",
    )


@dataclass(frozen=True, kw_only=True)
class Anonymous(InFolder):
    """Options of a command that makes something for other people."""

    anonymous: bool = switch("leave out host names, user names and paths")


@dataclass(frozen=True, kw_only=True)
class RunOptions(HowToPlan):
    """Plan, run, record, and show the leaderboard (default)."""

    suite: str = flag(
        "suite of tasks (default: coco, or the first suite that has all --tasks)",
        default="",
        metavar="NAME",
    )
    tasks: Sequence[str] = flag(
        "tasks of the suite; `run.py list` names them (default: all)",
        default=[],
        type=pieces,
        metavar="A,B",
    )
    entries: Sequence[str] = flag(
        "NAME or random:NAME (fresh), timm:NAME, hf:OWNER/NAME, tv:NAME, ckpt:FILE?arch=NAME, a "
        "pretraining RECIPE (run first), or a group of `run.py list` (default: the suite's)",
        default=[],
        type=pieces,
        metavar="A,B",
    )
    recipe: str | None = flag(
        "recipe of the task (default: fits the backbone)", default=None, metavar="NAME"
    )
    evaluator: str = flag(
        "evaluation engine (default: the task's first)", default="", metavar="NAME"
    )


@dataclass(frozen=True, kw_only=True)
class PretrainOptions(HowToPlan):
    """Run one pretraining recipe, which produces a checkpoint."""

    recipe: str = flag("pretraining recipe; `run.py list` names them", positional=True,
                       metavar="RECIPE")  # fmt: skip
    arch: str = flag("backbone (default: the recipe's)", default="", metavar="NAME")
    init_from: str | None = flag(
        "initial weights: objective.safetensors of an earlier run, an official full checkpoint, or "
        "an encoder's: any file, or timm:NAME, tv:NAME, hf:OWNER/NAME, ckpt:PATH?OPTIONS",
        default=None, type=given, metavar="SOURCE")  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class ExportOptions(WithPlugins):
    """Write weights in the layout of an official project."""

    source: Path = flag(
        "weights.safetensors (the backbone) or objective.safetensors (the backbone and the heads) "
        "of a pretraining run",
        positional=True,
        type=Path,
        metavar="FILE",
    )
    layout: str = flag(
        "mae, lomar, dino, esvit, mocov3, simmim, swin or timm", name="format", metavar="NAME"
    )
    out: Path = flag("file to write, for torch.load", name="to", type=Path, metavar="FILE")


@dataclass(frozen=True, kw_only=True)
class ListOptions(WithPlugins):
    """List suites, entries, recipes and checkpoint formats."""

    what: Sequence[str] = flag(
        "suites, backbones, recipes or formats", positional=True, nargs="*", metavar="WHAT"
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


@dataclass(frozen=True, kw_only=True)
class LeaderboardOptions(Anonymous):
    """Show the tables of a folder of records."""

    format: str = flag(
        "format of the output (default: %(default)s)",
        default="table",
        choices=("table", "markdown", "csv", "latex", "json"),
    )
    html: Path | None = flag(
        "write one page that opens from disk", default=None, type=Path, metavar="FILE"
    )
    readme: Path | None = flag(
        "write the tables between markers of a file", default=None, type=Path, metavar="FILE"
    )
    where: str = flag(
        "show only rows for which this is true: 'seeds >= 3 and backbone ~ vit'",
        default="",
        name="filter",
        metavar="EXPR",
    )
    order: Sequence[str] = flag(
        "columns to sort by: metrics best first, others ascending; NAME:up or NAME:down changes it",
        default=(),
        name="sort",
        type=names,
        metavar="A,B",
    )
    columns: Sequence[str] = flag(
        "columns to show, in this order", default=(), type=names, metavar="A,B"
    )
    published: str | None = flag(
        "also show published rows without a measured one; FILE adds those of your own CSV file",
        default=None,
        nargs="?",
        const="",
        metavar="FILE",
    )
    fail_if: str = flag(
        "end with exit code 6 if true for a row: 'APbox < baseline - 0.3'",
        default="",
        metavar="EXPR",
    )
    baseline: str = flag(
        "`baseline` in --fail-if: an entry or another folder", default="", metavar="ENTRY|DIR"
    )


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


@dataclass(frozen=True, kw_only=True)
class StatusOptions(InFolder):
    """Show the state of every run."""


@dataclass(frozen=True, kw_only=True)
class WatchOptions(InFolder):
    """Show the state of every run until no run is at work or queued."""

    every: int = flag(
        "seconds between updates (default: %(default)s)", default=5, type=count, metavar="SECONDS"
    )


@dataclass(frozen=True, kw_only=True)
class LogsOptions(InFolder):
    """Show how the attempts of a run ended, and the end of its log."""

    run: str = flag("run id, or its first digits", positional=True, metavar="ID")
    lines: int = flag("number of lines (default: %(default)s)", default=30, type=count, metavar="N")


@dataclass(frozen=True, kw_only=True)
class CancelOptions(InFolder):
    """Take runs out of Slurm's queue; they save their state and can be resumed."""

    runs: Sequence[str] = flag(
        "run id, or its first digits", positional=True, nargs="*", metavar="ID"
    )
    all: bool = switch("cancel every run of the folder")


@dataclass(frozen=True, kw_only=True)
class RetryOptions(HowToRun):
    """Run again what failed or did not finish."""

    runs: Sequence[str] = flag(
        "run id, or its first digits (default: every run that is not done)",
        positional=True,
        nargs="*",
        metavar="ID",
    )
    failed: bool = switch("only runs that failed")


@dataclass(frozen=True, kw_only=True)
class RecoverOptions(InFolder):
    """Find the Slurm jobs of a submission that was interrupted."""


@dataclass(frozen=True, kw_only=True)
class ClusterOptions(InFolder):
    """Draft or test the profile of a cluster."""

    action: Literal["init", "test"] = flag(
        "draft the profile, or submit a test job", positional=True, choices=("init", "test")
    )
    name: str = flag("profile clusters/NAME.toml", positional=True, metavar="NAME")


COMMANDS: Mapping[str, type[CommandOptions]] = {
    "run": RunOptions,
    "pretrain": PretrainOptions,
    "export": ExportOptions,
    "list": ListOptions,
    "check": CheckOptions,
    "doctor": DoctorOptions,
    "compare": CompareOptions,
    "leaderboard": LeaderboardOptions,
    "verify": VerifyOptions,
    "bundle": BundleOptions,
    "merge": MergeOptions,
    "status": StatusOptions,
    "watch": WatchOptions,
    "logs": LogsOptions,
    "cancel": CancelOptions,
    "retry": RetryOptions,
    "recover": RecoverOptions,
    "cluster": ClusterOptions,
}

# Former names of commands, which still work.
ALIASES: Mapping[str, str] = {"adopt": "recover"}
