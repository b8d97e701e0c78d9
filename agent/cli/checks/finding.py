"""The answer to one question that `mekiki doctor` asks."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Finding:
    """The answer to one question.

    Attributes:
        ok: nothing keeps the agent from inspecting.
        warns: all the same somebody should look at it.
    """

    ok: bool
    subject: str
    text: str
    warns: bool = False

    def __str__(self) -> str:
        return f"{('warn' if self.warns else 'ok  ') if self.ok else 'FAIL'} {self.subject}: {self.text}"
