"""Official full checkpoints of DINO and EsViT: student and teacher with heads, and the centres."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from backbones.base.errors import PreflightError
from backbones.timm_networks.backbone import NET
from backbones.timm_networks.families import SwinBackbone
from pretrain.parts.distilled.distillation import DistillationBranch, SelfDistillation
from pretrain.parts.masked.official_simmim import swin_name
from pretrain.parts.official import Rename, from_official, to_official

# What DistributedDataParallel puts in front of a network's names.
_WRAPPED = "module."
_CENTERS = {"view_center": "center", "region_center": "center_grid"}
_INDEX = ".relative_position_index"


def dino_name(name: str) -> str:
    """Return a ``DistillationBranch`` tensor's official name (facebookresearch/dino utils.py)."""
    return name.replace(f"backbone.{NET}", "backbone.", 1)


def esvit_name(name: str) -> str:
    """Return the official name of a Swin ``DistillationBranch``'s tensor (microsoft/esvit)."""
    if name.startswith("region_head."):
        return "head_dense." + name.removeprefix("region_head.")
    if name.startswith("head."):
        return name
    return swin_name(name).removeprefix("encoder.")


def distillation_state(objective: SelfDistillation, rename: Rename) -> dict[str, Any]:
    """Return what the official trainer saves: "student", "teacher" and "dino_loss".

    Args:
        objective: Its weights.
        rename: Official name of a tensor of a branch, without prefix.
    """
    # A teacher is wrapped only where batch normalisation has to be synchronised.
    shares = any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in objective.modules())
    return {
        "student": _prefixed(_branch_state(objective.student, rename), _WRAPPED),
        "teacher": _prefixed(_branch_state(objective.teacher, rename), _WRAPPED if shares else ""),
        "dino_loss": {
            official: center[None]
            for name, official in _CENTERS.items()
            if (center := getattr(objective, name)) is not None
        },
    }


def load_distillation(
    objective: SelfDistillation, content: Mapping[str, Any], rename: Rename
) -> None:
    """Fill an objective from an official checkpoint.

    A file without region heads, of a training on views alone, leaves those as they are.

    Args:
        objective: To be filled.
        content: Of the file.
        rename: As for ``distillation_state``.

    Raises:
        PreflightError: A network is missing, or does not fit tensor for tensor.
    """
    for name, branch in (("student", objective.student), ("teacher", objective.teacher)):
        found = content.get(name)
        if not isinstance(found, Mapping):
            raise PreflightError(
                f"The file has no {name}; pretraining goes on from a full checkpoint alone, with "
                "student and teacher."
            )
        state = {k.removeprefix(_WRAPPED): v for k, v in found.items() if not k.endswith(_INDEX)}
        with_regions = any(key.startswith("head_dense.") for key in state)
        _load_branch(branch, state, rename, skip="" if with_regions else "region_head.")
    centers = content.get("dino_loss", {})
    for name, official in _CENTERS.items():
        center = getattr(objective, name)
        if center is not None and official in centers:
            if centers[official].numel() != center.numel():
                raise PreflightError(
                    f"The file's {official} is for {centers[official].numel()} prototypes, the "
                    f"recipe has {center.numel()}; set model.num_prototypes to the file's number."
                )
            with torch.no_grad():
                center.copy_(centers[official].reshape(center.shape))


def _load_branch(
    branch: DistillationBranch, state: Mapping[str, Tensor], rename: Rename, skip: str
) -> None:
    def wanted(name: str) -> str | None:
        return None if skip and name.startswith(skip) else rename(name)

    from_official(branch, state, wanted)


def _branch_state(branch: DistillationBranch, rename: Rename) -> dict[str, Tensor]:
    state = to_official(branch, rename)
    if isinstance(branch.backbone, SwinBackbone):
        # Microsoft's Swin computes these when it is built and saves them all the same.
        indices = {
            rename(f"backbone.{name}"): value
            for name, value in branch.backbone.named_buffers()
            if name.endswith(_INDEX)
        }
        state |= {name: value for name, value in indices.items() if name is not None}
    return state


def _prefixed(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {prefix + name: value for name, value in state.items()}
