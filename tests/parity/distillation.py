"""The losses of DINO and EsViT from their formulas: one pair of rows, one prototype at a time."""

import math

import torch
from torch import Tensor

from tests.parity.conftest import Weights, gelu, linear


def unit(x: Tensor) -> Tensor:
    return x / torch.sqrt((x * x).sum())


def project(x: Tensor, w: Weights, name: str) -> Tensor:
    """One vector through a head's three layers, onto the sphere."""
    x = gelu(linear(x, w, f"{name}.mlp.0"))
    x = gelu(linear(x, w, f"{name}.mlp.2"))
    return unit(linear(x, w, f"{name}.mlp.4"))


def logits(x: Tensor, w: Weights, name: str) -> Tensor:
    projected = project(x, w, name)
    lengths, directions = w[f"{name}.last_layer.weight_g"], w[f"{name}.last_layer.weight_v"]
    return torch.stack(
        [
            length[0] * (unit(direction) @ projected)
            for length, direction in zip(lengths, directions, strict=True)
        ]
    )


def shares(x: Tensor) -> Tensor:
    e = torch.exp(x - x.max())
    return e / e.sum()


def cross_entropy(target: Tensor, student: Tensor) -> Tensor:
    probs = shares(student)
    return -sum(t * torch.log(p) for t, p in zip(target, probs, strict=True))


def entropy(target: Tensor, student: Tensor) -> Tensor:
    """What is left of the cross-entropy where the student's answer plays no part."""
    del student
    return -sum(t * torch.log(t) for t in target if t > 0)


def most_similar(region: Tensor, others: Tensor) -> int:
    cosines = [float(unit(region.detach()) @ unit(other.detach())) for other in others]
    return cosines.index(max(cosines))


def distance(
    w: Weights, student: list, teacher: list, level: str, temperatures, measure=cross_entropy
) -> Tensor:
    """Mean over images and pairs of crops of the mean over the student's rows.

    Args:
        w: Everything by name.
        student: By image, by crop: rows (N, C).
        teacher: By image, by global crop: likewise.
        level: "view" or "region".
        temperatures: Student's, teacher's.
        measure: Of the teacher's distribution and the student's logits.
    """
    head = {"view": "head", "region": "region_head"}[level]
    center, total, terms = w[f"{level}_center"], 0.0, 0
    for crops, globals_ in zip(student, teacher, strict=True):
        said = [
            [
                shares((logits(row, w, f"teacher.{head}") - center) / temperatures[1]).detach()
                for row in rows
            ]
            for rows in globals_
        ]
        for i, rows in enumerate(globals_):
            for v, own in enumerate(crops):
                if v == i:
                    continue
                terms += 1
                part = 0.0
                for row in own:
                    match = most_similar(row, rows) if level == "region" else 0
                    answer = logits(row, w, f"student.{head}") / temperatures[0]
                    part = part + measure(said[i][match], answer)
                total = total + part / len(own)
    return total / terms


def crops_of(count: int, large: tuple, small: tuple, num_local: int, seed: int = 1) -> dict:
    generator = torch.Generator().manual_seed(seed)
    batch = {"global": torch.randn(count, 2, 3, *large, generator=generator, dtype=torch.float64)}
    if num_local:
        shape = (count, num_local, 3, *small)
        batch["local"] = torch.randn(shape, generator=generator, dtype=torch.float64)
    return batch


def encoded(objective, w: Weights, batch: dict, branch: str, encode) -> tuple[list, list]:
    """Return by image and crop: pooled (1, D) and regions (N, C), each crop encoded by itself.

    Args:
        objective: For the shape of its backbone.
        w: Everything by name.
        batch: Of crops.
        branch: "student" or "teacher", who sees the global crops alone.
        encode: (backbone, image (1, 3, H, W)) to pooled (1, D) and regions (1, N, C).
    """
    backbone, stem = getattr(objective, branch).backbone, f"{branch}.backbone."
    own = {k.removeprefix(stem): v for k, v in w.items() if k.startswith(stem)}
    pooled, regions = [], []
    for image in range(len(batch["global"])):
        crops = list(batch["global"][image])
        if branch == "student" and "local" in batch:
            crops += list(batch["local"][image])
        found = [encode(backbone, own, crop[None]) for crop in crops]
        pooled.append([one for one, _ in found])
        regions.append([one[0] for _, one in found])
    return pooled, regions


def cosine_to_1(start: float, progress: float) -> float:
    return 1 - (1 - start) * (math.cos(math.pi * progress) + 1) / 2
