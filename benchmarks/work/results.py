"""Results files of detectors that were run elsewhere, as runs: identity, scores, record."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from backbones.base.errors import PreflightError, UserError
from backbones.base.files import sha256_file
from backbones.base.sections import as_plain
from benchmarks.data.roots import DataRoot
from benchmarks.store.folders import RunFolder
from benchmarks.store.record import BackboneFacts
from benchmarks.store.spec import RunRequest, RunSpec, write_request
from benchmarks.task import EXTERNAL, Facts, TaskResult
from benchmarks.tasks.external.task import RECIPES, TASK, facts_of
from benchmarks.work.attempts import finish, open_attempt
from benchmarks.work.recorded import done_record
from detection.scoring.results.scoring import OpenedResults, open_results, score_results
from detection.scoring.results.truth import ScoringTruth

FORMAT = "coco-results"
# A results file does not say what is behind it.
UNKNOWN = "unknown"
_EVALUATOR = "hotcoco"


@dataclass(frozen=True)
class ResultsOrder:
    """Results files of one row, and what they are held against.

    Attributes:
        entry: Name of the row.
        files: One for each seed.
        checksums: SHA-256 of each file, in hex.
        boxes_only: Leave masks out.
        data: Where the annotations lie.
        scoring: The annotations.
    """

    entry: str
    files: tuple[Path, ...]
    checksums: tuple[str, ...]
    boxes_only: bool
    data: DataRoot
    scoring: ScoringTruth

    @property
    def facts(self) -> Facts:
        """What records say of the annotations."""
        return facts_of(self.scoring, self.data)

    def requests(self) -> list[RunRequest]:
        """Return the run of each file; they differ in the seed, the place of the file, only."""
        recipe = f"{EXTERNAL}-boxes" if self.boxes_only else EXTERNAL
        config = TASK.check(RECIPES[recipe]())
        spec = RunSpec(
            task=TASK.name,
            task_version=TASK.version,
            data_fingerprint=self.facts.fingerprint,
            backbone=UNKNOWN,
            backbone_sha256="",
            weights_sha256=_joined(self.checksums),
            weights_format=FORMAT,
            weights_branch="",
            recipe=as_plain(config),
            seed=0,
            precision=UNKNOWN,
            batch_size=1,
            limit_images=None,
        )
        request = RunRequest(
            spec=spec,
            suite=EXTERNAL,
            entry=self.entry,
            source="\n".join(str(path) for path in self.files),
            recipe=recipe,
            protocol=config.protocol,
            num_steps=0,
            num_images=0,
            data=self.data,
        )
        seeds = range(len(self.files))
        return [replace(request, spec=replace(spec, seed=seed)) for seed in seeds]

    def open(self, request: RunRequest) -> OpenedResults:
        """Read the file of a run and check that it belongs to the data.

        Raises:
            PreflightError: It cannot be read, or does not belong to them.
        """
        path = self.files[request.spec.seed]
        return open_results(path, self.scoring, boxes_only=self.boxes_only)


def checksums_of(files: Sequence[Path]) -> tuple[str, ...]:
    """Return the SHA-256 of each file, in hex.

    Raises:
        PreflightError: A file cannot be read.
        UserError: Two files have the same content.
    """
    known: dict[str, Path] = {}
    for path in files:
        try:
            sha = sha256_file(path)
        except OSError as error:
            raise PreflightError(f"{path} cannot be read ({error.strerror}).") from error
        if sha in known:
            raise UserError(
                f"{path} has the same content as {known[sha]}; give the results of each seed once."
            )
        known[sha] = path
    return tuple(known)


def _joined(checksums: Sequence[str]) -> str:
    """Return what identifies a row: of several files, all of them in their order."""
    if len(checksums) == 1:
        return checksums[0]
    return hashlib.sha256("".join(checksums).encode()).hexdigest()


def record_results(
    order: ResultsOrder, request: RunRequest, opened: OpenedResults, folder: RunFolder
) -> None:
    """Score one file and record it; an earlier record of the same run is set aside.

    Other commands see the run when its record is there: an interrupted scoring leaves nothing.

    Args:
        order: What is scored.
        request: The run of the file.
        opened: Its detections.
        folder: Folder of the run.

    Raises:
        BusyError: Another process does the same.
        PreflightError: The folder cannot be written.
    """
    folder.path.mkdir(parents=True, exist_ok=True)
    with folder.lock():
        folder.reset()
        folder.work.mkdir()
        attempt = open_attempt(folder)
        scored = score_results(opened, order.scoring, folder.work, _EVALUATOR)
        result = TaskResult(
            metrics=scored.metrics,
            per_class=scored.per_class,
            details=_details(order, request, opened, scored.evaluator),
            files=scored.files,
            warnings=opened.remarks,
            unmeasured="no masks in the file, or no ground truth of this kind",
        )
        facts = BackboneFacts(UNKNOWN, format=FORMAT)
        outcome = done_record(request, TASK, order.facts, facts, result, folder)
        write_request(folder.request, request)
        finish(folder, attempt, outcome)


def _details(
    order: ResultsOrder, request: RunRequest, opened: OpenedResults, evaluator: str
) -> dict[str, Any]:
    seed = request.spec.seed
    masks = "boxes only" if opened.detections.masks is None else "with masks"
    truth = order.scoring.truth
    return {
        "results": f"{order.files[seed].name}: {len(opened.detections):,} detections, {masks}",
        "results_sha256": order.checksums[seed],
        "data": f"{len(truth.images):,} images, {len(truth.class_names)} classes",
        "evaluator": evaluator,
    }
