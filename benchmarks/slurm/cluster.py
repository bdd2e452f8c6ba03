"""What a cluster wants to hear: profiles in TOML, ``clusters/NAME.toml``."""

import os
import shlex
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, get_type_hints

from msgspec import Meta, Struct

from backbones.base.errors import UserError
from backbones.base.json_files import convert
from backbones.base.registry import lookup
from backbones.base.values import Count, CountOrZero, NotNegative, Rule, refusal
from backbones.base.wording import command
from benchmarks.slurm.sbatch_options import collision

GpuFlag = Literal["gpus-per-node", "gres", "none"]
FOLDER = "clusters"
_TASKS = "tasks"
# Loaders of one GPU: the usual share of a node with 8 GPUs and 64 cores.
_CPUS_A_GPU = 8
_LONGEST_SIGNAL_SECONDS = 65535  # sbatch(1), --signal

# Anything else would change the meaning of a script.
Text = Annotated[str, Meta(description="one line of plain text"), Rule("", str.isprintable)]
_Option = Annotated[
    str,
    Meta(description="--name=value in one line of plain text"),
    Rule("", lambda text: text.startswith("--") and text.isprintable()),
]


class RunResources(Struct, frozen=True, forbid_unknown_fields=True):
    """The resources of one run.

    Attributes:
        nodes: Number of nodes.
        gpus: GPUs per node; each gets one process.
        processes: Processes per node; 0 means one per GPU, or one without GPUs.
        cpus: CPUs per process; in a profile, 8 with GPUs and 1 without where nothing is said.
        workers: Loader processes per process; 0 chooses by ``cpus``.
        mem_gb: Memory per node in GiB; 0 leaves it to the cluster.
        minutes: Time limit of one attempt; a run that needs longer is requeued and goes on.
    """

    nodes: Count = 1
    gpus: CountOrZero = 0
    processes: CountOrZero = 0
    cpus: Count = 1
    mem_gb: NotNegative = 0.0
    minutes: Count = 60
    workers: CountOrZero = 0

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
        srun_args: Other arguments of srun.
        sbatch_args: Other ``--name=value`` options of sbatch, none that a submission sets itself.
    """

    name: str
    shape: RunResources = RunResources()
    tasks: tuple[tuple[str, RunResources], ...] = ()
    partition: Text = ""
    account: Text = ""
    qos: Text = ""
    gpu_flag: GpuFlag = "gpus-per-node"
    gpu_type: Text = ""
    signal_seconds: Annotated[int, Meta(ge=1, le=_LONGEST_SIGNAL_SECONDS)] = 180
    scratch: Text = ""
    setup: tuple[Text, ...] = ()
    srun_args: tuple[Text, ...] = ()
    sbatch_args: tuple[_Option, ...] = ()

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
    of_shape = RunResources.__struct_fields__
    rest = [n for n in Cluster.__struct_fields__ if n not in ("name", "shape", _TASKS)]
    if sentence := collision(content):
        raise UserError(f"{path}: {sentence}")
    own = {name: value for name, value in content.items() if name != _TASKS}
    _check(path, "", own, Cluster, [*rest, *of_shape])
    shape = {name: value for name, value in own.items() if name in of_shape}
    for task, values in tasks.items():
        _check(path, f"{_TASKS}.{task}.", values, RunResources, of_shape)
    shapes = [(task, _with_cpus({**shape, **values})) for task, values in tasks.items()]
    others = {name: value for name, value in own.items() if name not in of_shape}
    return convert(
        {**others, "name": path.stem, "shape": _with_cpus(shape), _TASKS: shapes}, Cluster
    )


def _with_cpus(shape: dict[str, Any]) -> dict[str, Any]:
    """Return the values of a shape, with CPUs enough to feed its GPUs where none are named."""
    return {"cpus": _CPUS_A_GPU, **shape} if shape.get("gpus") else shape


def _check(
    path: Path, prefix: str, values: dict[str, Any], kind: type[Any], known: Sequence[str]
) -> None:
    hints = get_type_hints(RunResources, include_extras=True)
    hints |= get_type_hints(kind, include_extras=True)
    for name, value in values.items():
        try:
            lookup("value", prefix + name, {prefix + one: None for one in known})
        except UserError as error:
            raise UserError(f"{path}: {error}") from error
        if sentence := refusal(prefix + name, value, hints[name]):
            raise UserError(f"{path}: {sentence}")


def profile_path(name: str) -> Path:
    """Return the file of a new profile, in the working folder.

    Raises:
        UserError: The name is a path, or no name of a file.
    """
    plain = name.strip() == name and name.isprintable() and not name.startswith((".", "-"))
    if not plain or not name or "/" in name or "\\" in name:
        raise UserError(
            f"cluster init {shlex.quote(name)}: a profile's name cannot be a path; use letters, "
            f'digits, "-", "_" and ".", and the file will be {FOLDER}/NAME.toml.'
        )
    return Path(FOLDER) / f"{name.removesuffix('.toml')}.toml"


def folders() -> list[Path]:
    """Return where profiles are looked for, first to last."""
    config = os.environ.get("XDG_CONFIG_HOME", "") or os.path.expanduser("~/.config")  # noqa: PTH111 - no error without a home
    here = [Path(FOLDER)]
    return here if config.startswith("~") else [*here, Path(config) / "backbench" / FOLDER]


def _find(name: str) -> Path:
    known = {path.stem: path for folder in reversed(folders()) for path in folder.glob("*.toml")}
    if not known:
        looked = " and ".join(str(folder) for folder in folders())
        raise UserError(
            f"--cluster {name}: there are no profiles in {looked}; "
            f"{command('cluster', 'init', name)} drafts one."
        )
    return lookup("cluster", name, known)
