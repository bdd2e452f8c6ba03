"""Unpickles tensors and plain values; everything else becomes an inert stand-in.

torch's restricted unpickler creates the few classes that it allows and runs nothing else. Trainers
pickle settings, paths, enums and random states beside their tensors; each of those classes is
replaced by ``Skipped``, which keeps what it is handed and does nothing. Functions, and anything of
modules that start programs or touch files, are refused.
"""

import argparse
import codecs
import pathlib
import pickle
import re
import warnings
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from backbones.base.errors import PreflightError

Allowed = Callable[..., Any] | tuple[Callable[..., Any], str]

# None of these constructors runs code. numpy 1 filed its functions under another name than numpy 2.
_SCALAR: Any = np.float64(0).__reduce__()[0]
_ARRAY: Any = np.zeros(1).__reduce__()[0]
_DTYPES = [kind for kind in vars(np.dtypes).values() if isinstance(kind, type)]
_ALLOWED: list[Allowed] = [
    argparse.Namespace,
    pathlib.PosixPath,
    np.dtype,
    np.ndarray,
    *_DTYPES,
    *((_SCALAR, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")),
    *((_ARRAY, f"numpy.{core}.multiarray._reconstruct") for core in ("core", "_core")),
]
# How arrays are pickled with protocol 5.
_FROM_BUFFER = tuple(f"numpy.{core}.numeric._frombuffer" for core in ("core", "_core"))
# What files of torch.save begin with that are no zip archives.
_TORCH = 0x1950A86A20F9469CFC6C
# Functions that stand for plain values; their stand-ins do nothing either.
_PLAIN = re.compile(
    r"builtins\.(int|float|str|bool|bytes|set|frozenset|complex|bytearray|slice|range|object|tuple|list|dict|type)"
    r"|_codecs\.encode|copy_?reg\._reconstructor|functools\.partial"
    r"|collections\.(deque|defaultdict)|datetime\.\w+|numpy\.random\.\w+(\.\w+)*"
)
# Nothing of these stands for a value in a weights file.
_DANGEROUS = re.compile(
    r"(os|posix|nt|sys|subprocess|shutil|socket|importlib|runpy|pty|ctypes|webbrowser|commands"
    r"|multiprocessing|threading|signal|code|codeop|pdb|timeit|asyncio|http|urllib|requests|pip"
    r"|types|marshal|pickle|dill|cloudpickle|tempfile|_posixsubprocess)\."
)
_MOST_CLASSES = 200
# torch's message on a protocol that its restricted unpickler does not know.
_LATE = "Unsupported operand"


class Skipped:
    """The stand-in of an object whose class is not known to be safe; it keeps plain state.

    Attributes:
        kind: Dotted name of the class.
    """

    kind = ""

    def __new__(cls, *args: Any, **kwargs: Any) -> "Skipped":
        """Ignore what the real constructor would take."""
        return object.__new__(cls)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Ignore likewise."""

    def __setstate__(self, state: Any) -> None:
        """Keep the attributes that the object had, where they are a dictionary."""
        if isinstance(state, dict):
            self.__dict__.update(state)


class _SkippedMapping:
    """Stand-in of a subclass of dict, whose items are kept in a plain one."""

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        return OrderedDict()


class _SkippedList:
    """Stand-in of a subclass of list."""

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        return []


def read_pickle(path: Path) -> Any:
    """Return the content of a pickled file, classes that are not safe to make left inert.

    Raises:
        PreflightError: It is truncated or no weights file, or holds what could run code.
    """
    stand_ins: dict[str, type] = {}
    for _ in range(_MOST_CLASSES):
        try:
            return _load(path, stand_ins)
        except Exception as error:  # a damaged file may fail in any way inside the unpickler
            if "magic number" in str(error) or _is_late_pickle(path, str(error)):
                return _read_plain(path)
            if not _stand_in(str(error), stand_ins):
                raise PreflightError(_why_not(path, str(error))) from error
    raise PreflightError(f"{path} holds objects of too many classes for a weights file.")


def _is_late_pickle(path: Path, message: str) -> bool:
    """Tell whether torch failed on a plain pickle of a protocol that it does not know (3 to 5)."""
    return _LATE in message and _begin(path) == b"\x80"


class _ArrayUnpickler(pickle.Unpickler):
    """Reads a pickle of numpy arrays, as detectron2's model zoo has them (.pkl)."""

    def find_class(self, module: str, name: str) -> Any:
        """Return an allowed class, or a stand-in of a harmless one.

        Raises:
            pickle.UnpicklingError: It could run code.
        """
        full = f"{module}.{name}"
        if full in _FROM_BUFFER:
            return _array_of
        for item in _ALLOWED:
            function, known = item if isinstance(item, tuple) else (item, _name_of(item))
            if full == known:
                return function
        if full in ("collections.OrderedDict", "_codecs.encode"):
            return OrderedDict if name == "OrderedDict" else codecs.encode
        if _is_harmless(full):
            return type("Skipped_array", (Skipped,), {"kind": full})
        raise pickle.UnpicklingError(f"GLOBAL {full} is not allowed")


def _name_of(function: Any) -> str:
    return f"{function.__module__}.{function.__qualname__}"


def _read_plain(path: Path) -> Any:
    """Return the content of a pickle that torch did not write, arrays as tensors.

    Raises:
        PreflightError: It is damaged, or holds what could run code.
    """
    try:
        with path.open("rb") as file:
            content = _as_tensors(_ArrayUnpickler(file, encoding="latin1").load())
    except Exception as error:  # a damaged file may fail in any way inside the unpickler
        raise PreflightError(_why_not(path, str(error))) from error
    if content == _TORCH:
        raise PreflightError(_why_not(path, _LATE))
    return content


def _array_of(buffer: bytes, dtype: np.dtype[Any], shape: tuple[int, ...], order: Any) -> Any:
    """Return the array in some bytes, as ``numpy._core.numeric._frombuffer`` does."""
    return np.frombuffer(buffer, dtype=dtype).reshape(shape, order=order)


def _as_tensors(content: Any) -> Any:
    if isinstance(content, dict):
        return {str(key): _as_tensors(value) for key, value in content.items()}
    if isinstance(content, np.ndarray) and content.dtype.kind in "fiub":
        return as_tensor(content)
    return content


def as_tensor(array: np.ndarray[Any, Any]) -> torch.Tensor:
    """Return a copy of a numeric array of any byte order as a tensor of the same shape."""
    return torch.from_numpy(array.astype(array.dtype.newbyteorder("=")))


def state_of(module: Skipped) -> dict[str, torch.Tensor]:
    """Return the tensors of a pickled module by name, empty for other objects."""
    found: dict[str, torch.Tensor] = {}
    for part in ("_parameters", "_buffers"):
        tensors = vars(module).get(part)
        items = tensors.items() if isinstance(tensors, dict) else ()
        found |= {str(k): v for k, v in items if isinstance(v, torch.Tensor)}
    children = vars(module).get("_modules")
    for name, child in children.items() if isinstance(children, dict) else ():
        if isinstance(child, Skipped) or hasattr(child, "_parameters"):
            found |= {f"{name}.{key}": tensor for key, tensor in state_of(child).items()}
    return found


def _load(path: Path, stand_ins: dict[str, type]) -> Any:
    allowed: list[Any] = [*_ALLOWED, *((stand_in, name) for name, stand_in in stand_ins.items())]
    # By its content: torch would read a file by the end of its name.
    with (
        torch.serialization.safe_globals(allowed),
        path.open("rb") as file,
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")  # torch's own, about kinds of tensors that are refused here
        return torch.load(file, map_location="cpu", weights_only=True)


def _stand_in(message: str, stand_ins: dict[str, type]) -> bool:
    """Add or change the stand-in that torch's message asks for; False where none is right."""
    wrong = re.search(r"Can only (SETITEMS?|append).* got <class '[\w.]*\.(Skipped_\d+)'>", message)
    if wrong:
        for name, kind in stand_ins.items():
            if kind.__name__ == wrong[2]:
                parent = _SkippedList if wrong[1] == "append" else _SkippedMapping
                stand_ins[name] = type(kind.__name__, (parent,), {"kind": name})
                return True
        return False
    named = re.search(r"Unsupported global: GLOBAL ([\w.]+)", message)
    if named is None:
        return False
    name = named[1] if "." in named[1] else f"builtins.{named[1]}"
    if name in stand_ins or not _is_harmless(name):
        return False
    stand_ins[name] = type(f"Skipped_{len(stand_ins)}", (Skipped,), {"kind": name})
    return True


def _is_harmless(name: str) -> bool:
    """Tell whether a name stands for a class of values, by its spelling; nothing is imported."""
    if _DANGEROUS.match(name):
        return False
    return bool(_PLAIN.fullmatch(name)) or name.rpartition(".")[2].lstrip("_")[:1].isupper()


def _begin(path: Path) -> bytes:
    """Return the first byte of a file: 0x80 of a pickle, "P" of a zip archive."""
    with path.open("rb") as file:
        return file.read(1)


def _why_not(path: Path, message: str) -> str:
    """Turn torch's page of advice into one sentence."""
    if _LATE in message and _begin(path) in (b"\x80", b"P"):
        return (
            f"{path} was pickled with a protocol that torch's safe reader does not know; save it "
            "again with torch.save(CONTENT, FILE) without pickle_protocol."
        )
    named = re.search(r"(?:GLOBAL|class|function) ([\w.]+)", message)
    if named:
        return (
            f"{path} holds a pickled {named[1]}, which could run code when read, so it is refused: "
            "where you trust the file, save only its tensors (torch.save or safetensors) and load "
            "that."
        )
    return f"{path} is truncated or no weights file; download or copy it again."
