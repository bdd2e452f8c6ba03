"""What a plan says of batches, memory, loaders and speed, before anything runs."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
_SMI = '#!/bin/sh\ncase "$*" in *memory.total*) echo {mib};; *) echo 0;; esac\n'


@pytest.fixture
def dry_run(tmp_path):
    def call(*arguments, gpus="", gib=80):
        tool = tmp_path / "nvidia-smi"
        tool.write_text(_SMI.format(mib=gib * 1024))
        tool.chmod(0o755)
        environment = {k: v for k, v in os.environ.items() if k != "OMP_NUM_THREADS"}
        environment |= {"CUDA_VISIBLE_DEVICES": gpus, "BACKBENCH_CORES": "16"}
        environment["PATH"] = f"{tmp_path}{os.pathsep}{environment['PATH']}"
        done = subprocess.run(
            [sys.executable, "benchmarks/run.py", *arguments, "--dry-run", "--out", tmp_path],
            cwd=ROOT, env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return [text for text in done.stdout.splitlines() if "images a step" in text]

    return call


VITDET = ("--tasks", "coco", "--entries", "vit-b16", "--recipe", "vitdet-12ep")


def test_memory_decides_how_many_images_a_gpu_will_hold(dry_run):
    (large,) = dry_run(*VITDET, gpus="0", gib=80)
    (little,) = dry_run(*VITDET, gpus="0", gib=24)
    assert "64 images a step = 1 processes x 2 micro-batches x 32 images (estimated" in large
    assert "of 80 GiB a process" in large
    assert "64 images a step = 1 processes x 8 micro-batches x 8 images (estimated" in little
    assert "of 24 GiB a process" in little
    assert "images/s (guessed from FLOPs)" in large


def test_processes_share_the_batch_and_loaders_the_cores(dry_run):
    (said,) = dry_run(
        *VITDET, "--executor", "local", "--processes", "8", "--workers", "7", gpus="0,1,2,3,4,5,6,7"
    )
    assert "64 images a step = 8 processes x 1 micro-batches x 8 images" in said
    assert "7 loader processes each" in said


def test_on_the_cpu_it_is_the_recipes_number(dry_run):
    both = dry_run("--tasks", "coco", "--entries", "vit-nano,swin-nano")
    assert len(both) == 2
    assert all("4 images a step = 1 processes x 1 micro-batches x 4 images; " in s for s in both)
    (asked,) = dry_run("pretrain", "mae-nano", "--set", "schedule.batch_size_per_device=4")
    assert "16 images a step = 1 processes x 4 micro-batches x 4 images (as asked)" in asked


def test_images_that_are_compared_are_all_held(dry_run):
    (said,) = dry_run("pretrain", "mocov3-nano", "--executor", "local", "--processes", "2")
    assert "64 images a step = 2 processes x 1 micro-batches x 32 images (compared at once)" in said
