"""What a detection run was tested on, and what it found there, if both are what they were."""

from collections.abc import Sequence
from pathlib import Path

from backbones.base.errors import UserError
from benchmarks.annotated.task import Annotated
from benchmarks.by_image.runs import NoImagesError, files_of
from benchmarks.data.roots import DataRoot, parse_data
from benchmarks.store.folders import Store
from benchmarks.store.record import RunRecord
from benchmarks.suites import get_measurement
from detection.data.dataset import Split, Truth
from detection.scoring.detections import DETECTIONS_FILE, Detections, read_detections


def truth_of(store: Store, record: RunRecord, given: Sequence[str]) -> Truth:
    """Return the images that a run was tested on, with their objects.

    Args:
        store: The folder of runs.
        record: Of the run.
        given: What ``--data`` says; else where the run found them.

    Raises:
        UserError: The data set is not there, or it is another one by now.
        BadRecordError: The run does not say where it was.
    """
    root = root_of(store, record, given)
    measured = get_measurement(record.spec.task)
    if not isinstance(measured, Annotated):
        raise UserError(f"the task {measured.name} is not measured on annotated images")
    facts = measured.read_facts(root, store.cache)
    if not facts.bear(record.spec.data_fingerprint):
        where = root.path or "the embedded mini data"
        raise UserError(f"{where}: these are other data than the run was tested on")
    evaluation = record.spec.recipe.get("evaluation", {})
    split: Split = "train" if evaluation.get("split") == "train" else "val"
    return measured.truth(root, split, record.spec.limit_images, store.cache)


def detections_of(store: Store, record: RunRecord) -> Detections:
    """Return what a run found in the images that it was tested on.

    Raises:
        NoImagesError: It kept nothing, or the file is not the one that the record names.
    """
    path = files_of(store, record, (DETECTIONS_FILE,)).get(DETECTIONS_FILE)
    if path is None:
        raise NoImagesError("the run kept no detections")
    try:
        return read_detections(path)
    except UserError as error:
        raise NoImagesError(str(error)) from error


def root_of(store: Store, record: RunRecord, given: Sequence[str]) -> DataRoot:
    """Return where the data of a run lie.

    Args:
        store: The folder of runs.
        record: Of the run.
        given: What ``--data`` says; else where the run found them.

    Raises:
        UserError: It is not known.
        BadRecordError: The run does not say where it was.
    """
    kind = get_measurement(record.spec.task).data_kind
    if record.labels.mini:
        return DataRoot(kind, record.labels.data, None, "embedded")
    named = parse_data(given, own_names=True)
    path: Path | None = named.get(record.labels.data, named.get(kind))
    if path is not None:
        return DataRoot(kind, record.labels.data, path, "--data")
    root = store.folder(record.run_id).read_request().data
    if root.path is None:
        raise UserError(f"it is not known where the data lie; say it with --data {kind}=DIR")
    return root
