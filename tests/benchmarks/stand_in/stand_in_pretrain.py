"""Pretraining that counts steps like the other stand-in, and writes a file of weights."""

from dataclasses import dataclass, field
from typing import ClassVar

from backbones.base.files import sha256_file
from backbones.checkpoint import Checkpoint, record_path, write_record
from benchmarks.data.roots import find_images_root
from benchmarks.task import Metric, TaskResult
from benchmarks.tasks.coco.task import Schedule, StandInTask


@dataclass(frozen=True)
class Config:
    protocol: str = "mae/v1+stand-in"
    method: str = "mae"
    backbone: str = "vit-nano"
    schedule: Schedule = field(default_factory=Schedule)


class StandInPretrain(StandInTask):
    name = "pretrain"
    headline = "loss"
    evaluators = ()
    data_kind = "images"
    columns = ("loss",)
    metrics: ClassVar = {"loss": Metric("1", higher_is_better=False)}

    def find_data(self, given):
        return find_images_root(given)

    def recipes(self):
        return {
            "mae-nano": Config,
            "lomar-nano": lambda: Config(protocol="lomar/v1+stand-in"),
            "esvit-nano": lambda: Config(protocol="esvit/v1+stand-in"),
        }

    def run(self, inputs, monitor):
        result = super().run(inputs, monitor)
        weights = inputs.out_dir / "weights.safetensors"
        weights.write_bytes(b"seed %d" % inputs.seed)
        checkpoint = Checkpoint(
            inputs.backbone.name, weights, sha256_file(weights), method="mae", data="mini", epochs=3
        )
        write_record(checkpoint)
        return TaskResult(metrics={"loss": 1.0}, cost=result.cost, curves=result.curves,
                          files=(weights, record_path(weights)))  # fmt: skip


TASK = StandInPretrain()
