"""Detectors that finished runs trained: found by name, with their classes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from backbones.base.errors import PreflightError, UserError
from backbones.base.wording import command, first_of
from backbones.catalog import get_spec
from backbones.spec import BackboneSpec
from benchmarks.by_image.detected import Detected
from benchmarks.by_image.runs import NoImagesError, image_results
from benchmarks.data.coco import open_coco
from benchmarks.leaderboard.statistics.tested import root_of
from benchmarks.plan.rules import about, broken_rules
from benchmarks.store.folders import RunFolder, Store
from benchmarks.store.record import RunRecord
from benchmarks.suites import image_file_of
from benchmarks.tasks.coco.task import TASK
from benchmarks.work.execute import config_of
from detection.data.annotations import AnnotationFile
from detection.data.dataset import CocoData, read_split

# Words of a record's details for weights that lie with channels last.
_CHANNELS_LAST = "channels last"
# Where ``annotations_of`` finds none.
NUMBERED = (
    "The annotations of the run's data are not there, so category ids count the classes from 1 in "
    "the detector's order."
)


@dataclass(frozen=True)
class RunData:
    """The data of a run.

    Attributes:
        data: The data set.
        read: Its validation annotations; file names are full paths.
    """

    data: CocoData
    read: AnnotationFile


@dataclass(frozen=True)
class FoundDetector:
    """The detector of a finished run.

    Attributes:
        record: Of the run.
        folder: Of the run.
        spec: Its backbone, with the normalisation of the weights.
        config: Its recipe.
        class_names: In order of the class index.
    """

    record: RunRecord
    folder: RunFolder
    spec: BackboneSpec
    config: Any
    class_names: tuple[str, ...]

    def trained(self) -> dict[str, Any]:
        """Return the values of ``detection.trained.TrainedRun``, which imports torch.

        Raises:
            BadRecordError: The run's request is damaged.
        """
        return {
            "spec": self.spec,
            "config": self.config,
            "work": self.folder.work,
            "num_steps": self.folder.read_request().num_steps,
            "num_classes": len(self.class_names),
            "channels_last": self.record.details.get("layout", _CHANNELS_LAST) == _CHANNELS_LAST,
        }


def find_detector(store: Store, name: str, plugins: Path | None) -> FoundDetector:
    """Return the detector that a person means.

    Args:
        store: The folder of runs.
        name: Entry, run id, or the first digits of a run id.
        plugins: Folder of additional backbones; None takes that of the run.

    Raises:
        UserError: No finished detection run is called so, or several.
        PreflightError: The run kept no results from which its classes are known.
        BadRecordError: The run's request is damaged.
    """
    record = _the_one(store, name)
    folder = store.folder(record.run_id)
    request = folder.read_request()
    config = config_of(request, TASK)
    _refuse_other_code(record)
    spec = get_spec(record.spec.backbone, plugins or request.plugins)
    if spec.file_sha256 != record.spec.backbone_sha256:
        raise UserError(
            f"The file that defines {spec.name} changed since run {record.run_id} was trained, so "
            "its detector cannot be built again; name the former file's folder with --plugins."
        )
    mean, std = record.backbone.mean, record.backbone.std
    spec = replace(spec, mean=_rgb(mean) or spec.mean, std=_rgb(std) or spec.std)
    try:
        results = image_results(store, record, image_file_of(record.spec.task))
    except NoImagesError as error:
        raise PreflightError(f"Run {record.run_id}: its classes are not known: {error}.") from error
    assert isinstance(results, Detected)
    return FoundDetector(record, folder, spec, config, results.matches.class_names)


def _refuse_other_code(record: RunRecord) -> None:
    """Refuse a run whose detector this version would build otherwise.

    Raises:
        UserError: With what changed.
    """
    broken = broken_rules(record)
    changed = f"the rule {about(broken)}" if broken else ""
    if record.spec.task_version != TASK.version:
        changed = f"version {TASK.version} of {TASK.name}"
    if changed:
        raise UserError(
            f"Run {record.run_id} was trained before {changed}, so this version would build "
            "another detector; train it again with --rerun stale."
        )


def _rgb(values: Sequence[float] | None) -> tuple[float, float, float] | None:
    if values is None:
        return None
    red, green, blue = values
    return red, green, blue


def _the_one(store: Store, name: str) -> RunRecord:
    records = [r for r in store.scan().records.values() if r.spec.task == TASK.name]
    finished = [record for record in records if record.status == "done"]
    found = [r for r in finished if r.labels.entry == name or r.run_id.startswith(name)]
    if len(found) == 1:
        return found[0]
    if not found:
        raise UserError(
            f'No finished detection run in {store.root} is called "{name}"; '
            f"{command('status', '--out', store.root)} shows all runs."
        )
    each = [
        f"{r.run_id} (seed {r.spec.seed}, {r.labels.protocol}, data {r.labels.data})" for r in found
    ]
    raise UserError(
        f'{len(found)} runs are called "{name}"; name one by its id: {first_of(each, 6)}.'
    )


def annotations_of(store: Store, detector: FoundDetector, given: Sequence[str]) -> RunData | None:
    """Return a run's data with the validation annotations, None where they do not exist any more.

    Args:
        store: The folder of runs.
        detector: Of the run.
        given: What ``--data`` says.

    Raises:
        UserError: The data have other classes than the detector.
        PreflightError: Data that were given cannot be used.
    """
    try:
        root = root_of(store, detector.record, given)
        data = open_coco(root)
        read = read_split(data, "val")
    except UserError:
        if given:
            raise
        return None
    if read.class_names != detector.class_names:
        where = root.path or "the embedded mini data"
        raise UserError(
            f"{where}: these data have other classes ({first_of(read.class_names)}) than the "
            f"detector ({first_of(detector.class_names)}); name its own with --data."
        )
    folder = data.image_folder("val")
    for image in read.images:
        image["file_name"] = str(folder / image["file_name"])
    return RunData(data, read)


def category_ids_of(detector: FoundDetector, own: RunData | None) -> Mapping[int, str]:
    """Return the classes by the id that a results file has for them.

    Args:
        detector: Of the run.
        own: Its data; None numbers the classes from 1.
    """
    ids = range(1, len(detector.class_names) + 1) if own is None else own.read.category_ids
    return dict(zip(ids, detector.class_names, strict=True))
