"""An error that learning failed with: what to say of it, and how long to leave it alone."""

from __future__ import annotations

import traceback
from dataclasses import dataclass
from pathlib import Path

_ROOT = Path(__file__).parents[2]
_OURS = ("adapters", "agent", "camera")
_FIRST_S = 1.0
_LONGEST_S = 900.0


@dataclass(frozen=True, slots=True)
class Failure:
    """What is known of it.

    Attributes:
        why: the error and its place, for health.
        place: the line of ours that it came from.
        times: in a row at this place.
        pause_s: until learning is tried again.
    """

    why: str
    place: str
    times: int
    pause_s: float


def failure_of(error: BaseException, before: Failure | None) -> Failure:
    """Return what to make of an error: at the same place as before the pause is twice as long.

    Args:
        error: as it was raised.
        before: what learning failed with last; None where it has not failed, or went well for long.
    """
    place = _place(error)
    times = before.times + 1 if before is not None and before.place == place else 1
    pause_s = min(_FIRST_S * 2 ** min(times - 1, 30), _LONGEST_S)
    # Only the first line: the rest, and numbers that change, are in the journal.
    said = str(error).partition("\n")[0][:200]
    return Failure(f"{type(error).__name__} at {place}: {said}", place, times, pause_s)


def _place(error: BaseException) -> str:
    """Return the innermost line of ours."""
    place = "an unknown place"
    for frame in traceback.extract_tb(error.__traceback__):
        file = Path(frame.filename)
        if file.is_relative_to(_ROOT) and file.relative_to(_ROOT).parts[0] in _OURS:
            place = f"{file.relative_to(_ROOT)}:{frame.lineno}"
    return place
