"""How a run of the agent ended: a value."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LastExit:
    """The end of a run.

    Attributes:
        at: when, in UTC; where nobody could write that any more, when that run had begun.
        reason: in words.
        orderly: it stopped as it should, with everything stored that was decided; otherwise `reason` says
            what was lost.
    """

    at: str
    reason: str
    orderly: bool
