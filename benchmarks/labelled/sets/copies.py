"""Labelled images that are copies of others: under another class, or in both splits."""

from pretrain.data.images import ImageSet


def say_copies(train: ImageSet, val: ImageSet) -> list[str]:
    """Return sentences on images that equal others byte for byte; none of those within shards.

    Args:
        train: Training images.
        val: Validation images.
    """
    found = [
        said for split, images in (("training", train), ("validation", val))
        if (said := _in_two_classes(split, images))
    ]  # fmt: skip
    known = set(train.digests)
    same = [number for number, digest in enumerate(val.digests) if digest in known]
    if same:
        found.append(
            f"{len(same)} of {len(val)} validation images are training images too, byte for byte "
            f"(first: {val.name_of(same[0])}), so the scores are too high."
        )
    return found


def _in_two_classes(split: str, images: ImageSet) -> str:
    """Say how many images have a copy of another class, empty for none."""
    first: dict[bytes, int] = {}
    wrong = []
    for number, digest in enumerate(images.digests):
        other = first.setdefault(digest, number)
        if other != number and images.label(other) != images.label(number):
            wrong.append((other, number))
    if not wrong:
        return ""
    one, two = (images.name_of(number) for number in wrong[0])
    return (
        f"{len(wrong)} of {len(images)} {split} images equal another byte for byte and have "
        f"another class (first: {one} and {two})."
    )
