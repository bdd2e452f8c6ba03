"""Answers to what people type out of habit: flags and commands of other programs, and misspellings.

Every flag that a command does not have is answered before ``argparse`` reads the line, because
``argparse`` first asks for arguments that are missing.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from backbones.base.errors import UserError
from backbones.base.registry import nearest
from backbones.base.wording import command, shortened

START = """\
usage: run.py COMMAND ...

  run.py --suite coco        train and evaluate detectors on the embedded mini data
  run.py --suite coco --entries timm:vit_base_patch16_224.mae --data coco=DIR --dry-run
                             show what a run on your data costs
  run.py list                show what there is to choose from

`run.py --help` lists all commands. Nothing was started."""


@dataclass(frozen=True)
class _Habit:
    """What a flag of other programs is here.

    Attributes:
        flag: The flag that does it; the answer is given by commands that have it. Empty for all.
        answer: A sentence; ``{value}`` is the value as it was typed.
    """

    flag: str
    answer: str


def _set(key: str) -> _Habit:
    return _Habit("--set", f"Use --set {key}={{value}}; the row then carries +custom.")


def _use(flag: str, value: str = "{value}") -> _Habit:
    return _Habit(flag, f"Use {flag} {value}.")


_DEVICE = _Habit(
    "",
    "Runs use the GPUs that torch finds; CUDA_VISIBLE_DEVICES=0 in front of the command chooses "
    "one, and CUDA_VISIBLE_DEVICES= the processor.",
)
_PROCESSES = _Habit(
    "--processes",
    "Use --executor local, which gives each GPU a run; --processes {value} gives one run {value} "
    "GPUs.",
)
_RESUME = _Habit("--rerun", "Type the command that started the run: it goes on where it was.")
_HABITS: Mapping[str, _Habit] = {
    "--seed": _Habit(
        "--seeds",
        "Use --seeds {value}, (with the comma) for seed {value} only; --seeds 3 runs seeds 0, 1 "
        "and 2.",
    ),
    **dict.fromkeys(("--limit", "--max-images", "--num-images"), _use("--limit-images")),
    **dict.fromkeys(("--epochs", "--num-epochs", "--max-epochs"), _set("schedule.epochs")),
    **dict.fromkeys(("--batch-size", "--batch"), _set("schedule.batch_size")),
    **dict.fromkeys(("--lr", "--learning-rate"), _set("optim.base_lr")),
    **dict.fromkeys(("--weight-decay", "--wd"), _set("optim.weight_decay")),
    "--precision": _set("schedule.precision"),
    **dict.fromkeys(
        ("--amp", "--fp16", "--bf16"),
        _Habit("--set", "Use --set schedule.precision=bf16 or fp32; the row then carries +custom."),
    ),
    **dict.fromkeys(("--device", "--gpu", "--cuda"), _DEVICE),
    **dict.fromkeys(("--gpus", "--num-gpus", "--nproc-per-node"), _PROCESSES),
    **dict.fromkeys(("--model", "--backbone", "--arch", "--name"), _use("--entries")),
    **dict.fromkeys(
        ("--checkpoint", "--ckpt", "--weights", "--pretrained"),
        _use("--entries", "'ckpt:{value}'"),
    ),
    **dict.fromkeys(("--output", "--output-dir", "--save-dir", "-o"), _use("--out")),
    **dict.fromkeys(
        ("--config", "--cfg", "--config-file"),
        _Habit(
            "--recipe",
            "Use --recipe NAME (`run.py list recipes` names them), and --set KEY=VALUE to change "
            "one value.",
        ),
    ),
    **dict.fromkeys(("--dataset", "--data-dir", "--data-path"), _use("--data", "coco={value}")),
    **dict.fromkeys(("--resume", "--auto-resume", "--continue"), _RESUME),
    **dict.fromkeys(("--force", "--overwrite"), _use("--rerun", "all")),
}
# Where the value is not typed.
_UNTYPED = "VALUE"

_COMMANDS: Mapping[str, str] = {
    "train": "run",
    "benchmark": "run",
    "eval": "run",
    "evaluate": "run",
    "results": "leaderboard",
    "show": "leaderboard",
    "table": "leaderboard",
    "ls": "list",
    "log": "logs",
    "stop": "cancel",
    "kill": "cancel",
    "validate": "check",
    "test": "check",
    "diff": "compare",
    "infer": "predict",
    "inference": "predict",
    "download": "export",
}


def check_command(name: str, known: Collection[str]) -> None:
    """Refuse a command that does not exist, with the one that was probably meant.

    Args:
        name: As it was typed.
        known: Commands that exist.

    Raises:
        UserError: It does not exist.
    """
    if name in known:
        return
    meant = _COMMANDS.get(name.lower()) or nearest(name, known)
    guess = f" Did you mean {command(meant)}?" if meant else ""
    raise UserError(
        f'"{shortened(name, 80)}" is not a command.{guess} `run.py --help` lists all commands.'
    )


def check_flags(name: str, words: Sequence[str], known: Collection[str]) -> None:
    """Refuse flags that a command does not have, with what was probably meant.

    Args:
        name: The command.
        words: What was typed after it.
        known: Its flags, with their dashes.

    Raises:
        UserError: The first flag that it does not have.
    """
    for place, word in enumerate(words):
        if word == "--":
            return
        typed, equals, value = word.partition("=")
        if not _is_flag(typed) or typed in known:
            continue
        if not equals:
            following = words[place + 1 : place + 2]
            value = following[0] if following and not _is_flag(following[0]) else _UNTYPED
        answer = _answer(name, typed, value, known)
        raise UserError(f"{command(name)} has no flag {shortened(typed, 80)}. {answer}")


def check_rest(name: str, words: Sequence[str], known: Collection[str]) -> None:
    """Refuse words that are neither flags nor their values.

    Args:
        name: The command.
        words: What the parser had no use for.
        known: The flags of the command, with their dashes.

    Raises:
        UserError: There is such a word.
    """
    if not words:
        return
    word = shortened(words[0], 80)
    answer = (
        f"Use --entries {word} to measure a backbone."
        if "--entries" in known
        else f"{command(name, '--help')} explains what it takes."
    )
    raise UserError(f'{command(name)} takes no "{word}" here. {answer}')


def _is_flag(word: str) -> bool:
    return word.startswith("-") and len(word) > 1 and not word[1].isdecimal()


def _answer(name: str, typed: str, value: str, known: Collection[str]) -> str:
    plain = typed.lower().replace("_", "-")
    habit = _HABITS.get(plain)
    if plain in known:
        return f"Did you mean {plain}?"
    if habit is not None and (not habit.flag or habit.flag in known):
        return habit.answer.format(value=value)
    meant = nearest(plain, [flag for flag in known if flag.startswith("--")])
    if meant:
        return f"Did you mean {meant}?"
    return f"{command(name, '--help')} lists its flags."
