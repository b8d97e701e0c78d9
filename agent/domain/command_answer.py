"""What became of a command: a value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from agent.base.codec import JSON
from agent.base.text import harmless

Status = Literal["done", "accepted", "refused"]

_MAX_REASON = 300


def one_line(text: str) -> str:
    """Return a text from outside as one that a journal can show: printable, and not endless."""
    shown = "".join(letter if harmless(letter) else "�" for letter in text)
    return shown if len(shown) <= _MAX_REASON else f"{shown[:_MAX_REASON]}…"


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of a command.

    Attributes:
        status: ``done``; ``accepted``: it will be; ``refused``: nothing was changed.
        reason: one sentence; None where there is nothing to explain.
        data: what was asked for.
        before, after: what a change changed, for the audit trail.
    """

    status: Status
    reason: str | None = None
    data: JSON | None = None
    before: Any = None
    after: Any = None


def refused(why: str) -> Answer:
    """Return the answer that says no."""
    return Answer("refused", one_line(why))
