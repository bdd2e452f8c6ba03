"""Which detection recipe a backbone gets when nobody names one. Imports no torch."""

from backbones.spec import BackboneSpec


def default_recipe(spec: BackboneSpec, mini: bool) -> str:
    """Return the name of the recipe a backbone gets when nobody names one.

    On real data it is the protocol that its family publishes under, at the length that ranks
    checkpoints: ViTDet at 25 epochs, Swin's and detectron2's 1x.

    Args:
        spec: Of the backbone.
        mini: Whether the data are the embedded mini data.
    """
    if mini:
        return "mini"
    if spec.layout == "plain":
        return "vitdet-25ep"
    return "r50-fpn-1x" if "resne" in spec.name else "swin-1x"
