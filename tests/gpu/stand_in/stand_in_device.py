"""Operators on ``cuda`` tensors of the stand-in, carried out by the CPU on the same memory.

The rules of CUDA hold: tensors of two devices do not mix, generators belong to their device.
What real kernels do is not shown: neither their rounding, nor races, nor time. Attention is
computed by its formula, whichever kernel torch chose.
"""

import collections
import copy
import ctypes

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_flatten, tree_map

aten = torch.ops.aten
# They change no number, so that torch's own code for CUDA is right.
_NATIVE = {
    f"aten::{name}"
    for name in (
        "empty.memory_format", "empty_strided", "empty_like", "new_empty", "new_empty_strided",
        "detach", "lift_fresh", "lift", "resize_", "is_pinned", "_pin_memory", "is_same_size",
        "set_.source_Storage_storage_offset", "set_.source_Tensor", "set_.source_Storage",
        "_has_compatible_shallow_copy_type", "record_stream", "_unsafe_view", "_reshape_alias",
        "set_data", "sym_size.int",
    )
}  # fmt: skip
# CUDA takes an index that lies on the CPU.
_INDEX = {
    f"aten::{name}"
    for name in ("index", "index_put_", "index_put", "_index_put_impl_", "_unsafe_index",
                 "_unsafe_index_put")
}  # fmt: skip
_COPY = {"aten::copy_", "aten::_to_copy", "aten::_foreach_copy_", "aten::copy"}
# What the host has to wait for.
_WAITS = {
    f"aten::{name}"
    for name in ("_local_scalar_dense", "nonzero", "masked_select", "_unique2", "equal",
                 "unique_consecutive", "bincount", "histc", "allclose")
} | {"torchvision::nms"}  # fmt: skip


def enter() -> "StandIn":
    """Run every operator on ``cuda`` tensors on the CPU from now on, in this thread."""
    # Its kernels are called past the dispatcher.
    torch.backends.cudnn.enabled = False
    torch.jit._get_trace_graph = _traced_on_cpu(torch.jit._get_trace_graph)
    mode = StandIn()
    mode.__enter__()
    return mode


def _traced_on_cpu(trace):
    """Return a tracer that traces a copy on the CPU: a mode's own work would be in the trace."""

    def traced(module, args=(), *rest, **named):
        copied = copy.deepcopy(module).cpu() if _is_on_gpu(module) else module
        here = tree_map(lambda one: one.cpu() if isinstance(one, Tensor) else one, args)
        with _disable_current_modes():
            return trace(copied, here, *rest, **named)

    return traced


def _is_on_gpu(module) -> bool:
    return any(parameter.is_cuda for parameter in module.parameters())


class StandIn(TorchDispatchMode):
    """The mode.

    Attributes:
        counts: "operators" on a GPU, and "waits" of the host for one.
    """

    def __init__(self) -> None:
        super().__init__()
        self.counts: collections.Counter[str] = collections.Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        tensors = [t for t in tree_flatten((args, kwargs))[0] if isinstance(t, Tensor)]
        device = kwargs.get("device")
        device = None if device is None else torch.device(device)
        there = [t for t in tensors if t.is_cuda]
        to_gpu = device is not None and device.type == "cuda"
        if not (there or to_gpu) or _is_native(func):
            return func(*args, **kwargs)
        gpu = _numbered(device if to_gpu else there[0].device)
        return self._carry_out(func, args, kwargs, tensors, gpu)

    def _carry_out(self, func, args, kwargs, tensors, target):
        name = func._schema.name
        self.counts["operators"] += 1
        self.counts["waits"] += name in _WAITS
        if name == "aten::_to_copy":
            return self._to_copy(args, kwargs)
        if name == "aten::copy_":
            self.counts["waits"] += not args[0].is_cuda
            on_cpu(args[0]).copy_(on_cpu(args[1]))
            return args[0]
        if name not in _COPY:
            _refuse_mixing(func, args, kwargs, tensors)
        if "scaled_dot_product" in name and "fused_sdp_choice" not in name:
            return _attention(func, args, kwargs, target)
        return _by_cpu(func, args, kwargs, target)

    def _to_copy(self, args, kwargs):
        source = args[0]
        device = torch.device(kwargs.get("device") or source.device)
        rest = {
            k: v for k, v in kwargs.items() if k not in ("device", "non_blocking", "pin_memory")
        }
        copied = aten._to_copy.default(on_cpu(source), **rest)
        if device.type != "cuda":
            self.counts["waits"] += 1
            return copied
        return on_gpu(copied, _numbered(device))


def on_cpu(value):
    """Return a tensor of the CPU on the memory of a ``cuda`` tensor; anything else as it is."""
    if not isinstance(value, Tensor) or not value.is_cuda:
        return value
    storage = value.untyped_storage()
    if not storage.nbytes() or not storage.data_ptr():
        return torch.empty_strided(value.shape, value.stride(), dtype=value.dtype)
    memory = (ctypes.c_uint8 * storage.nbytes()).from_address(storage.data_ptr())
    whole = torch.frombuffer(memory, dtype=torch.uint8).untyped_storage()
    empty = torch.empty(0, dtype=value.dtype)
    found = empty.set_(whole, value.storage_offset(), value.shape, value.stride())
    # The memory must not be freed before.
    found._of = value
    return found


def on_gpu(value, device):
    """Return a copy of a tensor of the CPU in a GPU's memory; anything else as it is."""
    if not isinstance(value, Tensor) or value.is_cuda:
        return value
    found = torch.empty_strided(value.shape, value.stride(), dtype=value.dtype, device=device)
    if value.numel():
        on_cpu(found).copy_(value)
    return found


def _numbered(device):
    if device.index is not None:
        return device
    return torch.device("cuda", torch.cuda.current_device())


def _is_native(func) -> bool:
    schema = func._schema
    overload = f".{schema.overload_name}" if schema.overload_name else ""
    if schema.name + overload in _NATIVE:
        return True
    first = schema.returns[0].alias_info if schema.returns else None
    return first is not None and not first.is_write


def _refuse_mixing(func, args, kwargs, tensors) -> None:
    """Refuse what CUDA refuses: operands on several devices, and generators of another."""
    there = [t for t in tensors if t.is_cuda]
    here = [t for t in tensors if not t.is_cuda and t.dim() > 0]
    name = func._schema.name
    of_gpu = name in _INDEX and isinstance(args[0], Tensor) and args[0].is_cuda
    values = args[2] if len(args) > 2 else None
    only_index = of_gpu and not (isinstance(values, Tensor) and not values.is_cuda and values.dim())
    if len({t.device for t in there}) > 1 or (there and here and not only_index):
        operands = ", ".join(f"{tuple(t.shape)} on {t.device}" for t in tensors)
        raise RuntimeError(f"Expected all tensors to be on the same device: {name} got {operands}")
    generator = kwargs.get("generator")
    if generator is not None and generator.device.type != "cuda":
        raise RuntimeError(f"Expected a 'cuda' device type for generator but found 'cpu': {name}")


# A generator of the CPU that draws for each generator of a GPU, by its seed.
_drawing: dict[int, torch.Generator] = {}


def _by_cpu(func, args, kwargs, target):
    """Return what an operator gives, computed by its kernel for the CPU."""
    here = {key: on_cpu(value) for key, value in tree_map(on_cpu, kwargs).items()}
    if "device" in here:
        here["device"] = torch.device("cpu")
    generator = here.pop("generator", None)
    if generator is not None:
        here["generator"] = _drawing_for(generator)
    found = func(*tree_map(on_cpu, args), **here)
    if not func._schema.is_mutable:
        return tree_map(lambda value: on_gpu(value, target), found)
    written = _written(func._schema, args, kwargs)
    returns = func._schema.returns
    if not returns:
        return found
    results = []
    for declared, value in zip(returns, found if len(returns) > 1 else (found,), strict=True):
        if declared.alias_info is None or not declared.alias_info.is_write:
            results.append(tree_map(lambda one: on_gpu(one, target), value))
            continue
        own = next(written[s] for s in declared.alias_info.before_set if s in written)
        if isinstance(own, Tensor) and own.shape != value.shape:
            own.resize_(value.shape)
            on_cpu(own).copy_(value)
        results.append(own)
    return results[0] if len(returns) == 1 else tuple(results)


def _drawing_for(generator: torch.Generator) -> torch.Generator:
    """Return the generator that draws in place of a GPU's, which goes on from its seed."""
    key = id(generator)
    known = _drawing.get(key)
    if known is None or known.initial_seed() != generator.initial_seed():
        _drawing[key] = known = torch.Generator().manual_seed(generator.initial_seed())
    return known


def _written(schema, args, kwargs) -> dict[str, object]:
    """Return the arguments that an operator writes to, by the name of their alias set."""
    found = {}
    for place, argument in enumerate(schema.arguments):
        if argument.alias_info is not None and argument.alias_info.is_write:
            value = args[place] if place < len(args) else kwargs.get(argument.name)
            found |= dict.fromkeys(argument.alias_info.before_set, value)
    return found


def _attention(func, args, kwargs, device):
    """Return what an attention kernel gives, by its formula."""
    arguments = func._schema.arguments
    given = {a.name: a.default_value for a in arguments if a.has_default_value()}
    given |= dict(zip((a.name for a in arguments), args, strict=False)) | kwargs
    here = {key: on_cpu(value) for key, value in given.items()}
    kind = func._schema.name.removeprefix("aten::_scaled_dot_product_")
    q, k, v, bias = (here.get(name) for name in ("query", "key", "value", "attn_bias"))
    scale = q.shape[-1] ** -0.5 if here.get("scale") is None else here["scale"]
    if "backward" in kind:
        grad = here.get("grad_out", here.get("grad_out_"))
        found = _attention_backward(grad, q, k, v, bias, scale)
        outs = [on_gpu(one.to(q.dtype), device) for one in found[:3]]
        if "efficient" in kind:
            wanted = bias is not None and here["grad_input_mask"][3]
            last = found[3].to(bias.dtype) if wanted else torch.empty(0, dtype=q.dtype)
            outs.append(on_gpu(last, device))
        return tuple(outs)
    logits = _logits(q, k, bias, scale)
    out = (logits.softmax(-1) @ v.float()).to(q.dtype)
    # In memory as the kernels leave it: (B, N, H, D).
    out = out.transpose(1, 2).contiguous().transpose(1, 2)
    result = on_gpu(out, device), on_gpu(torch.logsumexp(logits, -1), device)
    seeds = [torch.zeros(2, dtype=torch.int64, device=device) for _ in range(2)]
    if "efficient" in kind:
        return (*result, seeds[0][0], seeds[1][0])
    empty = torch.empty(0, dtype=q.dtype, device=device)
    return (*result, None, None, q.shape[2], k.shape[2], *seeds, empty)


def _logits(q, k, bias, scale):
    logits = (q.float() @ k.float().mT) * scale
    return logits if bias is None else logits + bias.float()


def _attention_backward(grad, q, k, v, bias, scale):
    with torch.no_grad():
        q, k, v, grad = (one.detach().float() for one in (q, k, v, grad))
        weights = _logits(q, k, bias, scale).softmax(-1)
        inner = grad @ v.mT
        slope = weights * (inner - (inner * weights).sum(-1, keepdim=True))
        found = [slope @ k * scale, slope.mT @ q * scale, weights.mT @ grad]
        if bias is not None:
            found.append(slope.sum_to_size(bias.shape))
        return found
