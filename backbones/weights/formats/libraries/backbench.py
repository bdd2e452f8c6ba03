"""Our own files: the backbone's names as they are, with a record next to the weights."""

from backbones.weights.layout import Format

FORMAT = Format(name="backbench", project="Backbench", link="docs/backbones.md", licence="")
