"""A tiny COCO data set that tests can bend before it is written."""

import copy
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from backbones.checkpoint import FRESH, Checkpoint
from backbones.spec import BackboneSpec
from detection.config import DetectionConfig
from detection.data.dataset import find_coco
from detection.recipes import mini

HERE = Path(__file__).parent
SQUARE = [10.0, 10.0, 40.0, 10.0, 40.0, 30.0, 10.0, 30.0]


def content(num_images: int = 4, *, masks: bool = True) -> dict[str, Any]:
    """Images of 64 x 48 with two objects each; category ids have a gap; every fourth crowd."""
    images, annotations = [], []
    for image in range(1, num_images + 1):
        images.append({"id": image, "file_name": f"{image}.png", "width": 64, "height": 48})
        for place in range(2):
            number = 10 * image + place
            x = 4.0 * place
            annotation: dict[str, Any] = {
                "id": number,
                "image_id": image,
                "category_id": (2, 7)[(image + place) % 2],
                "bbox": [10.0 + x, 10.0, 30.0, 20.0],
                "area": 600.0,
                "iscrowd": 0,
            }
            if masks:
                moved = [v + x if i % 2 == 0 else v for i, v in enumerate(SQUARE)]
                annotation["segmentation"] = [moved]
            annotations.append(annotation)
    categories = [{"id": 7, "name": "dog"}, {"id": 2, "name": "cat"}]
    return {"images": images, "annotations": annotations, "categories": categories}


@pytest.fixture
def coco_content() -> Callable[..., dict[str, Any]]:
    return content


def write_files(root: Path, train: Any = None, val: Any = None) -> None:
    """Write a data set from its two annotation files' contents."""
    for split, given in (("train", train), ("val", val)):
        held = copy.deepcopy(given) if given is not None else content()
        path = root / "annotations" / f"instances_{split}2017.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(held))
        folder = root / f"{split}2017"
        folder.mkdir(exist_ok=True)
        for image in held["images"]:
            pixels = np.random.default_rng(image["id"]).integers(
                0, 256, (image["height"], image["width"], 3), dtype=np.uint8
            )
            Image.fromarray(pixels).save(folder / image["file_name"])


@pytest.fixture
def write_coco(tmp_path: Path) -> Callable[..., Path]:
    """Return a writer of data sets, each in a folder of its own name."""

    def write(train: Any = None, val: Any = None, name: str = "coco") -> Path:
        write_files(tmp_path / name, train, val)
        return tmp_path / name

    return write


@pytest.fixture
def plain_spec() -> BackboneSpec:
    """A plain ViT of two blocks."""
    from backbones.vit.config import ViTConfig
    from backbones.vit.network import VisionTransformer

    shape = ViTConfig(embed_dim=32, num_layers=2, num_heads=2, patch_size=16)
    return BackboneSpec(
        name="toy-plain",
        build=lambda options: VisionTransformer(shape, options),
        layout="plain",
        strides=(16,),
        channels=(32,),
        num_layers=2,
        source="these tests",
    )


@pytest.fixture
def toy_config() -> DetectionConfig:
    """The mini recipe at 64 pixels, with steps of 4 images in micro-batches of 2."""
    config = mini()
    return replace(
        config,
        data=replace(config.data, img_size=64, scale_range=(0.8, 1.25)),
        model=replace(config.model, channels=32, box_fcs=(32,), window_size=0),
        schedule=replace(
            config.schedule, epochs=4.0, batch_size=4, batch_size_per_device=2, warmup_images=0
        ),
        evaluation=replace(config.evaluation, batch_size_per_device=2),
    ).resolved()


@pytest.fixture
def toy_batch() -> Callable[..., list[dict[str, Any]]]:
    """Return a maker of batches: noise with two objects an image, three classes."""
    import torch
    from detectron2.structures import BitMasks, Boxes, Instances

    def make(num_images: int = 2, *, side: int = 64, seed: int = 0, masks: bool = True) -> Any:
        generator = torch.Generator().manual_seed(seed)
        batch = []
        for number in range(num_images):
            corners = torch.randint(0, side // 2, (2, 2), generator=generator).float()
            sizes = torch.randint(12, side // 2, (2, 2), generator=generator).float()
            instances = Instances((side, side))
            instances.gt_boxes = Boxes(torch.cat([corners, corners + sizes], dim=1))
            instances.gt_classes = torch.randint(0, 3, (2,), generator=generator)
            if masks:
                drawn = torch.zeros(2, side, side, dtype=torch.bool)
                for mask, (x, y), (w, h) in zip(drawn, corners.int(), sizes.int(), strict=True):
                    mask[y : y + h, x : x + w] = True
                instances.gt_masks = BitMasks(drawn)
            image = torch.randint(0, 256, (3, side, side), generator=generator, dtype=torch.uint8)
            batch.append(
                {
                    "image": image,
                    "instances": instances,
                    "image_id": number,
                    "height": side,
                    "width": side,
                }
            )
        return batch

    return make


@pytest.fixture
def fit_detector() -> Callable[..., Any]:
    """Return a trainer of detectors by the loop that all trainings share."""
    from backbones.training.engine import fit
    from backbones.training.fitted import Fitted
    from backbones.training.schedules import Plan
    from backbones.training.session import scalar_writer
    from backbones.training.state import StateFolder
    from backbones.training.stream import Loaded
    from detection.objective import DetectionObjective, detector_groups, make_training

    def run(
        detector: Any,
        config: DetectionConfig,
        plan: Plan,
        folder: Path,
        batches: Callable[[int], Iterator[list[dict[str, Any]]]],
        monitor: Any,
        seed: int = 1,
    ) -> Fitted:
        """Train on lists of detectron2's dicts from a step on, states and curves in ``folder``."""

        def loaded(step: int) -> Iterator[Loaded]:
            for samples in batches(step):
                yield Loaded({"samples": samples}, [item["image_id"] for item in samples])

        with scalar_writer(folder) as writer:
            objective = DetectionObjective(detector, config.optim, writer)
            groups = detector_groups(objective, config.optim)
            training = make_training(objective, groups, plan, config, seed)
            states = StateFolder(folder / "states", {"run": "me"})
            return fit(training, states, loaded, monitor, writer=writer)

    return run


@pytest.fixture
def make_job() -> Callable[..., Any]:
    """Return a maker of runs on a data set that start from fresh weights."""
    from detection.transfer import TransferJob

    def make(root: Path, out: Path, spec: BackboneSpec, config: DetectionConfig) -> Any:
        return TransferJob(
            spec=spec,
            checkpoint=Checkpoint(spec.name, None, FRESH, source=spec.name),
            config=config,
            data=find_coco(root),
            out_dir=out,
            seed=0,
            cache=out.parent / "cache",
            num_workers=0,
        )

    return make


@pytest.fixture
def launch_together() -> Callable[..., dict[str, Any]]:
    """Return a runner of scripts as several processes over gloo."""

    def launch(script: str, world_size: int, arguments: list[str]) -> dict[str, Any]:
        """Run a script of this folder so; return what the first process printed."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        environment = {
            **os.environ,
            "PYTHONPATH": str(HERE.parents[1]),
            "OMP_NUM_THREADS": "1",
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
            "WORLD_SIZE": str(world_size),
            "LOCAL_WORLD_SIZE": str(world_size),
        }
        processes = [
            subprocess.Popen(
                [sys.executable, "-W", "ignore", str(HERE / script), *arguments],
                env={**environment, "RANK": str(number), "LOCAL_RANK": str(number)},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for number in range(world_size)
        ]
        outputs = [process.communicate(timeout=300) for process in processes]
        assert [p.returncode for p in processes] == [0] * world_size, outputs
        found: dict[str, Any] = json.loads(outputs[0][0].splitlines()[-1])
        return found

    return launch
