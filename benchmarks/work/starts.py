"""Detectors that trainings begin with: what ``--init-from`` names."""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from backbones.base.errors import PreflightError
from backbones.base.files import path_of
from benchmarks.store.folders import Store
from benchmarks.store.spec import FirstWeights, RunSpec, Start
from benchmarks.work.detectors import find_detector


def find_start(store: Store, source: str, plugins: Path | None) -> Start:
    """Return the detector that a person means.

    Args:
        store: The folder of runs.
        source: A file that ``run.py export --format detectron2`` wrote, or a finished detection
            run: entry, run id, or the first digits of a run id.
        plugins: Folder of additional backbones.

    Raises:
        UserError: No finished detection run is called so, or several.
        PreflightError: The file or the run's state is missing, damaged or of another kind.
    """
    path = path_of(source)
    return _of_file(path.absolute()) if path.is_file() else _of_run(store, source, plugins)


def trained_on(spec: RunSpec) -> str:
    """Return what identifies the images that a detector was trained on."""
    limit = spec.limit_images
    return spec.data_fingerprint if limit is None else f"{spec.data_fingerprint} of {limit} images"


def _of_file(path: Path) -> Start:
    found, notes = _look_into(path, None)
    said: Mapping[str, Any] = notes
    try:
        return Start(
            first=FirstWeights(path, found.sha256, found.class_names, str(path)),
            backbone=said["backbone"],
            weights=said["weights_sha256"],
            entry=said["source"],
            recipe=said["recipe_name"],
            protocol=said["protocol"],
            data=said["data"],
            fingerprint=said["data_fingerprint"],
        )
    except KeyError as error:
        raise PreflightError(
            f"{path} was exported by an older version (it lacks {error}); export it again with "
            "run.py export RUN --format detectron2 --to FILE."
        ) from error


def _of_run(store: Store, name: str, plugins: Path | None) -> Start:
    detector = find_detector(store, name, plugins)
    record = detector.record
    request = detector.folder.read_request()
    path = _state_file(detector.folder.work, request.num_steps)
    found, _ = _look_into(path, detector.class_names)
    return Start(
        first=FirstWeights(path.absolute(), found.sha256, found.class_names, record.run_id),
        backbone=record.spec.backbone,
        weights=record.spec.weights_sha256,
        entry=request.source,
        recipe=record.labels.recipe,
        protocol=record.labels.protocol,
        data=record.labels.data,
        fingerprint=trained_on(record.spec),
    )


def _state_file(work: Path, num_steps: int) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the libraries' own, about each other
        # torch is imported only here, so that a mistyped name is reported at once.
        from detection.trained import state_file
    return state_file(work, num_steps)


def _look_into(path: Path, class_names: Sequence[str] | None) -> tuple[Any, Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from detection.start import look_into
    return look_into(path, class_names)
