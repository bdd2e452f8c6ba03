"""Identity of a run, and what a worker is handed with it."""

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct
from msgspec.structs import asdict, replace

from backbones.base.files import hash16
from backbones.base.json_files import JsonFormat, said_fields
from benchmarks.data.roots import DataRoot

Count = Annotated[int, Meta(ge=1)]
RunId = Annotated[str, Meta(pattern="^[0-9a-f]{16}$")]


class RunSpec(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, dict=True):
    """What makes two runs the same run.

    Paths, the executor, the number of GPUs and the evaluation engine are not in it: they may
    change how long a run takes, not what it finds.

    Attributes:
        task: Name of the task.
        task_version: Version of the measurement.
        data_fingerprint: Fingerprint of the data's content.
        backbone: Name of the network.
        backbone_sha256: SHA-256 of the file that defines the network, where that is a plug-in,
            which its owner may edit under the same name; empty for others.
        weights_sha256: SHA-256 of the weights' bytes, "random", or "pretrain:" and the id of the
            run that makes them.
        weights_format: Key layout of the weights.
        weights_branch: "teacher" or "student" where the file holds both, else empty.
        recipe: Every value of the recipe, overrides applied.
        seed: Seed of everything random.
        precision: "fp32" or "bf16".
        batch_size: Global, in images.
        limit_images: Images of each split that are used; None means all.
        rules: Rules of ``benchmarks.plan.rules`` that apply to the run, each as NAME/VERSION: what
            this program came to do otherwise for some networks only. Runs to which none applies
            keep the id that they had before there were rules.
        first_sha256: As in ``FirstWeights``; empty where a run begins with its backbone's weights.
    """

    task: str
    task_version: int
    data_fingerprint: str
    backbone: str
    backbone_sha256: str
    weights_sha256: str
    weights_format: str
    weights_branch: str
    recipe: Mapping[str, Any]
    seed: int
    precision: str
    batch_size: Count
    limit_images: int | None
    rules: tuple[str, ...] = ()
    first_sha256: str = ""

    @cached_property
    def run_id(self) -> str:
        """16 hex digits that name this run everywhere."""
        return hash16(said_fields(self))


class FirstWeights(Struct, frozen=True, forbid_unknown_fields=True):
    """Weights of a whole detector that a run's training begins with.

    Attributes:
        path: File of the tensors: a training state of another run, or an exported detector.
        sha256: SHA-256 over the names and values of the tensors and the names of the classes.
        class_names: Classes of that detector, in order of its class index.
        source: The detector as ``--init-from`` takes it: a run id, or the path of a file.
    """

    path: Path
    sha256: str
    class_names: tuple[str, ...]
    source: str


class Start(Struct, frozen=True):
    """A trained detector that another training begins with, as plans know it.

    Attributes:
        first: Its weights.
        backbone: Name of its network.
        weights: SHA-256 of the backbone's weights that it was trained from, "random", or
            "pretrain:" and a run id; empty where an exported file does not say it.
        entry: Its entry, as ``--entries`` takes it; empty where an exported file does not say it.
        recipe: Name of its recipe.
        protocol: Id of its protocol.
        data: Name of the data that it was trained on.
        fingerprint: Identity of these data.
    """

    first: FirstWeights
    backbone: str
    weights: str
    entry: str
    recipe: str
    protocol: str
    data: str
    fingerprint: str


class RunRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """A run to be done: its identity, its labels, and where things lie.

    Attributes:
        spec: The identity.
        suite: The suite that asked for it.
        entry: The leaderboard entry, as shown.
        source: The entry as ``open_checkpoint`` reads it.
        recipe: Name of the recipe.
        protocol: Id of the rules that make numbers comparable; overrides leave their mark.
        num_steps: Optimizer updates it takes.
        num_images: Training images drawn in all.
        data: Where the data lies.
        plugins: Folder with additional backbones.
        evaluator: Evaluation engine; empty means the task's default.
        needs: Id of the pretraining run that makes its weights; empty for none.
        overrides_not_in_spec: ``section.field=value`` texts of values that change no result, which
            the spec therefore leaves out (``backbones.base.sections``).
        batch_size_per_device: Smallest number of images that a process may hold at once of a batch
            that processes share out; 0 where they do not.
        former_fingerprint: As in ``benchmarks.task.Facts``.
        notes: On the data, as in ``benchmarks.task.Facts``.
        weights_notes: How the weights are read and used, in words, for plans.
        first: Detector that training begins with; None begins with the backbone's weights.
    """

    spec: RunSpec
    suite: str
    entry: str
    source: str
    recipe: str
    protocol: str
    num_steps: int
    num_images: int
    data: DataRoot
    plugins: Path | None = None
    evaluator: str = ""
    needs: str = ""
    overrides_not_in_spec: tuple[str, ...] = ()
    batch_size_per_device: int = 0
    former_fingerprint: str = ""
    notes: tuple[str, ...] = ()
    weights_notes: tuple[str, ...] = ()
    first: FirstWeights | None = None

    @property
    def former_cell(self) -> str:
        """Name of the cell that this run filled when names and sizes identified the data."""
        spec = replace(self.spec, data_fingerprint=self.former_fingerprint)
        return cell_of(spec, self.recipe, self.protocol)

    @property
    def cell(self) -> str:
        """Name of the table cell this run fills, whatever the version of its rules.

        Two requests with one cell and different ``run_id`` are the same question asked under old
        and new rules: the older record is stale.
        """
        return cell_of(self.spec, self.recipe, self.protocol)


def cell_of(spec: RunSpec, recipe: str, protocol: str) -> str:
    """Return the cell that a run fills; see ``RunRequest.cell``.

    Args:
        spec: Identity of the run.
        recipe: Name of the recipe.
        protocol: Its protocol; only the mark of overrides counts.
    """
    ours = (
        "task", "data_fingerprint", "backbone", "weights_sha256", "weights_format",
        "weights_branch", "seed", "limit_images",
    )  # fmt: skip
    custom = protocol.partition("+custom:")[2]
    first = {"first": spec.first_sha256} if spec.first_sha256 else {}
    same = {**{n: getattr(spec, n) for n in ours}, "recipe": recipe, "custom": custom, **first}
    return hash16(same)


class _RequestFile(RunRequest, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Content of ``run.json``."""

    schema: Literal["backbench.run/1"]
    run_id: RunId

    def __post_init__(self) -> None:
        if self.spec.run_id != self.run_id:
            raise ValueError("its spec does not belong to its run_id")


_FORMAT = JsonFormat(_RequestFile, "run request", former={"aside": "overrides_not_in_spec"})


def _file_of(request: RunRequest) -> _RequestFile:
    return _RequestFile(**asdict(request), schema="backbench.run/1", run_id=request.spec.run_id)


def write_request(path: Path, request: RunRequest) -> None:
    """Write what a worker needs to know, atomically."""
    _FORMAT.write(path, _file_of(request))


def read_request(path: Path) -> RunRequest:
    """Return the request that ``write_request`` wrote.

    Raises:
        UnreadableFileError: The file is absent, damaged, edited, or has another schema.
    """
    content = _FORMAT.read(path)
    return RunRequest(**{name: getattr(content, name) for name in RunRequest.__struct_fields__})


def not_ready(request: RunRequest) -> str:
    """Return the sentence for a run whose pretraining is not done."""
    return (
        f"The pretraining of {request.entry} (run {request.needs}) is not done, so there are no "
        "weights to measure; fix that first."
    )
