"""A trained detector as a graph that runs without this program: TorchScript or ONNX.

Both are made by detectron2's own ``TracingAdapter``. A trace holds one way through the network, so
that every export is run at another image size first and compared with the detector.
"""

import json
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from detectron2.export import TracingAdapter
from torch import Tensor, nn

from backbones.base.errors import PreflightError, UserError
from backbones.base.files import atomic_file
from backbones.base.traces import written_as_graph
from detection.model.detector import Detector
from detection.model.roi_align import SeparableRoIAlign
from detection.trained import TrainedRun, load_detector

OUTPUTS = ("boxes", "classes", "scores", "masks")
# Of the file's notes within a TorchScript archive, and the key of the same in an ONNX model.
NOTES_FILE = "backbench.json"
# The first operator set with a RoIAlign that samples as detectron2's does (aligned).
_OPSET = 16
# Other kernels compute the same sums in another order: coordinates in pixels and scores differ by
# this, and a detection at the edge of suppression may come or go.
_TOLERANCE = 1e-2
_LEAST_SHARED = 0.95

Runner = Callable[[Tensor], list[Tensor]]


@dataclass(frozen=True)
class TracedDetector:
    """What was written.

    Attributes:
        outputs: Names of the outputs, in their order.
        compared: What the file was compared with, in words.
    """

    outputs: tuple[str, ...]
    compared: str


def export_traced(
    run: TrainedRun, out: Path, layout: str, facts: Mapping[str, Any]
) -> TracedDetector:
    """Write a run's detector as a graph with the image as its input.

    The input is one RGB image, float32 of shape (3, H, W) with values from 0 to 255, resized as the
    recipe's evaluation does. The outputs are ``OUTPUTS``: boxes (N, 4) xyxy in pixels of the input,
    class indices (N,), scores (N,) and, with a mask head, probabilities (N, 1, 28, 28) of each box.

    Args:
        run: The run.
        out: The file.
        layout: "torchscript" or "onnx".
        facts: Plain values that are kept in the file.

    Raises:
        UserError: The network cannot be traced, or its trace finds something else.
        PreflightError: As ``load_detector``; ONNX is not installed, or the file cannot be written.
    """
    if layout == "onnx":
        _import_onnx()
    detector = load_detector(run, torch.device("cpu"))
    _use_upstream_pooling(detector)
    evaluation = run.config.resolved().evaluation
    long, short = evaluation.short_side, max(1, evaluation.short_side * 3 // 4)
    generator = torch.Generator().manual_seed(0)
    first, other = (
        255 * torch.rand((3, *size), generator=generator) for size in ((short, long), (long, short))
    )
    with warnings.catch_warnings(), torch.no_grad():
        # On sizes that a trace fixes; the comparison below tells whether it matters.
        warnings.simplefilter("ignore")
        with _every_score(detector):
            compared = _compare(detector, _written(detector, first, layout), other, layout)
        content = _written(detector, first, layout, facts)
    with atomic_file(out) as file:
        file.write(content)
    return TracedDetector(_outputs_of(detector), compared)


def _outputs_of(detector: Detector) -> tuple[str, ...]:
    return OUTPUTS if detector.roi_heads.mask_on else OUTPUTS[:-1]


def _detect(detector: Detector, inputs: list[dict[str, Tensor]]) -> tuple[Tensor, ...]:
    found = detector.inference(inputs, do_postprocess=False)[0]
    plain = found.pred_boxes.tensor, found.pred_classes, found.scores
    return (*plain, found.pred_masks) if detector.roi_heads.mask_on else plain


def _written(
    detector: Detector, image: Tensor, layout: str, facts: Mapping[str, Any] | None = None
) -> bytes:
    """Return the bytes of a detector's graph.

    Raises:
        UserError: The network cannot be traced.
    """
    adapter = TracingAdapter(detector, [{"image": image}], _detect).eval()
    write = _onnx_of if layout == "onnx" else _torchscript_of
    try:
        with _silent(), written_as_graph():
            return write(adapter, image, json.dumps(dict(facts or {})), _outputs_of(detector))
    except (RuntimeError, TypeError, torch.onnx.OnnxExporterError) as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        why = lines[0].partition(". Remove calls")[0] if lines else type(error).__name__
        raise UserError(
            f"This detector cannot be written as {layout} ({why[:200]}); use --format detectron2."
        ) from error


@contextmanager
def _silent() -> Iterator[None]:
    """Keep standard output free: torch's C++ prints a whole graph where it knows no operator."""
    sys.stdout.flush()
    kept, nowhere = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 1)
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
        os.close(nowhere)


def _torchscript_of(
    adapter: nn.Module, image: Tensor, notes: str, outputs: tuple[str, ...]
) -> bytes:
    del outputs  # a tuple without names
    buffer = BytesIO()
    traced = torch.jit.trace(adapter, (image,), check_trace=False)  # type: ignore[no-untyped-call]
    torch.jit.save(traced, buffer, _extra_files={NOTES_FILE: notes})
    return buffer.getvalue()


def _onnx_of(adapter: nn.Module, image: Tensor, notes: str, outputs: tuple[str, ...]) -> bytes:
    onnx = _import_onnx()
    buffer = BytesIO()
    torch.onnx.export(
        adapter,
        (image,),
        buffer,  # type: ignore[arg-type]
        opset_version=_OPSET,
        input_names=["image"],
        output_names=list(outputs),
        dynamic_axes={"image": {1: "height", 2: "width"}},
        dynamo=False,
    )
    model = onnx.load_model_from_string(buffer.getvalue())
    onnx.helper.set_model_props(model, {NOTES_FILE: notes})
    onnx.checker.check_model(model)
    content: bytes = model.SerializeToString()
    return content


def _compare(detector: Detector, content: bytes, image: Tensor, layout: str) -> str:
    """Run a graph on an image of another size than it was traced with.

    Raises:
        UserError: It does not find what the detector finds.
    """
    run = _onnx_runner(content) if layout == "onnx" else _torchscript_runner(content)
    if run is None:
        return "not compared with the detector, because onnxruntime is not installed"
    own = _detect(detector, [{"image": image}])
    found = run(image)[: len(own)]
    pairs = list(zip(own, found, strict=True))
    if all(torch.equal(one, other) for one, other in pairs):
        return f"equal to the detector to the bit ({len(own[0])} detections)"
    same = _shared(own, found)
    if same < _LEAST_SHARED * max(len(own[0]), len(found[0])):
        raise UserError(
            f"This detector cannot be written as {layout}: at another image size, {same} of its "
            f"{len(own[0])} detections are those of its graph; use --format detectron2."
        )
    return f"{same} of {len(own[0])} detections equal to the detector's within {_TOLERANCE:g}"


def _shared(own: Sequence[Tensor], found: Sequence[Tensor]) -> int:
    """Return how many detections two results share, whatever their order."""
    boxes = (own[0][:, None] - found[0][None]).abs().amax(-1)
    scores = (own[2][:, None] - found[2][None]).abs()
    classes = own[1][:, None] == found[1][None]
    return int(((boxes <= _TOLERANCE) & (scores <= _TOLERANCE) & classes).any(1).sum())


def _torchscript_runner(content: bytes) -> Runner:
    module = torch.jit.load(BytesIO(content))  # type: ignore[no-untyped-call]
    return lambda image: list(module(image))


def _onnx_runner(content: bytes) -> Runner | None:
    try:
        import onnxruntime
    except ImportError:
        return None
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    return lambda image: [
        torch.from_numpy(value) for value in session.run(None, {"image": image.numpy()})[:4]
    ]


def _import_onnx() -> Any:
    try:
        import onnx
    except ImportError as error:
        raise PreflightError(
            "--format onnx needs the package onnx, which is not installed; install it with "
            "pip install onnx onnxruntime."
        ) from error
    return onnx


def _use_upstream_pooling(detector: Detector) -> None:
    """Put detectron2's RoIAlign back, which both exporters know."""
    for module in list(detector.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, SeparableRoIAlign):
                setattr(module, name, child.fallback)


@contextmanager
def _every_score(detector: Detector) -> Iterator[None]:
    """Let a detector keep detections of any score, so that there is something to compare."""
    heads = detector.roi_heads.box_predictor
    predictors = list(heads) if isinstance(heads, nn.ModuleList) else [heads]
    before = [predictor.test_score_thresh for predictor in predictors]
    try:
        for predictor in predictors:
            predictor.test_score_thresh = 0.0
        yield
    finally:
        for predictor, score in zip(predictors, before, strict=True):
            predictor.test_score_thresh = score
