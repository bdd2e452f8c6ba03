"""Identity of a run, and what a worker is handed beside it."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

from backbones.base.files import hash16, write_json_atomically
from benchmarks.data.roots import DataRoot

_SCHEMA = "backbench.run/1"


@dataclass(frozen=True)
class RunSpec:
    """What makes two runs the same run.

    Paths, the executor, the number of GPUs and the evaluation engine are not in it: they may
    change how long a run takes, not what it finds.

    Attributes:
        task: Name of the task.
        task_version: Of the measurement.
        data_fingerprint: Of the data's content.
        backbone: Name of the network.
        backbone_sha256: Of the file that defines it, where that is a plug-in, which its owner may
            edit under the same name; empty for others.
        weights_sha256: Of the weights' bytes, "random", or "pretrain:" and the id of the run
            that makes them.
        weights_format: Key layout of the weights.
        weights_branch: "teacher" or "student" where the file holds both, else empty.
        recipe: Every value of the recipe, overrides applied.
        seed: Of everything random.
        precision: "fp32" or "bf16".
        batch_size: Global, in images.
        limit_images: Images of each split that are used; None means all.
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
    batch_size: int
    limit_images: int | None

    @cached_property
    def run_id(self) -> str:
        """16 hex digits that name this run everywhere."""
        return hash16({field.name: getattr(self, field.name) for field in fields(self)})


@dataclass(frozen=True)
class RunRequest:
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
        plugins: Folder with further backbones.
        evaluator: Evaluation engine; empty means the task's default.
        needs: Id of the pretraining run that makes its weights; empty for none.
        aside: ``section.field=value`` texts for neutral values of the recipe, which are not in the
            spec (``backbones.base.sections``).
        batch_size_per_device: Images a process holds at once of a batch that processes share out;
            0 where they do not.
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
    aside: tuple[str, ...] = ()
    batch_size_per_device: int = 0

    @property
    def cell(self) -> str:
        """Name of the table cell this run fills, whatever the version of its rules.

        Two requests with one cell and different ``run_id`` are the same question asked under old
        and new rules: the older record is stale.
        """
        return cell_of(vars(self.spec), self.recipe, self.protocol)


def cell_of(spec: Mapping[str, Any], recipe: str, protocol: str) -> str:
    """Return the cell that a run fills; see ``RunRequest.cell``.

    Args:
        spec: The fields of a ``RunSpec``.
        recipe: Name of the recipe.
        protocol: Its protocol; only the mark of overrides counts.
    """
    ours = (
        "task", "data_fingerprint", "backbone", "weights_sha256", "weights_format",
        "weights_branch", "seed", "limit_images",
    )  # fmt: skip
    custom = protocol.partition("+custom:")[2]
    return hash16({**{name: spec[name] for name in ours}, "recipe": recipe, "custom": custom})


def write_request(path: Path, request: RunRequest) -> None:
    """Write what a worker needs to know, atomically."""
    content = asdict(request)
    content["plugins"] = str(request.plugins) if request.plugins else None
    content["data"]["path"] = str(request.data.path) if request.data.path else None
    write_json_atomically(path, {"schema": _SCHEMA, "run_id": request.spec.run_id, **content})


def parse_request(content: Any) -> RunRequest:
    """Return the request that ``write_request`` wrote.

    Raises:
        ValueError: The content has another schema, other fields, or was edited.
    """
    if not isinstance(content, dict) or content.get("schema") != _SCHEMA:
        raise ValueError(f"not a {_SCHEMA} file")
    values = {f.name: content[f.name] for f in fields(RunRequest) if f.name in content}
    try:
        values["spec"] = RunSpec(**content["spec"])
        path = content["data"]["path"]
        values["data"] = DataRoot(**{**content["data"], "path": Path(path) if path else None})
        values["plugins"] = Path(content["plugins"]) if content["plugins"] else None
        values["aside"] = tuple(content.get("aside", ()))
        request = RunRequest(**values)
    except (KeyError, TypeError) as error:
        raise ValueError(f"fields differ: {error}") from error
    if request.spec.run_id != content.get("run_id"):
        raise ValueError("its spec does not belong to its run_id")
    return request


def not_ready(request: RunRequest) -> str:
    """Return the sentence for a run whose pretraining is not done."""
    return (
        f"The pretraining of {request.entry} (run {request.needs}) is not done, so there are no "
        "weights to measure; mend that first."
    )
