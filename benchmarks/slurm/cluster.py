"""What a cluster wants to hear: profiles in TOML, ``clusters/NAME.toml``."""

import os
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from msgspec import Meta, Struct

from backbones.base.errors import UserError
from backbones.base.json_files import convert
from backbones.base.registry import lookup

T = TypeVar("T")
GpuFlag = Literal["gpus-per-node", "gres", "none"]
FOLDER = "clusters"
_TASKS = "tasks"
_LONGEST_SIGNAL_SECONDS = 65535  # sbatch(1), --signal

AtLeast0 = Annotated[int, Meta(ge=0)]
AtLeast1 = Annotated[int, Meta(ge=1)]


class RunResources(Struct, frozen=True, forbid_unknown_fields=True):
    """The resources of one run.

    Attributes:
        nodes: Number of nodes.
        gpus: GPUs per node; each gets one process.
        processes: Processes per node; 0 means one per GPU, or one without GPUs.
        cpus: CPUs per process.
        mem_gb: Memory per node in GiB; 0 leaves it to the cluster.
        minutes: Time limit of one attempt; a run that needs longer is requeued and goes on.
    """

    nodes: AtLeast1 = 1
    gpus: AtLeast0 = 0
    processes: AtLeast0 = 0
    cpus: AtLeast1 = 1
    mem_gb: Annotated[float, Meta(ge=0)] = 0.0
    minutes: AtLeast1 = 60

    @property
    def processes_per_node(self) -> int:
        """How many processes a node runs."""
        return self.processes or max(1, self.gpus)

    @property
    def world_size(self) -> int:
        """How many processes do a run together."""
        return self.nodes * self.processes_per_node


class Cluster(Struct, frozen=True, forbid_unknown_fields=True):
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
    signal_seconds: Annotated[int, Meta(ge=1, le=_LONGEST_SIGNAL_SECONDS)] = 180
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
    tasks = content.get(_TASKS, {})
    if not isinstance(tasks, dict) or not all(isinstance(one, dict) for one in tasks.values()):
        raise UserError(f"{path}: write [{_TASKS}.NAME] above the values of a task.")
    of_shape, of_cluster = RunResources.__struct_fields__, Cluster.__struct_fields__
    known = (*of_shape, *(name for name in of_cluster if name not in ("name", "shape", _TASKS)))
    own = {name: value for name, value in content.items() if name != _TASKS}
    shape = {name: value for name, value in own.items() if name in of_shape}
    rest = {name: value for name, value in own.items() if name not in of_shape}
    _check_names(path, "", own, known)
    cluster = _typed(
        path,
        "",
        {
            **rest,
            "name": path.stem,
            "shape": _typed(path, "", shape, RunResources),
            _TASKS: tuple(
                (task, _shape_of_task(path, task, shape, values)) for task, values in tasks.items()
            ),
        },
        Cluster,
    )
    _check_texts(path, cluster)
    return cluster


def _shape_of_task(
    path: Path, task: str, shape: dict[str, Any], values: dict[str, Any]
) -> RunResources:
    _check_names(path, f"{_TASKS}.{task}.", values, RunResources.__struct_fields__)
    return _typed(path, f"{_TASKS}.{task}.", {**shape, **values}, RunResources)


def _check_names(path: Path, prefix: str, values: dict[str, Any], known: Sequence[str]) -> None:
    for name in values:
        try:
            lookup("value", prefix + name, {prefix + one: None for one in known})
        except UserError as error:
            raise UserError(f"{path}: {error}") from error


def _typed(path: Path, prefix: str, values: dict[str, Any], kind: type[T]) -> T:
    hints = get_type_hints(kind, include_extras=True)
    for name, value in values.items():
        try:
            convert(value, hints[name])
        except ValueError as error:
            choices = get_args(hints[name]) if get_origin(hints[name]) is Literal else ()
            known = f"; use one of {', '.join(choices)}" if choices else ""
            raise UserError(f"{path}: {prefix}{name} = {value!r}: {error}{known}.") from error
    return kind(**{name: convert(value, hints[name]) for name, value in values.items()})


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


def _check_texts(path: Path, cluster: Cluster) -> None:
    """Refuse texts that would change the meaning of a script."""
    texts = (cluster.partition, cluster.account, cluster.qos, cluster.gpu_type, cluster.scratch)
    for text in (*texts, *cluster.setup, *cluster.srun_args, *cluster.sbatch_args):
        if not text.isprintable():
            raise UserError(f"{path}: {text!r} has to be one line of plain text.")
    for text in cluster.sbatch_args:
        if not text.startswith("--"):
            raise UserError(f"{path}: sbatch_args has {text!r}; write --name=value.")
