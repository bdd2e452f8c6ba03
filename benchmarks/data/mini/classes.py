"""The ten classes, and the photographs that objects and backgrounds are cut from."""

from dataclasses import dataclass

from benchmarks.data.mini.shapes import SHAPES

TEXTURES: dict[str, float] = {"brick": 1.8, "grass": 1.0, "page": 1.1, "gravel": 1.3, "coins": 2.8}
"""Photographs that fill objects, with photograph pixels per image pixel for a 64-pixel object:
chosen by eye so that about three bricks, lines, stones or coins lie side by side."""

TONES: dict[str, int] = {"brick": 115, "grass": 155, "page": 190, "gravel": 135, "coins": 170}
"""Mean grey level of a texture, from which objects stray by 25 and by a tint of 24 a channel: a
hint at the texture that colour alone cannot turn into a class, since two share each texture."""

BACKGROUNDS = ("astronaut", "camera", "chelsea", "coffee", "ihc", "rocket", "china", "flower")


@dataclass(frozen=True)
class ObjectClass:
    """A pairing of a shape and a texture."""

    shape: str
    texture: str

    @property
    def name(self) -> str:
        """Return the class's name, as ``"brick star"``."""
        return f"{self.texture} {self.shape}"


def _pairings() -> tuple[ObjectClass, ...]:
    textures = tuple(TEXTURES)
    return tuple(
        ObjectClass(shape, textures[(number + step) % len(textures)])
        for number, shape in enumerate(SHAPES)
        for step in (0, 1)
    )


CLASSES: tuple[ObjectClass, ...] = _pairings()
"""Each shape and each texture belongs to two classes, so neither alone tells the class."""
