"""What timm's networks do between their pooling and the matrix of their classifier."""

from typing import Any

import timm
import torch
from torch import Tensor, nn

# timm's names of the matrix in classifiers that begin with a norm (LeViT, EfficientViT of MSRA,
# RepViT, SHViT, iFormer).
_MATRICES = ("linear", "l")
# Files without a classifier lack its norm, too.
HEAD_NORMS = tuple(f"{head}.bn.*" for head in ("head", "head_dist", "head.head", "head.head_dist"))


def keep_head_norms(net: Any, name: str, arguments: dict[str, Any]) -> None:
    """Give a network without classifier the batch norms that its classifiers begin with.

    timm removes them with the classifier, although they are trained with the network and their
    output is what the matrix sees.

    Args:
        net: Built with ``num_classes=0``; changed in place.
        name: As timm lists it.
        arguments: It was built with.
    """
    classifiers = _classifiers(net)
    if not any(one.rpartition(".")[2] in _MATRICES for one in classifiers):
        return
    with torch.device("meta"):
        whole = timm.create_model(name, num_classes=1, **arguments)
    for classifier in classifiers:
        head = classifier.rpartition(".")[0]
        norm = getattr(whole.get_submodule(head), "bn", None)
        if isinstance(norm, nn.BatchNorm1d):
            own = nn.BatchNorm1d(norm.num_features, norm.eps, norm.momentum)
            net.get_submodule(head).add_module("bn", own)


def head_norms(net: Any) -> list[nn.Module]:
    """Return the batch norms of ``keep_head_norms``, one a classifier."""
    heads = [one.rpartition(".")[0] for one in _classifiers(net)]
    found = []
    for head in dict.fromkeys(heads):
        try:
            module = net.get_submodule(head)
        except AttributeError:  # the network was built without it
            continue
        norm = getattr(module, "bn", None)
        if isinstance(module, nn.Identity) and isinstance(norm, nn.Module):
            found.append(norm)
    return found


def feed_classifiers(net: Any, pooled: Tensor) -> Tensor:
    """Return what the classifiers of a network are fed, next to each other, (B, D).

    Args:
        net: After ``keep_head_norms``.
        pooled: (B, C), what timm pools.
    """
    norms = head_norms(net)
    return torch.cat([norm(pooled) for norm in norms], dim=1) if norms else pooled


def _classifiers(net: Any) -> tuple[str, ...]:
    names = net.pretrained_cfg.get("classifier") or () if hasattr(net, "pretrained_cfg") else ()
    return (names,) if isinstance(names, str) else tuple(names)
