"""Whether a network may be measured: the verdict of its check, made once in a process of its own.

Some networks break their contract, and some kill the process: FastViT corrupts memory on the CPU
when its weights are laid out with channels last. A child process finds out, and the verdict is
kept for the network and the versions of timm and torch.
"""

import json
import os
import subprocess
import sys
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path

from filelock import FileLock

from backbones.base.errors import UserError
from backbones.base.files import hash16, write_json_atomically
from backbones.base.wording import command
from backbones.catalog import TIMM
from backbones.spec import BackboneSpec

# Raise it whenever the checks change.
_VERSION = 3

# Checks that only tasks on maps (detection, region matching) depend on.
_ON_MAPS = frozenset({"shapes", "odd sizes", "maps alone", "gradients", "recomputation"})


@dataclass(frozen=True)
class TrialVerdict:
    """What the check of a network found.

    Attributes:
        failures: By name of the check, what is wrong.
        channels_last: Whether its weights may be laid out with channels last.
    """

    failures: dict[str, str] = field(default_factory=dict)
    channels_last: bool = True


def verdict_of(spec: BackboneSpec, plugins: Path | None, cache: Path) -> TrialVerdict:
    """Return the verdict on a network of timm or of a plug-in; those of the zoo are tested here.

    Args:
        spec: The network.
        plugins: Folder of plug-ins.
        cache: Folder to remember verdicts in.
    """
    if not spec.name.startswith(TIMM) and not spec.file_sha256:
        return TrialVerdict()
    path = _file_of(spec, cache)
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{path}.lock"):
        known = _read(path)
        if known is None:
            known = _try_in_child(spec.name, plugins, path)
            write_json_atomically(path, asdict(known))
    return known


def known_verdict(spec: BackboneSpec, cache: Path) -> TrialVerdict:
    """Return the verdict that an earlier run remembered; without one, nothing is held against it.

    Args:
        spec: The network.
        cache: Folder that verdicts are remembered in.
    """
    return _read(_file_of(spec, cache)) or TrialVerdict()


def refuse_broken(spec: BackboneSpec, verdict: TrialVerdict, reads_maps: bool) -> None:
    """Refuse a network that fails what a task needs of it.

    Args:
        spec: The network.
        verdict: On it.
        reads_maps: Whether the task reads maps, or only pooled features.

    Raises:
        UserError: It fails; with the words of ``run.py check``.
    """
    for name, detail in verdict.failures.items():
        if reads_maps or name not in _ON_MAPS:
            raise UserError(
                f"{spec.name} fails the check {name!r}: {detail.rstrip('.')}. It cannot be "
                f"measured; see {command('check', f'random:{spec.name}')}."
            )


def _file_of(spec: BackboneSpec, cache: Path) -> Path:
    """Return the file of a network's verdict, another one for other versions of the libraries."""
    versions = [version("timm"), version("torch"), _VERSION]
    return cache / "verdicts" / f"{hash16([spec.name, spec.file_sha256, *versions])}.json"


def _read(path: Path) -> TrialVerdict | None:
    try:
        return TrialVerdict(**json.loads(path.read_text("utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def _try_in_child(name: str, plugins: Path | None, path: Path) -> TrialVerdict:
    found = path.with_suffix(".trial")
    found.unlink(missing_ok=True)
    root = str(Path(__file__).resolve().parents[1])
    paths = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    command = [sys.executable, "-m", "backbones.trial_child", name, str(plugins or ""), str(found)]
    ended = subprocess.run(
        command, env={**os.environ, "PYTHONPATH": paths}, capture_output=True, check=False
    )
    known = _read(found)
    found.unlink(missing_ok=True)
    if known is None:
        return TrialVerdict(
            {"process": f"the network ends its process (exit code {ended.returncode})"}
        )
    return known
