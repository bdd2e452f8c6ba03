"""Options of the commands that plan, execute and follow runs."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from benchmarks.flags import count, flag, given, pieces, seconds, seeds, switch
from benchmarks.options.bases import InFolder, WithData, WithPlugins

if TYPE_CHECKING:
    from benchmarks.plan.plan import Rerun


@dataclass(frozen=True, kw_only=True)
class HowToRun(InFolder):
    """Options of a command that executes runs.

    Attributes:
        rerun: What is run although there is something of it; "all" drops what is there.
    """

    rerun: "Rerun" = "failed"
    executor: str = flag(
        "inline: one run at a time; local: several runs at a time on this machine, one per GPU or "
        "core; slurm: job arrays; print: a script for other schedulers (default: local, or inline "
        "with a single GPU)",
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
    workers: int | None = flag(
        "loader processes of each process of a run (default: its cores except one on a GPU, at "
        "most 16; a quarter of them on the CPU, at most 4)",
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
    init_from: str | None = flag(
        "detector that training begins with: a finished detection run of --out (entry, run id or "
        "its first digits), or a file of `run.py export --format detectron2`",
        default=None,
        type=given,
        metavar="RUN|FILE",
    )


@dataclass(frozen=True, kw_only=True)
class FollowOptions(HowToPlan):
    """Measure every checkpoint that another trainer writes into a folder."""

    folder: Path = flag("output folder of the trainer, with everything below it", positional=True,
                        type=Path, metavar="FOLDER")  # fmt: skip
    tasks: Sequence[str] = flag(
        "tasks that measure each checkpoint (default: knn)",
        default=["knn"],
        type=pieces,
        metavar="A,B",
    )
    weights: str = flag(
        "how to read the files, as after the question mark of ckpt:FILE?arch=vit-b16&format=dino",
        default="",
        name="as",
        metavar="OPTIONS",
    )
    recipe: str | None = flag(
        "recipe of the task (default: fits the backbone)", default=None, metavar="NAME"
    )
    pattern: Sequence[str] = flag(
        "names of files that are checkpoints (default: *.pth and what other trainers write)",
        default=[],
        type=pieces,
        metavar="A,B",
    )
    settle: float = flag(
        "seconds that a file has to stay unchanged (default: %(default)s)",
        default=30.0,
        type=seconds,
        metavar="SECONDS",
    )
    every: float = flag(
        "seconds between two looks (default: %(default)s)",
        default=60.0,
        type=seconds,
        metavar="SECONDS",
    )
    idle: float | None = flag(
        "end when no new checkpoint came for this long (default: never)",
        default=None,
        type=seconds,
        metavar="SECONDS",
    )
    once: bool = switch("measure what is there and end")


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

    run: str = flag(
        "run id, its first digits, or an entry that has one run", positional=True, metavar="RUN"
    )
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
