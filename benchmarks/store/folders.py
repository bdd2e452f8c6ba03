"""A folder of runs: one folder a run, one record in each, one process at a time."""

import errno
import gc
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Literal, TypeVar

from filelock import FileLock, Timeout
from msgspec.structs import asdict

from backbones.base.errors import PreflightError
from backbones.base.files import cannot_write, read_plain, write_atomically, write_json_atomically
from backbones.base.json_files import JsonFormat, UnreadableFileError
from backbones.base.leftovers import SUFFIX, prefix_of
from benchmarks.store.heartbeat import HEARTBEAT, Heartbeat, read_heartbeat
from benchmarks.store.record import Attempt, FullRecord, RunRecord
from benchmarks.store.record_file import BadRecordError, read_canonical, read_text, to_text
from benchmarks.store.spec import RunRequest, read_request, write_request

State = Literal["done", "missing", "interrupted", "running", "failed", "stale"]
R = TypeVar("R", bound=RunRecord)
_ATTEMPT = JsonFormat(Attempt, "attempt", one_line=True)

# Less free space than this will not hold the state of the smallest run.
_LEAST_FREE_BYTES = 64 * 2**20
# Somebody else's look at a lock lasts microseconds; a run that holds it lasts minutes.
_LOCK_PATIENCE_SECONDS = 2.0


# Next to the runs' folders; a name that starts with a dot is not a run.
CACHE = ".cache"
# In it: facts of data sets, listings of images, features.
DATA_CACHE = "data"
_REMEMBERED = (DATA_CACHE, "images", "features")


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
            return read_request(self.request)
        except UnreadableFileError as error:
            raise BadRecordError(f"{self.request}: {error.reason}") from error

    def read_record(self) -> RunRecord | None:
        """Return the outcome without its bulky parts, None when there is none yet.

        Raises:
            BadRecordError: The file is damaged, edited, or of a newer schema.
        """
        return self._read(read_text)

    def read_full_record(self) -> FullRecord | None:
        """Return the whole outcome, None when there is none yet.

        Raises:
            BadRecordError: As ``read_record``.
        """
        found = self.read_canonical_record()
        return found and found[0]

    def read_canonical_record(self) -> tuple[FullRecord, bytes] | None:
        """Return the whole outcome and the bytes of its file, None when there is none yet.

        Raises:
            BadRecordError: As ``read_record``.
        """
        text: list[bytes] = []

        def parse(content: bytes) -> FullRecord:
            record, canonical = read_canonical(content)
            text.append(canonical)
            return record

        record = self._read(parse)
        return (record, text[0]) if record is not None else None

    def _read(self, parse: Callable[[bytes], R]) -> R | None:
        try:
            record = parse(read_plain(self.record))
        except FileNotFoundError:
            return None
        except OSError as error:
            raise BadRecordError(f"it cannot be read ({error.strerror})") from error
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

    def write_record(self, record: FullRecord) -> None:
        """Write the outcome, whole or not at all; a record that cannot be read is set aside."""
        text = to_text(record)
        try:
            self.read_record()
        except BadRecordError:
            self._set_aside()
        write_atomically(self.record, text)

    def read_attempts(self) -> tuple[Attempt, ...]:
        """Return the journal; invalid lines are left out, see ``faults``."""
        return tuple(one for one in self._journal_lines() if isinstance(one, Attempt))

    def faults(self) -> Iterator[tuple[Path, str]]:
        """Yield heartbeat and journal where they are invalid, each with the reason.

        A run goes on without them: a heartbeat is rewritten every second, and a journal that lost
        a line only lacks one attempt.
        """
        try:
            if os.path.lexists(self.heartbeat):
                HEARTBEAT.read(self.heartbeat)
        except UnreadableFileError as error:
            yield self.heartbeat, error.reason
        except OSError as error:
            yield self.heartbeat, f"it cannot be read ({error.strerror})"
        for number, line in enumerate(self._journal_lines(), start=1):
            if isinstance(line, str):
                yield self.journal, f"line {number}: {line}"

    def _journal_lines(self) -> list[Attempt | str]:
        """Return every line of the journal, an invalid one as the reason why it is invalid."""
        try:
            text = read_plain(self.journal)
        except FileNotFoundError:
            return []
        except OSError as error:
            return [f"it cannot be read ({error.strerror})"]
        found: list[Attempt | str] = []
        for line in text.splitlines(keepends=True):
            try:
                found.append(_ATTEMPT.parse(line))
            except ValueError as error:
                # A last line without an end was truncated by a crash, which is no fault.
                found += [str(error)] if line.endswith(b"\n") else []
        return found

    def add_attempt(self, attempt: Attempt) -> None:
        """Append to the journal; a line that a crash truncated stays a line of its own."""
        with self.journal.open("a+b") as file:
            truncated = file.tell() > 0 and self.journal.read_bytes()[-1:] != b"\n"
            file.write((b"\n" if truncated else b"") + _ATTEMPT.text(attempt))
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

    def forget(self) -> None:
        """Drop what is remembered of data and features, so that all of it is read again.

        Renamed first: a run that reads features meanwhile finds them whole or not at all.
        """
        for remembered in (self.cache / name for name in _REMEMBERED):
            old = remembered.with_name(f"{prefix_of(remembered.name)}old{SUFFIX}")
            with suppress(FileNotFoundError):
                remembered.rename(old)
            shutil.rmtree(old, ignore_errors=True)

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
        probe = self.root / f"{prefix_of('probe')}x{SUFFIX}"
        write_json_atomically(probe, "x" * 4096)
        probe.unlink(missing_ok=True)
        if shutil.disk_usage(self.root).free < _LEAST_FREE_BYTES:
            raise cannot_write(self.root, OSError(errno.ENOSPC, "full"))

    def prepare(self, request: RunRequest) -> RunFolder:
        """Make the folder of a run and write what its worker needs to know."""
        folder = self.folder(request.spec.run_id)
        write_request(folder.request, request)
        return folder

    def full(self, record: RunRecord) -> FullRecord:
        """Return a record of a scan with its bulky parts, read from its file.

        Where they are invalid or the file is another one by now, they are empty, and the record's
        warnings say so.

        Args:
            record: The record, perhaps without names of hosts and users.
        """
        if isinstance(record, FullRecord):
            return record
        facts = asdict(record)
        try:
            found = self.folder(record.run_id).read_full_record()
            if found is not None and found.finished == record.finished:
                return FullRecord(**facts, per_class=found.per_class, curves=found.curves)
            reason = "the run was done again meanwhile"
        except BadRecordError as error:
            reason = str(error)
        missing = f"its curves and its values by class are left out: {reason}"
        facts["warnings"] = (*record.warnings, missing)
        return FullRecord(**facts, per_class={}, curves={})

    def scan(self) -> Scan:
        """Read the whole folder; what is bad is named and left out, never guessed at."""
        records: dict[str, RunRecord] = {}
        unfinished: dict[str, RunRequest] = {}
        rejected: list[tuple[Path, str]] = []
        with _no_collections():
            for folder in self.folders(rejected):
                try:
                    record = folder.read_record()
                except BadRecordError as error:
                    rejected.append((folder.record, str(error)))
                    record = None
                if record is not None:
                    records[record.run_id] = record
                    continue
                try:
                    unfinished[folder.path.name] = read_request(folder.request)
                except UnreadableFileError as error:
                    if not isinstance(error.__cause__, FileNotFoundError):
                        rejected.append((folder.request, error.reason))
                else:
                    rejected += folder.faults()
        return Scan(records, unfinished, tuple(rejected))

    def folders(self, rejected: list[tuple[Path, str]]) -> list[RunFolder]:
        """Return the folders of runs, by name.

        Args:
            rejected: Gets what cannot even be looked at, with the reason.

        Raises:
            PreflightError: The folder of runs cannot be read.
        """
        names = []
        try:
            for entry in os.scandir(self.root):
                try:
                    if not entry.name.startswith(".") and entry.is_dir():
                        names.append(entry.name)
                except OSError as error:
                    rejected.append((Path(entry.path), f"it cannot be read ({error.strerror})"))
        except FileNotFoundError:
            return []
        except OSError as error:
            raise PreflightError(f"--out {self.root} cannot be read: {error.strerror}.") from error
        return [RunFolder(self.root / name) for name in sorted(names)]


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
    beat, attempts = folder.read_heartbeat(), folder.read_attempts()
    if beat is None:  # perhaps damaged; then the journal tells that the run was started
        return (
            ("interrupted", f"after attempt {attempts[-1].number}") if attempts else ("missing", "")
        )
    where = f"{beat.phase} {beat.step}/{beat.num_steps}" if beat.num_steps else beat.phase
    ended = bool(attempts) and attempts[-1].number >= beat.attempt
    if beat.alive and not ended:
        return "running", where
    return "interrupted", f"goes on from {where}"
