"""The audit trail of a station while it learns: lines wait where the disk does not take them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Any

from agent.audit.hash_chain import Audit
from agent.versions.learner_memory import Record

log = logging.getLogger(__name__)

MAX_WAITING = 200


class StationTrail:
    """While the disk is full up to 200 lines wait, in order; beyond it the oldest are lost, counted in one.

    Owns what waits. For the learner's thread. No line is a reason not to do what it is about.

    Args:
        audit: of the station.
        on_event: told of each line once it is in the trail.

    Attributes:
        trouble: what the disk did not take, of the trail or of what else its owner says; None while it takes
            everything.
    """

    def __init__(self, audit: Audit, on_event: Callable[[dict[str, Any]], None]) -> None:
        self.trouble: str | None = None
        self._audit, self._on_event = audit, on_event
        self._waiting: list[Record] = []
        self._lost = 0

    @property
    def lines(self) -> int:
        """How many lines there are in the file."""
        return self._audit.n

    @property
    def waiting(self) -> tuple[Record, ...]:
        """Lines that are not in the file yet."""
        return tuple(self._waiting)

    def settle(self, records: Iterable[Record], after: int) -> None:
        """Take lines that were to be added before a crash, but for those that are there above that number."""
        records = list(records)
        try:
            self._waiting += [record for record in records if not self._audit.holds(record, after)]
        except OSError as error:
            self._waiting += records
            self.failed(error)

    def add(self, record: Record) -> None:
        """Let a line wait until `flush`."""
        if len(self._waiting) >= MAX_WAITING:
            del self._waiting[0]
            self._lost += 1
        self._waiting.append(record)

    def flush(self) -> None:
        """Write what waits, in order."""
        while self._waiting:
            try:
                if self._lost:
                    why = f"{self._lost} lines were lost while the disk did not take them"
                    self._audit.append(self._waiting[0]["at"], "lines_lost", actor="agent", why=why)
                    self._lost = 0
                self._audit.append(**self._waiting[0])
            except OSError as error:
                self.failed(error)
                return
            self._on_event(dict(self._waiting.pop(0)))

    def failed(self, error: OSError) -> None:
        """Remember what the disk did not take."""
        if self.trouble is None:
            log.error("%s; nothing is learned until the disk takes it", error)
        self.trouble = str(error)
