"""``run.py list``: what there is to choose from."""

from pathlib import Path
from typing import Any

from backbones.base.registry import lookup
from backbones.catalog import list_specs
from backbones.weights.formats import FORMATS
from backbones.weights.layout import Format
from benchmarks import output
from benchmarks.entries import GROUPS
from benchmarks.options import ListOptions
from benchmarks.suites import all_suites, get_measurement, measurement_names
from benchmarks.text_table import Column, text_table


def main(options: ListOptions) -> int:
    """Run the command.

    Raises:
        UserError: The plug-in folder is wrong.
    """
    content = _content(options.plugins)
    if options.what:
        content = {name: lookup("list", name, content) for name in options.what}
    if options.json:
        output.document(content)
        return 0
    for heading, rows in content.items():
        columns = [Column(key, key) for key in rows[0]] if rows else []
        output.line(f"{heading}:")
        for text in text_table(columns, rows):
            output.line(f"  {text}")
        output.line()
    if options.what:
        return 0
    output.line(
        "Entries are backbones (fresh weights, or those of the package named), random:NAME for "
        "fresh ones always, timm:NAME for any network of timm with its pretrained weights, "
        "random:timm:NAME without, hf:OWNER/NAME, tv:NAME, ckpt:FILE?arch=NAME, and "
        "recipes of the task pretrain, which are run first (RECIPE?arch=NAME&seed=N). "
        f"Words for several entries: {'; '.join(map(_group, GROUPS))}."
    )
    return 0


def _group(name: str) -> str:
    return f"{name} ({', '.join(GROUPS[name])})"


def _format(form: Format) -> dict[str, str]:
    mean = "/".join(f"{value:g}" for value in form.norm[0]) if form.norm else "the backbone's"
    return {
        "format": form.name,
        "method": form.method,
        "project": form.project,
        "mean": mean,
        "positions": form.positions.about,
        "branches": ", ".join(name for name, _ in form.branches),
        "licence": form.licence,
        "link": form.link,
    }


def _content(plugins: Path | None) -> dict[str, list[dict[str, Any]]]:
    recipes = [
        {"recipe": name, "task": task, "protocol": make().protocol}
        for task in measurement_names()
        for name, make in get_measurement(task).recipes().items()
    ]
    backbones = [
        {
            "backbone": spec.name,
            "layout": spec.layout,
            "layers": str(spec.num_layers),
            "weights": spec.weights.package if spec.weights else "fresh",
        }
        for spec in list_specs(plugins)
    ]
    suites = [
        {"suite": suite.name, "tasks": ", ".join(suite.tasks), "about": suite.about}
        for suite in all_suites().values()
    ]
    return {
        "suites": suites,
        "backbones": backbones,
        "recipes": recipes,
        "formats": [_format(form) for form in FORMATS.values()],
    }
