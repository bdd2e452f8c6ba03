"""Leaderboard entries: a backbone and where its weights come from."""

import re
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import unquote_plus

from backbones.base.errors import UserError
from backbones.base.files import path_of
from backbones.weights.source import has_weights, is_backbone
from benchmarks.task import PRETRAIN
from pretrain.catalog import recipes

KINDS = ("random", "timm", "ckpt", "hf", "tv", PRETRAIN)

# Options of a source that hold three numbers, whose commas end no entry.
_NUMBERS = re.compile(r"[?&](mean|std)=[\d.]+(,[\d.]+)?$")
# Files that every trainer calls so; the folder above tells them apart.
_USUAL = frozenset(
    {"weights", "model", "pytorch_model", "checkpoint", "last", "best", "model_best"}
)

# Words for several entries that answer one question together.
GROUPS = {
    # Does pretraining help? Each network fresh, then by images alone, then by labels.
    "mini-pretraining": (
        *("vit-nano", "mae-nano", "lomar-nano", "supervised-nano"),
        *("swin-nano", "simmim-nano", "esvit-nano", "supervised-nano?arch=swin-nano"),
    ),
    # The same of every nano network and every method, for a table of the region probe.
    "nano": (
        *("vit-nano", "mae-nano", "lomar-nano", "dino-nano", "simmim-nano?arch=vit-nano"),
        *("mocov3-nano", "supervised-nano"),
        *("swin-nano", "simmim-nano", "esvit-nano", "supervised-nano?arch=swin-nano"),
        *("resnet-nano", "mocov3-resnet-nano", "supervised-nano?arch=resnet-nano"),
    ),
}


@dataclass(frozen=True)
class Entry:
    """What a person put on the leaderboard.

    Attributes:
        source: As ``backbones.weights.source.open_checkpoint`` reads it: ``NAME`` and
            ``random:NAME`` are fresh weights (``NAME`` those of a package, where the backbone has
            one), ``timm:NAME`` timm's pretrained ones, ``ckpt:FILE?…`` a file; or
            ``pretrain:RECIPE``, whose weights another run of the same store makes first.
        num_folders: So many of a file's folders are part of the name.
    """

    source: str
    num_folders: int = 0

    @property
    def name(self) -> str:
        """Shown in tables: the source, without the folders of a file but the last few."""
        kind, separator, rest = self.source.partition(":")
        named = re.search(r"[?&]name=([^&]+)", rest) if kind != PRETRAIN else None
        if named:
            return unquote_plus(named[1])
        if kind != "ckpt" or not separator:
            if kind == PRETRAIN:
                return rest
            # timm:NAME alone would mean timm's pretrained weights, as some names mean a package's.
            bare = kind == "random" and ":" not in rest and not has_weights(rest)
            return rest if bare else self.source
        file, mark, options = rest.partition("?")
        path = Path(file)
        # A name that stands by itself, so that a second file does not rename the first.
        folders = self.num_folders + (path.name.partition(".")[0] in _USUAL)
        shown = "/".join(path.parts[-1 - folders :])
        return f"ckpt:{shown}{mark}{options}"


def parse_entries(texts: list[str]) -> list[Entry]:
    """Return the entries of a comma list, each once, in order.

    A pretraining recipe alone, with options or without, means ``pretrain:`` and the same; the name
    of a group means its entries.

    Args:
        texts: The pieces of the list.

    Raises:
        UserError: A piece is empty or has an unknown kind.
    """
    entries: dict[str, Entry] = {}
    pieces = _joined([piece.strip() for piece in texts])
    for text in (text for piece in pieces for text in GROUPS.get(piece, (piece,))):
        kind, separator, rest = text.partition(":")
        if not text or (separator and not rest):
            raise UserError(f"--entries has an empty entry ({text!r}); separate names by commas.")
        if separator and kind not in KINDS:
            raise UserError(
                f"--entries {text}: unknown kind {kind!r}. Write NAME, random:NAME, timm:NAME, "
                "hf:OWNER/NAME, tv:NAME, pretrain:RECIPE or ckpt:FILE?arch=NAME."
            )
        named = text.partition("?")[0] in recipes()
        if not separator and not named:
            _suggest_recipe(text)
        entry = Entry(f"{PRETRAIN}:{text}" if named else absolute_source(text))
        entries.setdefault(entry.source if kind == "ckpt" else entry.name, entry)
    return _told_apart(list(entries.values()))


def _suggest_recipe(text: str) -> None:
    """Raise for a name that begins like pretraining recipes and is no backbone.

    Raises:
        UserError: With the recipe that was probably meant.
    """
    found = [name for name in recipes() if name.startswith(f"{text}-")]
    longer = min(found, key=lambda name: (len(name), name), default="")
    if longer and not is_backbone(text):
        raise UserError(f'--entries {text}: there is no "{text}". Did you mean "{longer}"?')


def _joined(pieces: list[str]) -> list[str]:
    """Put the three numbers of mean= and std= together again, which the comma list has split."""
    joined: list[str] = []
    for piece in pieces:
        if joined and _NUMBERS.search(joined[-1]) and re.match(r"[\d.]+(&|$)", piece):
            joined[-1] += f",{piece}"
        else:
            joined.append(piece)
    return joined


def _told_apart(entries: list[Entry]) -> list[Entry]:
    """Return entries with names of their own: files of one name get folders until they differ."""
    names = Counter(entry.name for entry in entries)
    if max(names.values(), default=0) < 2:
        return entries
    return _told_apart(
        [
            replace(entry, num_folders=entry.num_folders + 1) if names[entry.name] > 1 else entry
            for entry in entries
        ]
    )


def absolute_source(source: str) -> str:
    """Return a source that means the same file from any working folder."""
    kind, _, rest = source.partition(":")
    if kind != "ckpt":
        return source
    file, mark, options = rest.partition("?")
    return f"ckpt:{path_of(file).absolute()}{mark}{options}"
