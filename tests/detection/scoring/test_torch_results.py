"""Detections that torch.save wrote, as torchvision's references collect them."""

from pathlib import Path
from typing import Any

import numpy as np
import pycocotools.mask as rle_tools
import pytest
import torch

from backbones.base.errors import PreflightError, UserError
from detection.scoring.results.scoring import open_results, score_results
from detection.scoring.results.truth import ScoringTruth
from tests.detection.scoring.made import HEIGHT, WIDTH, by_pycocotools, corners


def test_torchvision_detections_are_scored_as_its_references_do(
    content: Any, scoring: ScoringTruth, tmp_path: Path
) -> None:
    outputs: dict[int, dict[str, torch.Tensor]] = {}
    for image_id in {one["image_id"] for one in content[1]}:
        own = [one for one in content[1] if one["image_id"] == image_id]
        masks = [rle_tools.decode(one["segmentation"]) for one in own]
        outputs[image_id] = {
            "boxes": torch.tensor([corners(one) for one in own]),
            "labels": torch.tensor([one["category_id"] for one in own]),
            "scores": torch.tensor([one["score"] for one in own]),
            "masks": torch.from_numpy(np.stack(masks))[:, None] * 0.9,
        }
    path = tmp_path / "results.pt"
    torch.save(outputs, path)
    found = score_results(open_results(path, scoring), scoring, tmp_path, "hotcoco")
    # references/detection/coco_eval.py, prepare_for_coco_detection and _segmentation.
    written = [
        {
            "image_id": image_id,
            "category_id": label,
            "bbox": box,
            "score": value,
            "segmentation": mask,
        }
        for image_id, output in outputs.items()
        for label, box, value, mask in zip(
            output["labels"].tolist(),
            torch.cat(
                [output["boxes"][:, :2], output["boxes"][:, 2:] - output["boxes"][:, :2]], dim=1
            ).tolist(),
            output["scores"].tolist(),
            [
                {**rle, "counts": rle["counts"].decode()}
                for mask in output["masks"]
                for rle in [
                    rle_tools.encode(np.asfortranarray((mask[0] > 0.5).numpy().astype("u1")))
                ]
            ],
            strict=True,
        )
    ]
    boxes = [{k: v for k, v in one.items() if k != "segmentation"} for one in written]
    masks_only = [{k: v for k, v in one.items() if k != "bbox"} for one in written]
    truth = tmp_path / "truth.json"
    assert found.metrics["APbox"] == pytest.approx(
        by_pycocotools(truth, boxes, "bbox")[0], abs=1e-9
    )
    wanted = by_pycocotools(truth, masks_only, "segm")[0]
    assert found.metrics["APmask"] == pytest.approx(wanted, abs=1e-9)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda o: [o], "holds no dict"),
        (lambda o: {"a": o}, "no whole number"),
        (lambda o: {4: {**o, "scores": o["scores"][:1]}}, "has 1 scores and 2 boxes"),
        (lambda o: {4: {**o, "boxes": o["boxes"][0]}}, "no tensor boxes of 2 dimensions"),
        (lambda o: {4: {**o, "scores": o["scores"] / 0}}, "NaN or infinity in scores"),
        (lambda o: {4: {**o, "masks": torch.zeros(1, 1, HEIGHT, WIDTH)}}, "one mask for each box"),
        (lambda o: {4: {**o, "masks": torch.zeros(2, 1, 8, 8)}}, "drawn at another size"),
        (lambda o: {5: o}, "image_id that the data do not have"),
    ],
)
def test_torch_files_that_are_something_else_are_refused(
    change: Any, words: str, scoring: ScoringTruth, tmp_path: Path
) -> None:
    output = {
        "boxes": torch.tensor([[3.0, 4, 50, 60], [5, 6, 90, 80]]),
        "labels": torch.tensor([7, 3]),
        "scores": torch.tensor([0.5, 0.4]),
    }
    torch.save(change(output), tmp_path / "results.pt")
    with pytest.raises(PreflightError, match=words):
        open_results(tmp_path / "results.pt", scoring)
    (tmp_path / "results.pt").write_bytes(b"PK\x03\x04 truncated")
    with pytest.raises(UserError, match=r"results\.pt"):
        open_results(tmp_path / "results.pt", scoring)
