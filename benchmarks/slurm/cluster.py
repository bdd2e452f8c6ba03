"""What a cluster wants to hear: profiles in TOML, ``clusters/NAME.toml``."""

import os
import tomllib
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal, get_args

from backbones.base.errors import UserError
from backbones.base.registry import lookup

GpuFlag = Literal["gpus-per-node", "gres", "none"]
FOLDER = "clusters"
_TASKS = "tasks"
_LONGEST_SIGNAL_SECONDS = 65535  # sbatch(1), --signal


@dataclass(frozen=True)
class RunResources:
    """The resources of one run.

    Attributes:
        nodes: How many.
        gpus: Per node; one process each.
        processes: Per node; 0 means one a GPU, or one.
        cpus: Per process.
        mem_gb: Per node, GiB; 0 leaves it to the cluster.
        minutes: Time limit of one attempt; a run that needs longer is requeued and goes on.
    """

    nodes: int = 1
    gpus: int = 0
    processes: int = 0
    cpus: int = 1
    mem_gb: float = 0.0
    minutes: int = 60

    @property
    def processes_per_node(self) -> int:
        """How many processes a node runs."""
        return self.processes or max(1, self.gpus)

    @property
    def world_size(self) -> int:
        """How many processes do a run together."""
        return self.nodes * self.processes_per_node


@dataclass(frozen=True)
class Cluster:
    """How jobs are asked for on one cluster.

    Attributes:
        name: Of the file.
        shape: What a run gets.
        tasks: What runs of a task get instead, by its name.
        partition: As sbatch's option; empty leaves it out, as do the other texts.
        account: As sbatch's option.
        qos: As sbatch's option.
        gpu_flag: How GPUs are asked for; "none" where the partition gives them anyway.
        gpu_type: Kind of GPU that stands in the request.
        signal_seconds: How long before the time limit a run is told to save.
        scratch: Folder for temporary files on the node; shell variables may stand in it.
        setup: Shell lines before the run.
        srun_args: Further arguments of srun.
        sbatch_args: Further ``--name=value`` options of sbatch.
    """

    name: str
    shape: RunResources = RunResources()
    tasks: tuple[tuple[str, RunResources], ...] = ()
    partition: str = ""
    account: str = ""
    qos: str = ""
    gpu_flag: GpuFlag = "gpus-per-node"
    gpu_type: str = ""
    signal_seconds: int = 180
    scratch: str = ""
    setup: tuple[str, ...] = ()
    srun_args: tuple[str, ...] = ()
    sbatch_args: tuple[str, ...] = ()

    def shape_of(self, task: str) -> RunResources:
        """Return what a run of a task gets."""
        return dict(self.tasks).get(task, self.shape)


def read_cluster(name: str) -> Cluster:
    """Return a profile by name, or by the path of its file.

    Raises:
        UserError: There is none, or a value in it is wrong.
    """
    path = Path(name) if name.endswith(".toml") else _find(name)
    try:
        content = tomllib.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--cluster {name}: {path} cannot be read: {error}.") from error
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"{path} is not TOML: {error}.") from error
    return parse_cluster(path, content)


def parse_cluster(path: Path, content: dict[str, Any]) -> Cluster:
    """Return the profile that a file holds.

    Args:
        path: The file; errors name it.
        content: What TOML made of it.

    Raises:
        UserError: A name is unknown or a value impossible.
    """
    known = _types(RunResources) | _types(Cluster)
    del known["name"], known["shape"], known[_TASKS]
    tasks = content.get(_TASKS, {})
    values = {key: value for key, value in content.items() if key != _TASKS}
    _check(path, "", values, known)
    of_shape = {key: values.pop(key) for key in _types(RunResources) if key in values}
    shape = _shape(path, "", RunResources(), of_shape)
    if not isinstance(tasks, dict) or not all(isinstance(one, dict) for one in tasks.values()):
        raise UserError(f"{path}: write [{_TASKS}.NAME] above the values of a task.")
    shapes = tuple(
        (task, _shape(path, f"{_TASKS}.{task}.", shape, own)) for task, own in tasks.items()
    )
    lists = {key: tuple(value) for key, value in values.items() if isinstance(value, list)}
    cluster = Cluster(path.stem, shape, shapes, **{**values, **lists})
    _check_whole(path, cluster)
    return cluster


def folders() -> list[Path]:
    """Return where profiles are looked for, first to last."""
    config = os.environ.get("XDG_CONFIG_HOME", "")
    users = Path(config) if config else Path.home() / ".config"
    return [Path(FOLDER), users / "backbench" / FOLDER]


def _find(name: str) -> Path:
    known = {path.stem: path for folder in reversed(folders()) for path in folder.glob("*.toml")}
    if not known:
        looked = " and ".join(str(folder) for folder in folders())
        raise UserError(
            f"--cluster {name}: there are no profiles in {looked}; `run.py cluster init {name}` "
            "drafts one."
        )
    return lookup("cluster", name, known)


def _types(kind: type[Any]) -> dict[str, Any]:
    """Return what may stand in a profile, by name, with an example of its type."""
    return {field.name: getattr(kind, field.name, "") for field in fields(kind)}


def _shape(path: Path, prefix: str, base: RunResources, values: dict[str, Any]) -> RunResources:
    _check(path, prefix, values, _types(RunResources))
    for key, value in values.items():
        least = 1 if key in ("nodes", "cpus", "minutes") else 0
        if value < least:
            raise UserError(f"{path}: {prefix}{key} = {value} is too small; at least {least}.")
    return replace(base, **values)


def _check(path: Path, prefix: str, values: dict[str, Any], known: dict[str, Any]) -> None:
    for key, value in values.items():
        example = known.get(key)
        if key not in known:
            try:
                lookup("value", prefix + key, {prefix + name: None for name in known})
            except UserError as error:
                raise UserError(f"{path}: {error}") from error
        if not _fits(value, example):
            wanted = _WORDS[type(example)]
            raise UserError(f"{path}: {prefix}{key} = {value!r} has to be {wanted}.")


_WORDS = {int: "a whole number", float: "a number", str: "a text", tuple: "a list of texts"}


def _fits(value: Any, example: Any) -> bool:
    if isinstance(example, tuple):
        return isinstance(value, list) and all(isinstance(item, str) for item in value)
    if isinstance(example, float):
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    return type(value) is type(example)


def _check_whole(path: Path, cluster: Cluster) -> None:
    """Refuse what would change the meaning of a script, or could never work."""
    if cluster.gpu_flag not in get_args(GpuFlag):
        known = ", ".join(get_args(GpuFlag))
        raise UserError(f"{path}: gpu_flag = {cluster.gpu_flag!r} has to be one of {known}.")
    texts = (cluster.partition, cluster.account, cluster.qos, cluster.gpu_type, cluster.scratch)
    for text in (*texts, *cluster.setup, *cluster.srun_args, *cluster.sbatch_args):
        if not text.isprintable():
            raise UserError(f"{path}: {text!r} has to be one line of plain text.")
    for text in cluster.sbatch_args:
        if not text.startswith("--"):
            raise UserError(f"{path}: sbatch_args has {text!r}; write --name=value.")
    if not 0 < cluster.signal_seconds <= _LONGEST_SIGNAL_SECONDS:
        raise UserError(
            f"{path}: signal_seconds = {cluster.signal_seconds} has to be 1 to "
            f"{_LONGEST_SIGNAL_SECONDS}."
        )
