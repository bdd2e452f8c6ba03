"""``run.py export``: our weights, and detectors of finished runs, for others' code."""

import warnings
from typing import Any

from backbones.base.errors import UserError
from benchmarks import output
from benchmarks.commands.status import open_store
from benchmarks.options import ExportOptions
from benchmarks.work.detectors import (
    NUMBERED,
    FoundDetector,
    annotations_of,
    category_ids_of,
    find_detector,
)
from benchmarks.work.starts import trained_on

_DETECTION = "detectron2"
_TRACED = ("torchscript", "onnx")


def main(options: ExportOptions) -> int:
    """Run the command.

    Raises:
        UserError: Layout and weights do not go together, no run or several are called so, or a
            file cannot be read or written.
    """
    of_run = options.layout in (_DETECTION, *_TRACED)
    sentence = _detector(options) if of_run else _weights(options)
    if options.json:
        output.document({"written": str(options.out), "layout": options.layout})
    else:
        output.line(output.clean(sentence))
    return 0


def _weights(options: ExportOptions) -> str:
    if not options.source.is_file():
        raise UserError(f"There is no file {options.source}.")
    # torch is imported only here, so that a mistyped name is reported at once.
    from pretrain.objective_file import export

    return export(options.source, options.layout, options.out, options.plugins)


def _portable(source: str) -> str:
    """Return an entry's source where other machines know it: not that of a file here."""
    return "" if source.startswith("ckpt:") else source


def _detector(options: ExportOptions) -> str:
    if options.source.is_file():
        raise UserError(
            f"--format {options.layout} writes the detector of a finished detection run; name an "
            f"entry or a run id instead of the file {options.source}."
        )
    if options.out.is_dir():
        raise UserError(f"--to {options.out} is a folder; name a file, for example detector.pth.")
    store = open_store(options.runs)
    detector = find_detector(store, str(options.source), options.plugins)
    own = annotations_of(store, detector, ())
    categories = category_ids_of(detector, own)
    if own is None:
        output.note(NUMBERED)
    spec = detector.record.spec
    facts = {
        "run": detector.record.run_id,
        "entry": detector.record.labels.entry,
        "source": _portable(detector.folder.read_request().source),
        "weights_sha256": spec.weights_sha256,
        "recipe_name": detector.record.labels.recipe,
        "protocol": detector.record.labels.protocol,
        "data": detector.record.labels.data,
        "data_fingerprint": trained_on(spec),
        "backbone": spec.backbone,
        "mean": list(detector.spec.mean),
        "std": list(detector.spec.std),
        "recipe": dict(spec.recipe),
        "categories": [{"id": number, "name": name} for number, name in categories.items()],
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the libraries' own, about each other
        # torch is imported only here, so that a mistyped name is reported at once.
        return _write(options, detector, facts)


def _write(options: ExportOptions, detector: FoundDetector, facts: dict[str, Any]) -> str:
    from detection.trained import TrainedRun, export_detector

    run = TrainedRun(**detector.trained())
    of = f"run {detector.record.run_id}"
    if options.layout == _DETECTION:
        count = export_detector(run, options.out, facts)
        return f"{options.out}: {count} tensors of the detector of {of}."
    from detection.traced import export_traced

    evaluation = run.config.resolved().evaluation
    facts |= {"short_side": evaluation.short_side, "max_size": evaluation.max_size}
    written = export_traced(run, options.out, options.layout, facts)
    return (
        f"{options.out}: the detector of {of} as {options.layout}, {written.compared}. Input: RGB "
        f"image (3, H, W) from 0 to 255, short side {evaluation.short_side}, long side at most "
        f"{evaluation.max_size}; outputs: {', '.join(written.outputs)}."
    )
