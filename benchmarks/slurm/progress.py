"""How far a run came in the attempts of one submission, and whether its time limit suffices."""

import math
from contextlib import suppress

from msgspec import Struct
from msgspec.structs import replace

from backbones.base.json_files import JsonFormat, UnreadableFileError
from benchmarks.store.folders import RunFolder
from benchmarks.store.heartbeat import Heartbeat

_STATE = "requeues.json"
# A long training goes on over a few attempts, and nothing is wrong with that.
_FEW_ATTEMPTS = 5
# Steps are not equally fast, and the last state has to be saved.
_SPARE = 1.2


class Requeues(Struct, frozen=True, forbid_unknown_fields=True):
    """How far a run came in the attempts of one submission.

    Attributes:
        submission: Name of the submission's folder.
        best: Last step that was reached, by phase.
        without_progress: Attempts in a row that did not get further.
        attempt: Number of the run's attempt that wrote the last heartbeat.
        at_limit: Attempts that ended at the time limit.
        notice: What to change when the time limit is too short for progress; else empty.
    """

    submission: str
    best: dict[str, int]
    without_progress: int
    attempt: int = 0
    at_limit: int = 0
    notice: str = ""


_FORMAT = JsonFormat(Requeues, "state of requeues")


def read_requeues(folder: RunFolder) -> Requeues | None:
    """Return how far a run came, None where that is unknown."""
    with suppress(UnreadableFileError):
        return _FORMAT.read(folder.path / _STATE)
    return None


def note_attempt(folder: RunFolder, submission: str, limit_minutes: int) -> Requeues:
    """Write down how far an attempt came that has just ended, and return that.

    Progress is a step in some phase that no attempt of this submission had reached.

    Args:
        folder: Folder of the run.
        submission: Name of the submission's folder.
        limit_minutes: Time limit that the attempt ended at; 0 where something else ended it.
    """
    known = read_requeues(folder)
    before = known if known and known.submission == submission else Requeues(submission, {}, 0)
    beat = folder.read_heartbeat()
    # An attempt that was ended before its first heartbeat has left the file of the one before.
    if beat is not None and limit_minutes and beat.attempt == before.attempt:
        beat = None
    phase, step = (beat.phase, beat.step) if beat is not None else ("start", 0)
    reached = before.best.get(phase, 0)
    state = replace(
        before,
        attempt=beat.attempt if beat is not None else before.attempt,
        at_limit=before.at_limit + (limit_minutes > 0),
        best={**before.best, phase: step} if step > reached else before.best,
        without_progress=0 if step > reached else before.without_progress + 1,
    )
    if limit_minutes and state.at_limit > 1:
        state = replace(state, notice=_notice(state.at_limit, limit_minutes, beat, reached))
    _FORMAT.write(folder.path / _STATE, state)
    return state


def _notice(attempts: int, limit: int, beat: Heartbeat | None, reached: int) -> str:
    """Return a sentence on a time limit that is too short for progress, else an empty text.

    Args:
        attempts: Attempts that ended at the limit.
        limit: The limit in minutes.
        beat: Last heartbeat of the last of them, None where it wrote none.
        reached: Step that the attempts before it had reached in the same phase.
    """
    ended = f"{attempts} attempts ended at the time limit of {limit} min"
    if beat is None or beat.num_steps == 0:
        return (
            f"{ended}, the last one before its first step. Set minutes in the cluster's profile to "
            f"{2 * limit} or more."
        )
    if beat.step <= reached:
        more = "it got no further than the ones before"
    else:
        left = math.ceil((beat.num_steps - beat.step) / (beat.step - reached))
        if left <= _FEW_ATTEMPTS:
            return ""
        more = f"about {left:,} more attempts are needed"
    return (
        f"{ended}, the last one at step {beat.step:,} of {beat.num_steps:,} ({beat.phase}); "
        f"{more}. Set minutes in the cluster's profile to {_minutes(beat, limit)}."
    )


def _minutes(beat: Heartbeat, limit: int) -> str:
    """Return the minutes that an attempt needs for all steps of the phase, in words."""
    steps, seconds = beat.step - beat.phase_step, beat.time - beat.phase_time
    if steps <= 0 or seconds <= 0:
        return f"{2 * limit} or more"
    start = max(0.0, beat.phase_time - beat.started)
    whole = start + _SPARE * beat.num_steps * seconds / steps
    return f"{max(limit + 1, math.ceil(whole / 60)):,} to do all steps in one attempt"
