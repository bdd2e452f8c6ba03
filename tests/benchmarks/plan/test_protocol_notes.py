"""A plan says why a network is measured by another protocol than the recipe's."""

from pathlib import Path

import pytest

from benchmarks.commands.plan_view import plan_lines
from benchmarks.entries import parse_entries
from benchmarks.plan.assemble import PlanRequest, assemble
from benchmarks.plan.plan import Cell
from benchmarks.suites import choose_suite


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ("vit-nano", ""),
        ("random:timm:hiera_tiny_224", "images are padded to squares of 128 pixels"),
    ],
)
def test_squares_are_said_in_the_plan(
    entry: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DETECTRON2_DATASETS", raising=False)
    suite = choose_suite("all", ["regions"])
    order = PlanRequest(suite, entries=parse_entries([entry]))
    (request,) = assemble(order, tmp_path)
    notes = [note for note in request.notes if note.startswith("protocol: ")]
    assert len(notes) == bool(said)
    assert said in "".join(notes)
    assert "square" in request.protocol or not said
    cell = Cell(request, "missing")
    shown = [line for line in plan_lines([cell], [cell], False) if line.startswith("protocol: ")]
    assert shown == notes
