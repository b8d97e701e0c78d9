"""The agent's own audit trail: what was changed of the agent as a whole, by whom, from what to what."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from agent.audit import Audit
from agent.errors import StoreError
from agent.payloads import timestamp

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
    """While the disk is full up to 1000 rows wait, in order; beyond it the oldest are lost, counted in a row.

    Owns the file; the main thread alone uses it. No row is a reason to stand still: who looks after the line
    mends a full disk with a changed config.

    Args:
        data: the data folder.

    Attributes:
        problem: why rows wait; None while they do not.

    Raises:
        StoreError: the trail cannot be read.
    """

    def __init__(self, data: Path) -> None:
        self.problem: str | None = None
        self._waiting: deque[_Row] = deque()
        self._lost = 0
        try:
            self._audit = Audit("", data / FILE)
        except OSError as error:
            raise StoreError(f"{data / FILE}: cannot be read: {error.strerror or error}") from error
        for line in self._audit.found:
            log.error("%s", line)
            self.record("found", "agent", line)

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
        self._waiting.append(_Row(timestamp(datetime.now(UTC)), event, actor, why, before, after, numbers))
        self.write()

    def write(self) -> None:
        """Write what waits."""
        while self._waiting:
            row = self._waiting[0]
            try:
                if self._lost:
                    why = f"{self._lost} rows were lost while the disk was full"
                    self._audit.append(row.at, "rows_lost", actor="agent", why=why)
                    self._lost = 0
                self._audit.append(
                    row.at,
                    row.event,
                    actor=row.actor,
                    why=row.why,
                    before=row.before,
                    after=row.after,
                    numbers=row.numbers,
                )
            except OSError as error:
                if self.problem is None:
                    log.error("audit: rows wait: %s", error)
                self.problem = str(error)
                return
            self._waiting.popleft()
        self.problem = None
