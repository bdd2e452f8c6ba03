"""What a checkpoint format is: a table of data, one small file a project. Imports no torch.

A format says how another project names the tensors of a network and how the network has to be
used; ``backbones.weights.fit`` finds the tensors in a file, ``backbones.weights.steps`` changes
those that a new name alone does not fit.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from backbones.vit.positions_rule import BICUBIC, PositionRule

Reasons = tuple[tuple[str, str], ...]
Rgb = tuple[float, float, float]

IMAGENET: tuple[Rgb, Rgb] = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
HALF: tuple[Rgb, Rgb] = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
CLIP: tuple[Rgb, Rgb] = (
    (0.48145466, 0.4578275, 0.40821073),
    (0.26862954, 0.26130258, 0.27577711),
)

# Left out of files of any format, where the network has no such tensor: they stand next to its
# blocks, never inside one. Shell patterns, each with the reason.
BESIDE: Reasons = (
    ("head.*", "classifier or projection head"),
    ("heads.*", "classifier or projection head"),
    ("head_dist.*", "classifier"),
    ("head_dense.*", "projection head for regions"),
    ("fc.*", "classifier or projection head"),
    ("classifier.*", "classifier"),
    ("mask_token", "stands for masked patches in pretraining only"),
    ("masked_embed", "stands for masked patches in pretraining only"),
    ("n_averaged", "counter of averaged copies"),
    ("num_updates", "counter of averaged copies"),
    ("decay", "rate of averaging"),
    ("*.relative_position_index", "buffer, computed again"),
    ("*.attn_mask", "buffer, computed again"),
    ("*.relative_coords_table", "buffer, computed again"),
)
# Likewise, in files whose layout does not tell the method.
BESIDE_ANY_METHOD: Reasons = (
    ("*head.*", "projection head"),
    ("proj*.*", "projection head"),
    ("predictor*.*", "prediction head"),
    ("prototypes*", "prototypes"),
    ("decoder*", "decoder"),
    ("queue*", "queue of negatives"),
)


@dataclass(frozen=True)
class Format:
    """How a project stores its networks.

    Attributes:
        name: As typed in ``format=``.
        project: Who writes such files.
        link: Where the layout can be read.
        licence: Of the project's released weights; empty where it varies or is unknown.
        method: What made such weights, where the layout tells.
        anchors: Names of a tensor that every such network has, as the file spells them behind its
            prefix; empty takes a tensor of the backbone at hand.
        marks: Shell patterns of full names; a file with a match for each is of this format.
        files: Shell patterns of the names of released files, for layouts without marks.
        stated: Shell patterns of the names of settings in a file; a file with a match for each is
            of this format, where its tensors alone do not tell.
        moves: Regular expressions and replacements for full names, of tensors that a project keeps
            outside of the network they belong to.
        renames: Regular expressions and replacements, applied in order, that turn the names into
            timm's.
        steps: Names of functions of ``backbones.weights.steps``, applied after the renames.
        drops: Shell patterns of further names to leave out, each with the reason; ``BESIDE`` holds
            for every format.
        fresh: Shell patterns of the network's names that a file may lack, each with the reason.
        branches: Networks that such a file may hold, the one of the official evaluation first, each
            with a regular expression for the part of the full name in front of the network's names.
        norm: Mean and standard deviation of the images, RGB on the scale 0 to 1; None where the
            layout does not tell.
        positions: How its position table is resized to other image sizes.
        norm_eps: Epsilon of its layer norms, where it is not the backbone's own.
        batch_norm_eps: Epsilon of its batch norms, where it is not the backbone's own.
        eps_norms: Shell patterns of the norms, by timm's names, that take ``layer_norm_eps`` of
            transformers' settings.
        stated_eps: Value of ``layer_norm_eps`` that its files have unless they deviate; None means
            ``norm_eps``.
        num_heads: Attention heads by width, where shapes cannot tell and the usual number is wrong.
        archs: Shell patterns of backbones that such a file may be for, with fields of a file's
            facts in braces; tried in order when ``arch=`` is absent.
        model_types: ``model_type`` of the ``config.json`` next to such a file.
        activation: Of its blocks, as transformers' settings call it, where it is not the
            backbone's; empty for the backbone's own. What the settings next to a file state counts
            before it.
        names_gates: Whether the activation in its settings is that of gated MLPs, too.
        square: Shell patterns of full names of matrices that must be square in such a file, where
            names alone do not tell it from another format.
        refused: Why such files are not read, a clause that follows the file's name; empty for
            files that are.
    """

    name: str
    project: str
    link: str
    licence: str = ""
    method: str = ""
    anchors: tuple[str, ...] = ()
    marks: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    stated: tuple[str, ...] = ()
    moves: tuple[tuple[str, str], ...] = ()
    renames: tuple[tuple[str, str], ...] = ()
    steps: tuple[str, ...] = ()
    drops: Reasons = ()
    fresh: Reasons = ()
    branches: tuple[tuple[str, str], ...] = ()
    norm: tuple[Rgb, Rgb] | None = None
    positions: PositionRule = BICUBIC
    norm_eps: float | None = None
    batch_norm_eps: float | None = None
    eps_norms: tuple[str, ...] = ("*",)
    stated_eps: float | None = None
    num_heads: Mapping[int, int] = field(default_factory=dict)
    archs: tuple[str, ...] = ()
    model_types: tuple[str, ...] = ()
    activation: str = ""
    names_gates: bool = False
    square: tuple[str, ...] = ()
    refused: str = ""
