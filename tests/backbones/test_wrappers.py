"""One network in the wrappers of trainers: it is found whole, or the refusal says what is there."""

from argparse import Namespace
from pathlib import Path

import pytest
import timm
import torch
from torch import Tensor

from backbones.base.errors import PreflightError, UserError
from backbones.catalog import spec_for
from backbones.spec import BuildOptions
from backbones.weights.loading import build_backbone
from backbones.weights.source import open_checkpoint

ARCH = "timm:test_vit"
HEAD = {"weight": torch.ones(3, 64), "bias": torch.zeros(3)}


def network(seed: int = 0) -> dict[str, Tensor]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        state = timm.create_model("test_vit", num_classes=0).state_dict()
        return {name: torch.randn_like(value) for name, value in state.items()}


NET, OTHER = network(), network(1)
FC1 = "blocks.0.mlp.fc1.weight"


def under(prefix: str, state: dict[str, Tensor] = NET) -> dict[str, Tensor]:
    return {prefix + name: value for name, value in state.items()}


def load(folder: Path, content: object, options: str = "") -> tuple[dict[str, Tensor], str]:
    path = folder / "file.pth"
    torch.save(content, path)
    checkpoint = open_checkpoint(f"ckpt:{path}?arch={ARCH}{options}")
    backbone, coverage = build_backbone(spec_for(checkpoint), checkpoint, BuildOptions(), seed=0)
    assert coverage.loaded == coverage.total
    state = {k.removeprefix("net."): v for k, v in backbone.state_dict().items()}
    return state, coverage.sentence()


def is_net(state: dict[str, Tensor], expected: dict[str, Tensor] = NET) -> bool:
    return all(torch.equal(state[name], value) for name, value in expected.items())


ALONE = {
    "module.": under("module."),
    "_orig_mod.": under("_orig_mod."),
    "module._orig_mod.": under("module._orig_mod."),
    "state_dict.model.": {"state_dict": under("model."), "epoch": 3, "global_step": 10},
    "state_dict.net.": {"state_dict": under("net.")},
    "state_dict.encoder.": {"state_dict": under("encoder.")},
    "student.": under("student."),
    "fsdp": under("_fsdp_wrapped_module."),
    "fabric": under("_forward_module."),
    "checkpoint wrapper": {
        name.replace("blocks.0.", "blocks.0._checkpoint_wrapped_module."): value
        for name, value in NET.items()
    },
    "deepspeed": {"module": NET, "ds_version": "0.14", "ds_config": {"a": 1}},
    "net": {"net": NET, "acc": 91.2},
    "ema": {"ema": NET, "epoch": 1},
    "weights": {"weights": NET},
    "model_state": {"model_state": NET},
    "model_state_dict": {"model_state_dict": NET, "optimizer_state_dict": {}, "loss": 0.3},
    "nested": {"state_dict": {"model": NET}},
    "n_averaged": {**under("module."), "n_averaged": torch.tensor(5)},
    "epoch among tensors": {**NET, "epoch": 5},
    "heads beside": {
        "state_dict": {
            **under("backbone."),
            **{f"classifier.{k}": v for k, v in HEAD.items()},
            "projector.0.weight": torch.ones(2),
        }
    },
    "heads below": {
        **under("model."),
        **{f"model.projection_head.{k}": v for k, v in HEAD.items()},
        "model.mask_token": torch.zeros(1, 1, 64),
    },
}


@pytest.mark.parametrize("content", ALONE.values(), ids=ALONE)
def test_a_network_alone_is_found_whole(tmp_path: Path, content: object) -> None:
    state, _ = load(tmp_path, content)
    assert is_net(state)


def test_the_prefix_and_what_lies_beside_it_are_said(tmp_path: Path) -> None:
    _, sentence = load(tmp_path, ALONE["heads beside"])
    assert "taken from 'state_dict.backbone.'" in sentence
    assert "next to it state_dict.classifier, state_dict.projector" in sentence
    _, sentence = load(tmp_path, ALONE["heads below"])
    assert "2 tensors (projection head) dropped" in sentence


TWO = {
    "timm's training script": {"state_dict": OTHER, "state_dict_ema": NET, "arch": "x"},
    "model_ema": {"model": OTHER, "model_ema": NET},
    "ema in a module": {"model": OTHER, "module_ema": under("module.")},
}


@pytest.mark.parametrize("content", TWO.values(), ids=TWO)
def test_timms_rule_takes_the_averaged_copy_and_says_so(tmp_path: Path, content: dict) -> None:
    state, sentence = load(tmp_path, content)
    assert is_net(state)
    assert "the ema copy" in sentence
    assert is_net(load(tmp_path, content, "&branch=ema")[0])
    assert is_net(load(tmp_path, content, "&branch=raw")[0], OTHER)


def test_mmengines_hook_saves_the_averaged_copy_as_the_model(tmp_path: Path) -> None:
    # mmengine/hooks/ema_hook.py exchanges the two before it saves.
    content = {
        "meta": {"epoch": 1},
        "state_dict": under("backbone."),
        "ema_state_dict": {**under("module.backbone.", OTHER), "steps": torch.tensor(3)},
    }
    state, sentence = load(tmp_path, content)
    assert is_net(state)
    assert "the ema copy" in sentence
    assert is_net(load(tmp_path, content, "&branch=raw")[0], OTHER)


def test_averaged_copies_without_dots_in_their_names_are_found(tmp_path: Path) -> None:
    dotless = {f"model_ema.{name.replace('.', '')}": value for name, value in NET.items()}
    counts = {"model_ema.decay": torch.tensor(0.99), "model_ema.num_updates": torch.tensor(3)}
    content = {"state_dict": under("model.", OTHER) | dotless | counts}
    state, sentence = load(tmp_path, content)
    assert is_net(state)
    assert "the ema copy" in sentence
    assert is_net(load(tmp_path, content, "&branch=raw")[0], OTHER)


def test_averaged_copies_without_names_are_said_to_be_left_out(tmp_path: Path) -> None:
    average = {"decay": 0.9, "num_updates": 3, "shadow_params": list(OTHER.values())}
    state, sentence = load(tmp_path, {"model": NET, "ema": average})
    assert is_net(state)
    assert "next to it ema" in sentence


def test_whole_modules_in_a_dictionary_are_read(tmp_path: Path) -> None:
    modules = [timm.create_model("test_vit", num_classes=0) for _ in range(2)]
    for module, state in zip(modules, (OTHER, NET), strict=True):
        module.load_state_dict(state)
    content = {"model": modules[0], "ema": modules[1], "epoch": 1}
    assert is_net(load(tmp_path, content)[0])
    assert is_net(load(tmp_path, content, "&branch=raw")[0], OTHER)


def test_options_of_maes_finetuning_tell_its_files(tmp_path: Path) -> None:
    options = Namespace(model="mine", blr=5e-4, global_pool=True, finetune="mae.pth")
    _, sentence = load(tmp_path, {"model": NET, "args": options})
    assert "mean 0.485/0.456/0.406" in sentence


def test_two_networks_that_nothing_tells_apart_are_named(tmp_path: Path) -> None:
    content = {"state_dict": {**under("student_backbone."), **under("teacher_backbone.", OTHER)}}
    with pytest.raises(UserError, match=r"student_backbone.*teacher_backbone.*&branch=") as caught:
        load(tmp_path, content)
    assert caught.value.exit_code == 2
    assert is_net(load(tmp_path, content, "&branch=student")[0])
    assert is_net(load(tmp_path, content, "&branch=teacher")[0], OTHER)
    assert is_net(load(tmp_path, content, "&prefix=teacher_backbone.")[0], OTHER)
    assert is_net(load(tmp_path, content, "&key=state_dict&prefix=student_backbone")[0])
    with pytest.raises(PreflightError, match="holds no ema copy, only student and teacher"):
        load(tmp_path, content, "&branch=ema")


def test_a_refusal_names_the_nearest_prefix_and_what_is_missing_there(tmp_path: Path) -> None:
    broken = {"state_dict": under("model.")}
    del broken["state_dict"]["model.blocks.0.attn.qkv.bias"]
    with pytest.raises(
        PreflightError, match=r"under 'state_dict.model.', where it lacks blocks.0.attn.qkv.bias"
    ):
        load(tmp_path, broken)


REFUSED = {
    "float8": ({k: v.to(torch.float8_e4m3fn) for k, v in NET.items()}, "float8_e4m3fn"),
    "int8": ({k: (v * 20).to(torch.int8) for k, v in NET.items()}, "int8: quantised"),
    "int64": ({k: v.long() for k, v in NET.items()}, "quantised or not weights"),
    "sparse": ({**NET, FC1: NET[FC1].to_sparse()}, "to_dense"),
    "meta": ({**NET, "norm.weight": torch.empty(64, device="meta")}, "shapes without numbers"),
    "zeros": ({k: torch.zeros_like(v) for k, v in NET.items()}, "zeros only"),
    "optimizer": ({"optimizer": {"state": {0: torch.ones(1)}}, "epoch": 1}, "optimizer"),
    "empty": ({}, "holds nothing"),
    "adapters": (
        {**under("base_model."), "base_model.blocks.0.attn.qkv.lora_A.weight": torch.ones(4, 64)},
        "lora_A",
    ),
}


@pytest.mark.parametrize(("content", "complaint"), REFUSED.values(), ids=REFUSED)
def test_what_is_not_weights_of_the_network_is_refused(
    tmp_path: Path, content: object, complaint: str
) -> None:
    with pytest.raises(UserError, match=complaint) as caught:
        load(tmp_path, content)
    assert "\n" not in str(caught.value)


FACTS = {
    "args": {"args": {"num_heads": 4}},
    "settings": {"config": {"model": {"num_heads": 4}}},
    "hyper_parameters": {"hyper_parameters": {"num_attention_heads": 4}},
}


@pytest.mark.parametrize("facts", FACTS.values(), ids=FACTS)
def test_heads_that_a_file_states_are_held_against_the_network(tmp_path: Path, facts: dict) -> None:
    with pytest.raises(PreflightError, match=r"has 4 heads, timm:test_vit has 2"):
        load(tmp_path, {"model": NET, **facts})


def test_a_network_of_a_stated_size_has_its_usual_heads(tmp_path: Path) -> None:
    state = timm.create_model("vit_tiny_patch16_224", num_classes=0, depth=12).state_dict()
    path = tmp_path / "ti.pth"
    torch.save({"model": state, "arch": "vit_small_patch16_224"}, path)
    checkpoint = open_checkpoint(f"ckpt:{path}?arch=vit-ti16&format=mae")
    with pytest.raises(PreflightError, match="6 heads"):
        build_backbone(spec_for(checkpoint), checkpoint, BuildOptions(), seed=0)


FOLDERS = {
    "adapter_config.json": "a folder of adapters",
    "zero_to_fp32.py": "a folder of DeepSpeed; run python zero_to_fp32.py FOLDER OUT",
    "mp_rank_00_model_states.pt": "run zero_to_fp32.py in the folder above",
    "saved_model.pb": "a folder of TensorFlow",
    ".metadata": "a folder of torch.distributed.checkpoint",
    "notes.txt": "a folder without weights",
}


@pytest.mark.parametrize(("file", "said"), FOLDERS.items())
def test_a_folder_of_another_program_is_called_what_it_is(
    tmp_path: Path, file: str, said: str
) -> None:
    (tmp_path / file).touch()
    with pytest.raises(PreflightError, match=said):
        open_checkpoint(f"ckpt:{tmp_path}")


# As torch's quantize_dynamic names its states.
QUANTISED = {
    **{k: v for k, v in NET.items() if ".qkv." not in k},
    "blocks.0.attn.qkv.scale": torch.tensor(1.0),
    "blocks.0.attn.qkv.zero_point": torch.tensor(0),
}
WITHOUT_ARCH = {
    "adapters": ({"base.blocks.0.attn.qkv.lora_A.default.weight": torch.ones(4, 64)}, "adapters"),
    "bitsandbytes": ({**NET, "blocks.0.attn.qkv.SCB": torch.ones(192)}, "quantised weights"),
    "dynamic": (QUANTISED, "quantised weights"),
    "int8": ({k: (v * 20).to(torch.int8) for k, v in NET.items()}, "is int8"),
    "weight_norm": (
        {**{k: v for k, v in NET.items() if k != FC1}, f"{FC1}_g": torch.ones(1)},
        "parametrised weights",
    ),
}


# No backbone that is tried by itself has the shapes of the whole network.
BOTH_WAYS = [(name, arch) for name in WITHOUT_ARCH for arch in (f"?arch={ARCH}", "")]
BOTH_WAYS.remove(("int8", ""))


@pytest.mark.parametrize(("name", "arch"), BOTH_WAYS)
def test_the_reason_is_said_without_a_backbone_too(tmp_path: Path, name: str, arch: str) -> None:
    path = tmp_path / "file.pth"
    content, said = WITHOUT_ARCH[name]
    torch.save(content, path)
    with pytest.raises(PreflightError, match=said):
        open_checkpoint(f"ckpt:{path}{arch}")


def test_shards_of_zero_are_called_what_they_are(tmp_path: Path) -> None:
    with pytest.raises(PreflightError, match="DeepSpeed's ZeRO keeps their numbers in other files"):
        load(tmp_path, {"module": {name: torch.empty(0) for name in NET}})
