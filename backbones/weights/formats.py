"""Key layouts of other projects' files, turned into timm's names.

Facts from reading each project's saving code; ``drops`` name what a backbone may have no place
for, with the reason, and nothing else may be left over. Names inside ``blocks`` or ``layers`` are
never droppable, other than buffers that the network computes itself.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from backbones.base.errors import PreflightError
from backbones.weights.efficientnet import name_as_timm

if TYPE_CHECKING:
    from torch import Tensor

    State = dict[str, Tensor]

Reasons = tuple[tuple[str, str], ...]

BRANCHES = ("teacher", "student")


@dataclass(frozen=True)
class Imported:
    """The weights of one network, under timm's names.

    Attributes:
        state: Tensors by name.
        drops: Shell patterns of names to leave out where the backbone has no such tensor, each
            with the reason.
        fresh: Shell patterns of names that the file cannot hold, each with the reason.
    """

    state: "State"
    drops: Reasons = ()
    fresh: Reasons = ()


@dataclass(frozen=True)
class Format:
    """A key layout.

    Attributes:
        convert: Takes the file's content and a branch ("" for the default one).
        branches: Networks that such a file may hold, the default first.
        method: What made such weights, where the layout tells.
        num_heads: Heads by embed_dim where they are not the usual ones: shapes cannot tell.
    """

    convert: Callable[[dict[str, Any], str], Imported]
    branches: tuple[str, ...] = ()
    method: str = ""
    num_heads: Mapping[int, int] = field(default_factory=dict)


_HEAD = ("head.*", "classifier")
_BUFFERS = (
    ("*.relative_position_index", "buffer, computed anew"),
    ("*.attn_mask", "buffer, computed anew"),
)
_FC_NORM = ("fc_norm.*", "norm behind the classifier's pooling")
_MASK_TOKEN = ("mask_token", "stands for masked patches in pretraining only")


def backbench(content: dict[str, Any], branch: str) -> Imported:
    """Our own files: names as they are."""
    return Imported(_state_dict(content, ()))


def timm(content: dict[str, Any], branch: str) -> Imported:
    """Files of timm, and its training script's ``model_best.pth.tar``."""
    state = _strip(_state_dict(content, ("state_dict", "model")))
    heads = (_HEAD, ("head_dist.*", "classifier"), ("fc.*", "classifier"))
    return Imported(state, (*heads, _FC_NORM, *_BUFFERS), _fresh_norm(state))


def mae(content: dict[str, Any], branch: str) -> Imported:
    """facebookresearch/mae: pretraining with or without decoder, fine-tuning, linear probe."""
    state = _strip(_state_dict(content, ("model",)))
    decoder = ("decoder_*", "MAE's decoder")
    return Imported(state, (decoder, _MASK_TOKEN, _HEAD, _FC_NORM), _fresh_norm(state))


def lomar(content: dict[str, Any], branch: str) -> Imported:
    """junchen14/LoMaR: pretraining and fine-tuning; iRPE tables keep their names."""
    state = _strip(_state_dict(content, ("model",)))
    drops = (
        ("encoder_pred.*", "LoMaR's prediction layer"),
        ("pos_embed", "stored by LoMaR but never added to anything"),
        _MASK_TOKEN,
        _HEAD,
        _FC_NORM,
    )
    return Imported(state, drops, _fresh_norm(state))


def dino(content: dict[str, Any], branch: str) -> Imported:
    """facebookresearch/dino: full checkpoints (teacher by default) and bare backbones."""
    state = _strip(_branch(content, branch))
    return Imported(state, (("head.*", "DINO's projection head"), ("fc.*", "classifier")))


def esvit(content: dict[str, Any], branch: str) -> Imported:
    """microsoft/esvit: full checkpoints (teacher by default) and bare backbones."""
    state = _shift_patch_merging(_strip(_branch(content, branch)))
    drops = (
        ("head.*", "EsViT's projection head"),
        ("head_dense.*", "EsViT's projection head for regions"),
        ("fc.*", "classifier"),
    )
    return Imported(state, (*drops, *_BUFFERS))


def mocov3(content: dict[str, Any], branch: str) -> Imported:
    """facebookresearch/moco-v3: the base encoder is the student, the momentum encoder the teacher.

    The authors evaluate the base encoder, hence the default. Its sin-cos table has MAE's halves
    swapped, so it is loaded like any other tensor.
    """
    state = _strip(_state_dict(content, ("state_dict", "model")))
    names = {"student": "base_encoder", "teacher": "momentum_encoder"}
    chosen = names.pop(branch or "student")
    (other,) = names.items()
    if any(name.startswith(f"{chosen}.") for name in state):
        state = {name.removeprefix(f"{chosen}."): tensor for name, tensor in state.items()}
    elif branch:
        raise PreflightError(f"no {branch} ({chosen}.*) is in it; leave branch= out.")
    drops = (
        (f"{other[1]}.*", f"the other network (branch={other[0]})"),
        ("predictor.*", "MoCo's predictor"),
        ("head.*", "MoCo's projector"),
        ("fc.*", "MoCo's projector"),
    )
    return Imported(state, drops)


def beit(content: dict[str, Any], branch: str) -> Imported:
    """microsoft/unilm BEiT: pretraining (one bias table, copied to every block) and fine-tuning."""
    state = _share_bias_table(_strip(_state_dict(content, ("model", "module"))))
    drops = (
        ("lm_head.*", "predicts dVAE tokens"),
        _MASK_TOKEN,
        _HEAD,
        _FC_NORM,
        *_BUFFERS,
    )
    return Imported(state, drops, _fresh_norm(state))


def simmim(content: dict[str, Any], branch: str) -> Imported:
    """microsoft/SimMIM: Swin and BEiT-like ViT, pretraining and fine-tuning."""
    state = _strip(_state_dict(content, ("model",)))
    state = {name.removeprefix("encoder."): tensor for name, tensor in state.items()}
    state = _share_bias_table(_shift_patch_merging(state))
    drops = (("decoder.*", "SimMIM's pixel head"), _MASK_TOKEN, _HEAD, _FC_NORM, *_BUFFERS)
    return Imported(state, drops, _fresh_norm(state))


def swin(content: dict[str, Any], branch: str) -> Imported:
    """microsoft/Swin-Transformer classification files."""
    state = _shift_patch_merging(_strip(_state_dict(content, ("model",))))
    return Imported(state, (_HEAD, *_BUFFERS))


def efficientnet(content: dict[str, Any], branch: str) -> Imported:
    """lukemelas/EfficientNet-PyTorch, and the files of ml-illustrated's Lite networks."""
    state = _strip(_state_dict(content, ("state_dict",)))
    return Imported(name_as_timm(state), (("classifier.*", "classifier"),))


FORMATS: Mapping[str, Format] = {
    "backbench": Format(backbench),
    "beit": Format(beit, method="beit"),
    "dino": Format(dino, BRANCHES, method="dino"),
    "efficientnet": Format(efficientnet, method="supervised"),
    "esvit": Format(esvit, BRANCHES, method="esvit"),
    "lomar": Format(lomar, method="lomar"),
    "mae": Format(mae, method="mae"),
    "mocov3": Format(mocov3, ("student", "teacher"), method="mocov3", num_heads={384: 12}),
    "simmim": Format(simmim, method="simmim"),
    "swin": Format(swin, method="supervised"),
    "timm": Format(timm),
}


def _state_dict(content: dict[str, Any], wrappers: tuple[str, ...]) -> "State":
    """Return the state dict under the first of ``wrappers`` that is there, or a bare one."""
    for key in wrappers:
        if isinstance(content.get(key), dict):
            return _only_tensors(content[key])
    if all(hasattr(value, "shape") for value in content.values()):
        return _only_tensors(content)
    wanted = " or ".join(repr(key) for key in wrappers) or "tensors alone"
    raise PreflightError(f"it holds {_some(content)} where this format has {wanted}.")


def _branch(content: dict[str, Any], branch: str) -> "State":
    if branch in content or any(key in content for key in BRANCHES):
        wanted = branch or BRANCHES[0]
        return _state_dict(content, (wanted,))
    state = _state_dict(content, ("state_dict", "model"))
    if branch:
        raise PreflightError(f"it holds one network and no {branch}; leave branch= out.")
    return state


def _only_tensors(state: dict[str, Any]) -> "State":
    odd = [name for name, value in state.items() if not hasattr(value, "shape")]
    if odd or not state:
        raise PreflightError(f"its weights hold {_some(odd) or 'nothing'}, not tensors.")
    return state


def _strip(state: "State") -> "State":
    """Drop the prefixes of DataParallel, torch.compile and multi-crop wrappers, nested or not."""
    stripped = {re.sub(r"^(module\.|_orig_mod\.|backbone\.)+", "", k): v for k, v in state.items()}
    if len(stripped) < len(state):
        raise PreflightError("two tensors have one name behind their prefixes.")
    return stripped


def _shift_patch_merging(state: "State") -> "State":
    """Move Microsoft's patch merging from the end of a stage to timm's start of the next."""
    if not any(name.startswith("layers.0.downsample.") for name in state):
        return state

    def shift(name: str) -> str:
        return re.sub(
            r"^layers\.(\d+)\.downsample", lambda m: f"layers.{int(m[1]) + 1}.downsample", name
        )

    return {shift(name): tensor for name, tensor in state.items()}


def _share_bias_table(state: "State") -> "State":
    """Give every block the one table of BEiT's pretraining, as its fine-tuning code does."""
    shared = state.get("rel_pos_bias.relative_position_bias_table")
    if shared is None:
        return state
    kept = {name: v for name, v in state.items() if not name.startswith("rel_pos_bias.")}
    blocks = {m[1] for name in state if (m := re.match(r"blocks\.(\d+)\.", name))}
    tables = {f"blocks.{i}.attn.relative_position_bias_table": shared for i in blocks}
    return kept | tables


def _fresh_norm(state: "State") -> Reasons:
    """Networks fine-tuned with mean pooling have ``fc_norm`` in place of the final norm."""
    if "fc_norm.weight" in state and "norm.weight" not in state:
        return (("norm.*", "the file has fc_norm in its place"),)
    return ()


def _some(names: Any) -> str:
    listed = [str(name) for name in names]
    return ", ".join(listed[:5]) + (" …" if len(listed) > 5 else "")
