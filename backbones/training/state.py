"""States of an unfinished training: whole or absent, checked, the last two kept."""

import os
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b, sha256
from pathlib import Path
from typing import Any

import torch
from msgspec import Struct
from safetensors.torch import load, save
from torch import Tensor, nn
from torch.optim import Optimizer

from backbones.base.errors import PreflightError, UserError
from backbones.base.files import canonical_json, read_plain, sha256_file, write_atomically
from backbones.base.json_files import JsonFormat, UnreadableFileError
from backbones.base.monitor import GRACE_SECONDS

# One more than needed, so that a state damaged on disk costs minutes and not the run.
_KEPT = 2


@dataclass(frozen=True)
class TrainingState:
    """What a training goes on from; randomness is not in it, being a function of seed and step.

    Attributes:
        step: Updates done.
        tensors: Of model ("model.NAME") and optimizer ("optimizer.INDEX.NAME"), on the CPU.
        notes: Plain values beside them: the curve so far, seconds spent.
    """

    step: int
    tensors: dict[str, Tensor]
    notes: dict[str, Any] = field(default_factory=dict)


class _StateRecord(Struct, frozen=True, forbid_unknown_fields=True):
    """Content of the JSON file next to a state."""

    sha256: str
    step: int
    identity: dict[str, str]
    notes: dict[str, Any]


_FORMAT = JsonFormat(_StateRecord, "record of a saved state")


class StateFolder:
    """The saved states of one run.

    Each is a safetensors file and, written after it, a JSON record with its checksum; a state
    without a record was never finished.
    """

    def __init__(
        self,
        folder: Path,
        identity: Mapping[str, str],
        former: Mapping[str, str] | None = None,
    ) -> None:
        """Use ``folder``.

        Args:
            folder: Made when first written to.
            identity: All that decides the course of the run, by a word that a person
                understands ("recipe", "seed"); states of another identity are refused.
            former: Values that parts of it had in earlier versions, which are as good.
        """
        self._folder = folder
        self._identity = dict(identity)
        self._former = dict(former or {})
        self._say: Callable[[str], None] | None = None

    def save(self, state: TrainingState) -> Path:
        """Write a state, then drop all but the last two; return its file.

        Raises:
            PreflightError: The disk is full, or the folder cannot be written.
        """
        start = time.perf_counter()
        content = save(state.tensors)
        path = self._file(state.step)
        record = path.with_suffix(".json")
        record.unlink(missing_ok=True)
        write_atomically(path, content)
        facts = _StateRecord(sha256_file(path), state.step, self._identity, state.notes)
        _FORMAT.write(record, facts)
        self._drop_old()
        self._warn(time.perf_counter() - start)
        return path

    def _warn(self, seconds: float) -> None:
        """Say once that a save takes too long for the time that the launcher leaves for it."""
        grace = float(os.environ.get(GRACE_SECONDS, "inf"))
        # One save may be under way when the signal comes, and the next is the one it asks for.
        if 2 * seconds < grace or self._say is None:
            return
        self._say(
            f"Saving the state took {seconds:.0f} s of the {grace:.0f} s between the signal to "
            f"save and the end; raise signal_seconds in the cluster's profile above "
            f"{3 * seconds:.0f}."
        )
        self._say = None

    def newest(self, say: Callable[[str], None]) -> TrainingState | None:
        """Return the newest sound state, or None when there is none.

        Args:
            say: Told of every damaged state that is passed over, and later of saves that take long.

        Raises:
            UserError: The folder holds the states of another run; says in what they differ.
        """
        self._say = say
        for path in reversed(self._files()):
            state = self._read(path)
            if state is not None:
                return state
            say(f"The saved state {path} is damaged or unfinished; falling back to the one before.")
        return None

    def adopt(self, others: Iterable[Path], say: Callable[[str], None]) -> None:
        """Take over the newest state of another run that trained the very same weights.

        Runs that differ only in what they are tested on share their training. A folder that has
        states keeps them.

        Args:
            others: Folders of states of other runs.
            say: Told where a state comes from.

        Raises:
            PreflightError: The folder cannot be written.
        """
        if self._files():
            return
        for folder in others:
            path = StateFolder(folder, {}).newest_file()
            if path is None or folder == self._folder:
                continue
            try:
                same = _FORMAT.read(path.with_suffix(".json")).identity == self._identity
                content, record = read_plain(path, None), read_plain(path.with_suffix(".json"))
            except (OSError, UnreadableFileError):
                continue
            if same:
                write_atomically(self._folder / path.name, content)
                write_atomically(self._folder / path.with_suffix(".json").name, record)
                say(f"The state {path} is of the same training, so this run goes on from it.")
                return

    def finished(self) -> TrainingState | None:
        """Return the newest sound state, whatever run it is of; None where there is none."""
        for path in reversed(self._files()):
            state = self._sound(path)
            if state is not None:
                return state[1]
        return None

    def newest_file(self) -> Path | None:
        """Return the newest finished state's file, to name it in a message."""
        finished = [path for path in self._files() if path.with_suffix(".json").is_file()]
        return finished[-1] if finished else None

    def _read(self, path: Path) -> TrainingState | None:
        found = self._sound(path)
        if found is None:
            return None
        self._refuse_others(found[0].identity)
        return found[1]

    def _sound(self, path: Path) -> tuple[_StateRecord, TrainingState] | None:
        """Return a state with its record, None where it is damaged or unfinished."""
        try:
            record = _FORMAT.read(path.with_suffix(".json"))
            content = read_plain(path, None)
        except (OSError, UnreadableFileError):
            return None
        if record.sha256 != sha256(content).hexdigest() or self._file(record.step) != path:
            return None
        return record, TrainingState(record.step, load(content), record.notes)

    def _refuse_others(self, found: Mapping[str, str]) -> None:
        names = [*self._identity, *(name for name in found if name not in self._identity)]
        differing = [
            f"{name} {found.get(name, 'unknown')} instead of {self._identity.get(name, 'none')}"
            for name in names
            if found.get(name) not in (self._identity.get(name), self._former.get(name, ""))
        ]
        if differing:
            raise UserError(
                f"{self._folder} holds the state of another run ({'; '.join(differing)}); use "
                "another output folder, or delete it."
            )

    def _file(self, step: int) -> Path:
        return self._folder / f"step-{step:08d}.safetensors"

    def _files(self) -> list[Path]:
        return sorted(self._folder.glob("step-*.safetensors"))

    def _drop_old(self) -> None:
        for path in self._files()[:-_KEPT]:
            path.with_suffix(".json").unlink(missing_ok=True)
            path.unlink()


def collect(model: nn.Module, optimizer: Optimizer) -> dict[str, Tensor]:
    """Return all tensors of model and optimizer, copied to the CPU."""
    tensors = {f"model.{name}": value for name, value in model.state_dict().items()}
    for index, moments in optimizer.state_dict()["state"].items():
        for name, value in moments.items():
            if isinstance(value, Tensor):
                tensors[f"optimizer.{index}.{name}"] = value
    return {name: _copy(value) for name, value in tensors.items()}


def restore(model: nn.Module, optimizer: Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Put the tensors of ``collect`` back.

    Raises:
        PreflightError: They belong to another network.
    """
    weights = {n.removeprefix("model."): t for n, t in tensors.items() if n.startswith("model.")}
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise PreflightError(f"The saved state is of another network: {error}") from error
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        if name.startswith("optimizer."):
            _, index, moment = name.split(".", 2)
            like = parameters[int(index)]
            # Fused optimizers walk over memory, so the moments must lie as their parameter does.
            lies_alike = torch.empty_like(like).copy_(value) if value.shape == like.shape else value
            state.setdefault(int(index), {})[moment] = lies_alike
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": state, "param_groups": groups})


def settings_digest(settings: Mapping[str, Any], outside: Mapping[str, Collection[str]]) -> str:
    """Return the SHA-256 of all settings that decide the weights, as 64 hex digits.

    Args:
        settings: Of a recipe: plain values, or sections of them by name.
        outside: By section, the settings outside the identity, which change no weight; empty for
            the whole section.
    """
    deciding = dict(settings)
    for section, names in outside.items():
        values = deciding.pop(section)
        if names:
            deciding[section] = {n: value for n, value in values.items() if n not in names}
    return sha256(canonical_json(deciding).encode()).hexdigest()


def random_seed(*parts: int | str) -> int:
    """Return a seed for torch's generators that depends on all ``parts`` and nothing else.

    For instance (run's seed, step, number of the micro-batch in the global batch), or (run's seed,
    epoch, index of the image).
    """
    digest = blake2b(" ".join(map(str, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def seed_generators(*parts: int | str) -> None:
    """Seed torch's generators, of the CPU and of GPUs in use, with ``random_seed(*parts)``.

    As ``torch.manual_seed``, which however records a stack trace at every call for a CUDA that may
    never start: 6 ms, a twentieth of a small step.
    """
    seed = random_seed(*parts)
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.manual_seed_all(seed)


def _copy(value: Tensor) -> Tensor:
    """Return a contiguous copy of a tensor on the CPU, of the same shape."""
    return value.detach().to("cpu", copy=True).contiguous()
