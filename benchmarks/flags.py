"""What may be typed behind each command.

``tests/benchmarks/test_cli.py`` freezes the flags; a new one is a deliberate edit there too.
"""

import argparse
from pathlib import Path

from benchmarks import result_flags


def add_commands(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add every command with its flags.

    Args:
        commands: Where an ``ArgumentParser`` keeps its commands.
    """
    _add_run(_command(commands, "run", "plan, run, record, and show the leaderboard (default)"))
    _add_pretrain(
        _command(commands, "pretrain", "run one pretraining recipe; its product is a checkpoint")
    )
    _add_export(_command(commands, "export", "write weights in the layout of an official project"))
    listing = _command(commands, "list", "what there is: suites, entries, recipes, formats")
    listing.add_argument("--plugins", type=Path, metavar="DIR", help="folder of further backbones")
    check = _command(commands, "check", "prove in half a minute that a backbone or a recipe works")
    check.add_argument(
        "names", nargs="+", metavar="NAME", help="a zoo name, timm:NAME or a pretraining recipe"
    )
    check.add_argument("--plugins", type=Path, metavar="DIR", help="folder of further backbones")
    doctor = _command(commands, "doctor", "what this machine has and lacks, with the fix")
    _add_data(doctor)
    _add_out(doctor)
    _add_compare(_command(commands, "compare", "is one row better than another, or is it chance?"))
    _add_results(commands)
    _add_operating(commands)


def _command(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]", name: str, about: str
) -> argparse.ArgumentParser:
    command = commands.add_parser(name, help=about, description=about, allow_abbrev=False)
    command.add_argument("--json", action="store_true", help="one JSON document on stdout")
    return command


def _add_results(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the commands that show, judge and share what runs came to."""
    board = _command(commands, "leaderboard", "tables from a folder of records")
    _add_out(board)
    result_flags.add_leaderboard(board)
    verify = _command(commands, "verify", "does a measured row lie where it was published?")
    verify.add_argument("row", metavar="ROW", help="an entry, a run's id, or a published row's id")
    _add_out(verify)
    bundle = _command(commands, "bundle", "pack records into one file, for others to merge")
    bundle.add_argument("file", type=Path, metavar="FILE", help="the .zip to write")
    result_flags.add_anonymous(bundle)
    _add_out(bundle)
    merge = _command(commands, "merge", "take the records of a bundle into a folder of runs")
    merge.add_argument("file", type=Path, metavar="FILE", help="a bundle")
    _add_out(merge)


def _add_compare(compare: argparse.ArgumentParser) -> None:
    compare.add_argument(
        "names", nargs="+", metavar="ROW", help="an entry, a run's id, or its first digits"
    )
    compare.add_argument(
        "--task", default="", metavar="NAME", help="only this one; default: all that are shared"
    )
    compare.add_argument(
        "--pictures",
        type=Path,
        metavar="DIR",
        help="draw the images on which they differ most, with the boxes and masks of each",
    )
    compare.add_argument(
        "--images", type=_count, default=6, metavar="N", help="at most so many; default: 6"
    )
    _add_data(compare)
    _add_out(compare)


def _add_operating(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the commands that look after runs which other commands started."""
    _add_out(_command(commands, "status", "where every run stands"))
    watch = _command(commands, "watch", "the same, again and again, until nothing is at work")
    watch.add_argument("--every", type=_count, default=5, metavar="SECONDS", help="default: 5")
    _add_out(watch)
    logs = _command(commands, "logs", "how a run's attempts ended, and the end of its log")
    logs.add_argument("run", metavar="ID", help="of the run, or its first digits")
    logs.add_argument("--lines", type=_count, default=30, metavar="N", help="default: 30")
    _add_out(logs)
    cancel = _command(commands, "cancel", "take runs out of Slurm's queue; they save and leave")
    cancel.add_argument("runs", nargs="*", metavar="ID")
    cancel.add_argument("--all", action="store_true", help="every run of the folder")
    _add_out(cancel)
    retry = _command(commands, "retry", "do again what failed or was left off")
    retry.add_argument("runs", nargs="*", metavar="ID", help="default: all that are not done")
    retry.add_argument("--failed", action="store_true", help="only what failed")
    retry.add_argument("--dry-run", action="store_true", help="show the plan, no more")
    _add_out(retry)
    _add_executor(retry)
    _add_out(_command(commands, "adopt", "find the jobs of a submission that was cut off"))
    cluster = _command(commands, "cluster", "draft or test the profile of a cluster")
    cluster.add_argument("action", choices=("init", "test"))
    cluster.add_argument("name", metavar="NAME", help="clusters/NAME.toml")
    _add_out(cluster)


def _add_run(run: argparse.ArgumentParser) -> None:
    run.add_argument(
        "--suite",
        default="",
        metavar="NAME",
        help="default: coco, or the first that has the --tasks",
    )
    run.add_argument(
        "--tasks",
        type=_pieces,
        default=[],
        metavar="A,B",
        help="only these of the suite's; `run.py list` names them; default: all",
    )
    run.add_argument(
        "--entries",
        type=_pieces,
        default=[],
        metavar="A,B",
        help="NAME or random:NAME (fresh weights), timm:NAME (timm's pretrained weights), "
        "ckpt:FILE?arch=NAME&format=FORMAT, a pretraining RECIPE (run first), or a word for "
        "several (see list); default: the suite's",
    )
    run.add_argument("--recipe", metavar="NAME", help="default: the one that fits each backbone")
    run.add_argument(
        "--set",
        action="append",
        default=[],
        dest="overrides",
        metavar="KEY=VALUE",
        help="change one value of the recipe; the rows are kept apart as +custom; repeatable",
    )
    run.add_argument(
        "--seeds",
        type=_seeds,
        default=(0,),
        metavar="N|A,B",
        help="a count (3 means 0,1,2) or a list (5,7 and, for one seed, 5,); default: 1",
    )
    _add_how(run)
    run.add_argument("--evaluator", default="", metavar="NAME", help="evaluation engine")


def _add_pretrain(command: argparse.ArgumentParser) -> None:
    command.add_argument("recipe", metavar="RECIPE", help="`run.py list` names them")
    command.add_argument("--arch", default="", metavar="NAME", help="default: the recipe's")
    command.add_argument(
        "--set",
        action="append",
        default=[],
        dest="overrides",
        metavar="KEY=VALUE",
        help="change one value of the recipe; repeatable",
    )
    command.add_argument("--seeds", type=_seeds, default=(0,), metavar="N|A,B", help="default: 1")
    command.add_argument(
        "--init-from",
        type=Path,
        metavar="FILE",
        help="first weights: objective.safetensors of an earlier run, or an official full file",
    )
    _add_how(command)


def _add_export(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "source",
        type=Path,
        metavar="FILE",
        help="weights.safetensors (the backbone) or objective.safetensors (heads and all) of a "
        "pretraining run",
    )
    command.add_argument(
        "--format",
        required=True,
        metavar="NAME",
        dest="layout",
        help="mae, lomar, dino, esvit, mocov3, simmim, swin or timm",
    )
    command.add_argument(
        "--to",
        required=True,
        type=Path,
        metavar="FILE",
        dest="out",
        help="the file to write, for torch.load",
    )
    command.add_argument("--plugins", type=Path, metavar="DIR", help="folder of further backbones")


def _add_how(command: argparse.ArgumentParser) -> None:
    """Add what all commands share that run something."""
    _add_data(command)
    _add_out(command)
    command.add_argument("--plugins", type=Path, metavar="DIR", help="folder of further backbones")
    command.add_argument(
        "--rerun",
        choices=("missing", "failed", "stale", "all"),
        default="failed",
        help="what to do again; each includes those before it; default: failed",
    )
    _add_executor(command)
    command.add_argument(
        "--limit-images", type=_count, metavar="N", help="only N images of each split, to try out"
    )
    command.add_argument(
        "--dry-run", action="store_true", help="show the plan and its cost, no more"
    )


def _add_executor(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--executor",
        choices=("inline", "local", "slurm", "print"),
        default="",
        help="inline: one run after the other; local: several at a time on this machine, one a "
        "GPU or core; slurm: job arrays; print: a script for other schedulers; default: inline, "
        "where there is no GPU local",
    )
    command.add_argument(
        "--jobs",
        type=_count,
        metavar="N",
        help="with local: runs at a time; default: one a GPU, where there is none one a core",
    )
    command.add_argument(
        "--processes",
        type=_count,
        metavar="N",
        help="with local: processes that do one run together, a GPU each; default: 1",
    )
    command.add_argument(
        "--cluster", default="", metavar="NAME", help="with slurm: clusters/NAME.toml"
    )
    command.add_argument(
        "--max-parallel", type=_count, metavar="N", help="with slurm: runs of an array at a time"
    )
    command.add_argument(
        "--track",
        choices=("wandb", "mlflow"),
        default="",
        help="tell a tracker how runs go, beside TensorBoard's files",
    )


def _add_data(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--data",
        action="append",
        default=[],
        metavar="KIND=DIR",
        help="coco=DIR, images=PATH, imagenet=DIR; else $DETECTRON2_DATASETS, $IMAGENET_DIR, else "
        "the embedded mini data",
    )


def _add_out(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--out",
        type=Path,
        default=Path("runs"),
        metavar="DIR",
        help="folder of runs; default: runs",
    )


def _pieces(text: str) -> list[str]:
    return text.split(",")


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of at least 1")
    return int(text)


def _seeds(text: str) -> tuple[int, ...]:
    pieces = [piece for piece in text.split(",") if piece]
    if not pieces or not all(piece.isdecimal() for piece in pieces):
        raise argparse.ArgumentTypeError(f"{text!r} is neither a count (3) nor a list (5,7)")
    numbers = tuple(dict.fromkeys(int(piece) for piece in pieces))
    if "," in text:
        return numbers
    if numbers[0] < 1:
        raise argparse.ArgumentTypeError("at least one seed is needed")
    return tuple(range(numbers[0]))
