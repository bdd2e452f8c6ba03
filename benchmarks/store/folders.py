"""A folder of runs: one folder a run, one record in each, one process at a time."""

import errno
import gc
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path
from typing import Literal

from filelock import FileLock, Timeout

from backbones.base.errors import PreflightError
from backbones.base.files import cannot_write, write_atomically, write_json_atomically
from benchmarks.store.checked import CheckedTexts
from benchmarks.store.heartbeat import Heartbeat, read_heartbeat
from benchmarks.store.record import Attempt, RunRecord, from_checked_json, from_json, to_json
from benchmarks.store.record_text import (
    BadRecordError,
    parse,
    parse_checked,
    to_text,
)
from benchmarks.store.spec import RunRequest, parse_request, write_request

State = Literal["done", "missing", "interrupted", "running", "failed", "stale"]


# Less free space than this will not hold the state of the smallest run.
_LEAST_FREE_BYTES = 64 * 2**20
# Somebody else's look at a lock lasts microseconds; a run that holds it lasts minutes.
_LOCK_PATIENCE_SECONDS = 2.0


# Beside the runs' folders; whatever starts with a dot is no run.
CACHE = ".cache"


class BusyError(Exception):
    """Another process does this run; the message says which."""


@dataclass(frozen=True)
class RunFolder:
    """The files of one run; nothing here checks that they exist."""

    path: Path

    @property
    def request(self) -> Path:
        """What the worker was asked to do."""
        return self.path / "run.json"

    @property
    def record(self) -> Path:
        """The outcome."""
        return self.path / "record.json"

    @property
    def journal(self) -> Path:
        """One JSON line per attempt that ended."""
        return self.path / "attempts.jsonl"

    @property
    def heartbeat(self) -> Path:
        """Where the run stands, rewritten every second."""
        return self.path / "heartbeat.json"

    @property
    def log(self) -> Path:
        """Everything the libraries said."""
        return self.path / "log.txt"

    @property
    def work(self) -> Path:
        """The task's own state and files."""
        return self.path / "work"

    def read_request(self) -> RunRequest:
        """Return what the worker was asked to do.

        Raises:
            BadRecordError: The file is damaged.
        """
        try:
            return parse_request(json.loads(self.request.read_bytes()))
        except (OSError, ValueError) as error:
            raise BadRecordError(f"{self.request}: {error}") from error

    def read_record(self, checked: CheckedTexts | None = None) -> RunRecord | None:
        """Return the outcome, None when there is none yet.

        Args:
            checked: What need not be checked again; what is found valid is added.

        Raises:
            BadRecordError: The file is damaged, edited, or of a newer schema.
        """
        try:
            text = self.record.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise BadRecordError(f"it cannot be read ({error.strerror})") from error
        if checked is not None and checked.knows(text):
            record = from_checked_json(parse_checked(text))
        else:
            record = from_json(parse(text), text)
            if checked is not None:
                checked.add(text)
        if self.path.name != record.run_id:
            raise BadRecordError(f"it belongs to run {record.run_id}, not into this folder")
        return record

    def is_done(self) -> bool:
        """Tell whether there is a valid record of success."""
        try:
            record = self.read_record()
        except BadRecordError:
            return False
        return record is not None and record.status == "done"

    def write_record(self, record: RunRecord) -> None:
        """Write the outcome, whole or not at all; a record that cannot be read is set aside."""
        text = to_text(to_json(record))
        try:
            self.read_record()
        except BadRecordError:
            self._set_aside()
        write_atomically(self.record, text)

    def read_attempts(self) -> tuple[Attempt, ...]:
        """Return the journal; a torn last line is left out."""
        attempts = []
        lines = self.journal.read_bytes().splitlines() if self.journal.exists() else []
        for text in lines:
            try:
                attempts.append(Attempt(**json.loads(text)))
            except (ValueError, TypeError):
                continue
        return tuple(attempts)

    def add_attempt(self, attempt: Attempt) -> None:
        """Append to the journal; a line torn by a crash stays a line of its own."""
        with self.journal.open("a+b") as file:
            torn = file.tell() > 0 and self.journal.read_bytes()[-1:] != b"\n"
            text = json.dumps(asdict(attempt)) + "\n"
            file.write((b"\n" if torn else b"") + text.encode())
            file.flush()
            os.fsync(file.fileno())

    def read_heartbeat(self) -> Heartbeat | None:
        """Return where the run stands, None when it never started."""
        return read_heartbeat(self.heartbeat)

    def reset(self) -> None:
        """Set the outcome aside and drop the state, so that the next start is from nothing."""
        if self.record.exists():
            self._set_aside()
        shutil.rmtree(self.work, ignore_errors=True)

    def _set_aside(self) -> None:
        """Keep the record under a name that nothing has yet."""
        names = (self.path / f"record-{number}.json" for number in count(len(self.read_attempts())))
        self.record.replace(next(name for name in names if not name.exists()))

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the run, so that no other process, here or on another node, does it too.

        Raises:
            BusyError: Another process holds it.
        """
        lock = FileLock(self.path / "lock", timeout=_LOCK_PATIENCE_SECONDS)
        try:
            lock.acquire()
        except Timeout as error:
            beat = self.read_heartbeat()
            holder = f" (process {beat.pid} on {beat.host})" if beat else ""
            raise BusyError(f"Another process{holder} is doing this run.") from error
        except OSError as error:
            raise cannot_write(self.path, error) from error
        try:
            yield
        finally:
            lock.release()


@dataclass(frozen=True)
class Scan:
    """What a folder of runs holds.

    Attributes:
        records: The valid ones, by run id.
        unfinished: Runs that were asked for and have no valid record.
        rejected: Files that are left out, each with the reason.
    """

    records: dict[str, RunRecord]
    unfinished: dict[str, RunRequest]
    rejected: tuple[tuple[Path, str], ...]


class Store:
    """A folder of runs.

    Args:
        root: The folder; need not exist before the first write.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    @property
    def cache(self) -> Path:
        """Folder for facts that can be computed anew."""
        return self.root / CACHE

    def folder(self, run_id: str) -> RunFolder:
        """Return the folder of a run."""
        return RunFolder(self.root / run_id)

    def check_writable(self) -> None:
        """Write and remove a small file, before any work is done.

        Raises:
            PreflightError: The folder is read-only, full, or no folder.
        """
        if self.root.exists() and not self.root.is_dir():
            raise PreflightError(f"--out {self.root} is a file; give a folder.")
        probe = self.root / f".probe-{os.getpid()}"
        write_json_atomically(probe, "x" * 4096)
        probe.unlink(missing_ok=True)
        if shutil.disk_usage(self.root).free < _LEAST_FREE_BYTES:
            raise cannot_write(self.root, OSError(errno.ENOSPC, "full"))

    def prepare(self, request: RunRequest) -> RunFolder:
        """Make the folder of a run and write what its worker needs to know."""
        folder = self.folder(request.spec.run_id)
        write_request(folder.request, request)
        return folder

    def scan(self) -> Scan:
        """Read the whole folder; what is bad is named and left out, never guessed at."""
        records: dict[str, RunRecord] = {}
        unfinished: dict[str, RunRequest] = {}
        rejected: list[tuple[Path, str]] = []
        checked = CheckedTexts(self.cache / "records.json")
        with _no_collections():
            for folder in self._folders():
                try:
                    record = folder.read_record(checked)
                except BadRecordError as error:
                    rejected.append((folder.record, str(error)))
                    record = None
                if record is not None:
                    records[record.run_id] = record
                    continue
                try:
                    if folder.request.exists():
                        unfinished[folder.path.name] = folder.read_request()
                except BadRecordError as error:
                    rejected.append((folder.request, str(error)))
        checked.save()
        return Scan(records, unfinished, tuple(rejected))

    def _folders(self) -> list[RunFolder]:
        try:
            names = sorted(entry.name for entry in os.scandir(self.root) if entry.is_dir())
        except FileNotFoundError:
            return []
        except OSError as error:
            raise PreflightError(f"--out {self.root} cannot be read: {error.strerror}.") from error
        return [RunFolder(self.root / name) for name in names if not name.startswith(".")]


@contextmanager
def _no_collections() -> Iterator[None]:
    """Keep the garbage collector from walking over all that is read, again and again."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        # There are no cycles in records; they go when nobody refers to them any more.
        gc.freeze()
        if enabled:
            gc.enable()


def run_state(folder: RunFolder) -> tuple[State, str]:
    """Return the state of a run without a record, and a note on it that gives no host away."""
    beat = folder.read_heartbeat()
    if beat is None:
        return "missing", ""
    where = f"{beat.phase} {beat.step}/{beat.num_steps}" if beat.num_steps else beat.phase
    attempts = folder.read_attempts()
    ended = bool(attempts) and attempts[-1].number >= beat.attempt
    if beat.alive and not ended:
        return "running", where
    return "interrupted", f"goes on from {where}"
