"""On which images weights were pretrained, in the words of the published figures."""

import re

from benchmarks.store.record import BackboneFacts

SMALL, LARGE = "ImageNet-1K", "ImageNet-22K"
# timm's tags name the data in pieces (https://github.com/huggingface/pytorch-image-models,
# "Pretrained weight tags"); all of ImageNet is called 21k or 22k.
_PIECES = {"in1k": SMALL, "in12k": "ImageNet-12K", "in21k": LARGE, "in22k": LARGE}
_FINE_TUNED = "_ft_"
# Tags that name the method alone: official files, all made on this.
_ON_SMALL = frozenset({"mae", "dino"})
_FOLDER = re.compile(r"imagenet|ilsvrc")


def pretraining_data(facts: BackboneFacts, tag: str) -> str:
    """Return what weights were pretrained on, "A, then B" where labels of B followed; "" unknown.

    Args:
        facts: Of the weights.
        tag: Of timm's weights; empty for others.
    """
    if facts.format != "timm":
        return SMALL if _is_small(facts.data) else facts.data
    if tag in _ON_SMALL:
        return SMALL
    return ", then ".join(_of_tag(part) for part in tag.split(_FINE_TUNED))


def _of_tag(part: str) -> str:
    """Return the data that a part of a tag names, or the part itself where we do not know it."""
    # The size of the images may follow: in1k_384.
    known = [_PIECES[piece] for piece in part.split("_") if piece in _PIECES]
    return known[-1] if known else part


def _is_small(name: str) -> bool:
    """Tell whether a folder or a recipe's word for data means ImageNet-1K."""
    lower = name.lower()
    return bool(_FOLDER.search(lower)) and not re.search(r"2[12]k|12k|\d+ ?%|100", lower)
