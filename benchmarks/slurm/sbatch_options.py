"""Which options of sbatch a profile may not give, because every submission sets them itself."""

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

# Set in every script, by the value of the profile that decides them, empty where none does.
# https://slurm.schedmd.com/sbatch.html has names and short forms.
_ALWAYS = {
    "job-name": "", "array": "", "signal": "signal_seconds", "output": "", "open-mode": "",
    "dependency": "", "requeue": "", "no-requeue": "", "nodes": "nodes", "ntasks": "processes",
    "ntasks-per-node": "processes", "cpus-per-task": "cpus", "time": "minutes",
}  # fmt: skip
# Set where the profile has this value.
_WITH_VALUE = {
    "partition": "partition", "account": "account", "qos": "qos", "mem": "mem_gb",
    "gres": "gpus", "gpus-per-node": "gpus", "gpus": "gpus",
}  # fmt: skip
# They change what sbatch prints, which is where the job's id is read.
_CHANGES_THE_ANSWER = ("parsable", "quiet", "test-only", "wait")
_SHORT = {
    "J": "job-name", "a": "array", "o": "output", "d": "dependency", "N": "nodes", "n": "ntasks",
    "c": "cpus-per-task", "t": "time", "p": "partition", "A": "account", "q": "qos", "G": "gpus",
    "W": "wait", "Q": "quiet",
}  # fmt: skip
# An option of its own that begins another one's name.
_NO_ABBREVIATION = "gpus"


@dataclass(frozen=True)
class _Set:
    """An option that submissions set."""

    name: str
    value: str

    def refuses(self, argument: str) -> str:
        """Return the sentence about an argument that sets the option once more."""
        if self.name in _CHANGES_THE_ANSWER:
            why = "which changes the answer of sbatch that the job's id is read from; remove it"
        elif self.value:
            why = f"which the value {self.value} sets; change that one and remove the argument"
        else:
            why = "which every submission sets itself; remove the argument"
        return f'sbatch_args: "{argument}" collides with --{self.name}, {why}.'


def collision(content: Mapping[str, Any]) -> str:
    """Return the sentence that refuses a profile's ``sbatch_args``, empty where none collides.

    Args:
        content: Values of the profile as TOML gives them, ``tasks`` included; their types need not
            have been checked.
    """
    arguments = content.get("sbatch_args")
    if not isinstance(arguments, list):
        return ""
    ours = {**_ALWAYS, **dict.fromkeys(_CHANGES_THE_ANSWER, "")}
    ours |= {name: value for name, value in _WITH_VALUE.items() if _is_set(content, name, value)}
    for argument in arguments:
        try:
            names = list(_names(shlex.split(argument))) if isinstance(argument, str) else []
        except ValueError as error:
            return f'sbatch_args: "{argument}" cannot be split into words ({error}).'
        for name in names:
            found = _meant(name, ours)
            if found:
                return _Set(found, ours[found]).refuses(argument)
    return ""


def _is_set(content: Mapping[str, Any], name: str, value: str) -> bool:
    if name in ("gres", "gpus-per-node") and content.get("gpu_flag", "gpus-per-node") != name:
        return False
    tasks = content.get("tasks", {})
    sections = tasks.values() if isinstance(tasks, dict) else ()
    return any(part.get(value) for part in (content, *sections) if isinstance(part, Mapping))


def _names(words: Sequence[str]) -> Iterator[str]:
    """Yield the long names of the options among the words of one argument."""
    for word in words:
        if word.startswith("--"):
            yield word[2:].partition("=")[0]
        elif word.startswith("-"):
            # The value may follow at once, as in -a0-3.
            yield _SHORT.get(word[1:2], "")


def _meant(name: str, ours: Mapping[str, str]) -> str:
    """Return our option that a name stands for; sbatch also takes the first letters of a name."""
    if name in ours or not name:
        return name
    if name == _NO_ABBREVIATION:
        return ""
    return next((option for option in ours if option.startswith(name)), "")
