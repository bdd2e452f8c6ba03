"""A detector that a run trained, put together again and used on any images."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from backbones.base.devices import choose_threads
from backbones.base.errors import PreflightError
from backbones.base.files import atomic_file
from backbones.base.images import DAMAGE, open_stored, turn
from backbones.base.monitor import Monitor
from backbones.checkpoint import FRESH, Checkpoint
from backbones.spec import BackboneSpec
from backbones.training.session import joined
from backbones.training.state import StateFolder, TrainingState
from backbones.weights.loading import build_backbone
from detection.config import DetectionConfig
from detection.data.loader import Sample
from detection.data.pixels import pixels_of
from detection.model.detector import Detector, build_detector
from detection.protocols import build_options
from detection.scoring.detections import Detections, collect
from detection.scoring.evaluate import detect
from detection.scoring.pictures import draw_over, surest_shapes
from detection.start import MASK_HEAD, NOTES, detector_tensors
from detection.transfer import STATES


@dataclass(frozen=True)
class TrainedRun:
    """A run whose training has ended.

    Attributes:
        spec: Of the backbone, with the normalisation of its weights.
        config: The recipe, overrides applied.
        work: Folder of the run's states.
        num_steps: Steps of the training.
        num_classes: Of the data that it was trained on.
        channels_last: Whether its weights lay with channels last.
    """

    spec: BackboneSpec
    config: DetectionConfig
    work: Path
    num_steps: int
    num_classes: int
    channels_last: bool


def load_detector(run: TrainedRun, device: torch.device) -> Detector:
    """Return the detector as the run's last step left it, in evaluation mode.

    Args:
        run: The run.
        device: Where it shall lie.

    Raises:
        PreflightError: The run kept no whole state of its last step, or one of another network.
    """
    tensors = detector_tensors(_last_state(run.work, run.num_steps).tensors)
    config = run.config.resolved()
    has_masks = any(name.startswith(MASK_HEAD) for name in tensors)
    # Every tensor comes from the state: the weights that the training began with are not needed.
    fresh = Checkpoint(run.spec.name, None, FRESH)
    net, _ = build_backbone(run.spec, fresh, build_options(config, run.spec), 0)
    detector = build_detector(net, run.spec, config, (run.num_classes, has_masks), 0)
    try:
        detector.load_state_dict(tensors)
    except RuntimeError as error:
        raise PreflightError(f"The saved state is of another network: {error}") from error
    layout = torch.channels_last if run.channels_last else torch.contiguous_format
    detector.to(device, memory_format=layout).eval()
    return detector


def state_file(work: Path, num_steps: int) -> Path:
    """Return the file of the state that a run's last step left.

    Args:
        work: Folder of the run's states.
        num_steps: Steps of the training.

    Raises:
        PreflightError: The run kept no whole state of its last step.
    """
    _last_state(work, num_steps)
    path = StateFolder(work / STATES, {}).newest_file()
    assert path is not None
    return path


def _last_state(work: Path, num_steps: int) -> TrainingState:
    state = StateFolder(work / STATES, {}).finished()
    if state is None or state.step != num_steps:
        found = "no whole state" if state is None else f"a state of step {state.step:,}"
        raise PreflightError(
            f"{work / STATES} holds {found}, and the detector is that of step {num_steps:,}; train "
            "it again with --rerun all, or name another run."
        )
    return state


def export_detector(run: TrainedRun, out: Path, facts: Mapping[str, Any]) -> int:
    """Write a run's detector as detectron2's ``DetectionCheckpointer`` reads it.

    The file is a dict of "model", all tensors by their names in the detector, and "backbench".

    Args:
        run: The run.
        out: The file, for ``torch.load``.
        facts: Plain values that go into "backbench", for people and programs that rebuild it.

    Returns:
        How many tensors were written.

    Raises:
        PreflightError: As ``load_detector``; or the file cannot be written.
    """
    detector = load_detector(run, torch.device("cpu"))
    tensors = {name: value.contiguous() for name, value in detector.state_dict().items()}
    with atomic_file(out) as file:
        torch.save({"model": tensors, NOTES: dict(facts)}, file)
    return len(tensors)


def predict(
    run: TrainedRun, images: Sequence[Sample], monitor: Monitor, num_workers: int
) -> Detections:
    """Return what a run's detector finds in images, as its own evaluation would.

    Args:
        run: The run.
        images: Dataset dicts with ``file_name``, ``image_id``, ``height`` and ``width``.
        monitor: Hears of progress, may stop.
        num_workers: Loader processes.

    Raises:
        PreflightError: As ``load_detector``; or an image cannot be read.
        StoppedError: The monitor asked to stop.
    """
    with joined(monitor) as (device, quiet):
        choose_threads(device, num_workers)
        detector = load_detector(run, device)
        evaluation = run.config.resolved().evaluation
        found, _ = detect(detector, images, evaluation, quiet, num_workers=num_workers)
    return collect(found)


def sample_of(
    path: Path, image_id: int, reading: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return the dataset dict of an image file.

    Args:
        path: The file.
        image_id: Its id.
        reading: What ``CocoData.reading`` says of its data set; None turns it by its EXIF
            orientation.

    Raises:
        PreflightError: It is missing, damaged or no image.
    """
    try:
        image = open_stored(path.read_bytes())
        image = image if reading and reading.get("as_stored") else turn(image)
    except OSError as error:
        raise PreflightError(f"{path} cannot be read ({error.strerror}).") from error
    except DAMAGE as error:
        raise PreflightError(f"{path} cannot be decoded ({error}).") from error
    size = {"height": image.height, "width": image.width}
    return {
        "file_name": str(path),
        "image_id": image_id,
        **size,
        **(reading or {}),
        "annotations": [],
    }


def picture_of(
    path: Path, sample: Sample, found: Detections, class_names: Sequence[str], least_score: float
) -> None:
    """Write an image with what was found in it as a PNG, atomically.

    Args:
        path: Of the PNG.
        sample: Dataset dict of the image.
        found: Detections.
        class_names: In order of the class index.
        least_score: Lowest score that is drawn.

    Raises:
        PreflightError: The image cannot be read any more, or the file not be written.
    """
    picture = pixels_of(sample)
    shapes = surest_shapes(found, sample["image_id"], class_names, least_score)
    count = "1 detection" if len(shapes) == 1 else f"{len(shapes)} detections"
    caption = f"{Path(sample['file_name']).name}: {count}, score {least_score:g} or higher"
    with atomic_file(path) as file:
        draw_over(picture, shapes, caption).save(file, format="PNG")
