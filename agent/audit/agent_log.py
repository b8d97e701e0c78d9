"""The agent's own audit trail: what was changed of the agent as a whole, by whom, from what to what."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from agent.audit.hash_chain import Audit
from agent.base.codec import timestamp
from camera.core.address import masked

log = logging.getLogger(__name__)

FILE = "audit.jsonl"
MAX_WAITING = 1000


@dataclass(frozen=True, slots=True)
class _Row:
    at: str
    event: str
    actor: str
    why: str
    before: Any
    after: Any
    numbers: Mapping[str, Any] | None


class Trail:
    """While the file cannot be used 1000 rows wait, in order; beyond that the oldest are lost, and counted.

    Owns the file; the main thread alone uses it. No row is a reason to stand still: who looks after the line
    mends a full disk with a changed config.

    Args:
        data: the data folder.

    Attributes:
        problem: why rows wait; None while they do not.
    """

    def __init__(self, data: Path) -> None:
        self.problem: str | None = None
        self._path = data / FILE
        self._audit: Audit | None = None  # until the file can be read
        self._waiting: deque[_Row] = deque()
        self._lost = 0
        self.write()

    def record(
        self,
        event: str,
        actor: str,
        why: str = "",
        *,
        before: Any = None,
        after: Any = None,
        numbers: Mapping[str, Any] | None = None,
    ) -> None:
        """Add a row; see `Audit.append`."""
        if len(self._waiting) >= MAX_WAITING:
            self._waiting.popleft()
            self._lost += 1
        # What somebody wrote into a setting may be the address of a camera, with its password.
        texts = masked(why), _masked(before), _masked(after)
        self._waiting.append(_Row(_now(), event, actor, *texts, numbers))
        self.write()

    def write(self) -> None:
        """Write what waits."""
        try:
            if self._audit is None:
                self._audit = self._open()
            while self._waiting:
                self._append(self._audit, self._waiting[0])
                self._waiting.popleft()
        except OSError as error:
            if self.problem is None:
                log.error("audit: rows wait: %s", error)
            self.problem = str(error)
            return
        self.problem = None

    def _open(self) -> Audit:
        audit = Audit("", self._path)
        for line in reversed(audit.found):
            log.error("%s", line)
            self._waiting.appendleft(_Row(_now(), "found", "agent", line, None, None, None))
        return audit

    def _append(self, audit: Audit, row: _Row) -> None:
        if self._lost:
            why = f"{self._lost} rows were lost while the file could not be written"
            audit.append(row.at, "rows_lost", actor="agent", why=why)
            self._lost = 0
        audit.append(
            row.at,
            row.event,
            actor=row.actor,
            why=row.why,
            before=row.before,
            after=row.after,
            numbers=row.numbers,
        )


def _now() -> str:
    return timestamp(datetime.now(UTC))


def _masked(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _masked(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_masked(one) for one in value]
    return masked(value) if isinstance(value, str) else value
