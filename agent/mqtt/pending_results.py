"""Results that wait in memory for the disk: verdicts that were decided and are not stored yet."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence

from agent.domain.verdict import Verdict

MAX_PENDING = 10_000
"""Verdicts that may wait in memory for the disk: at 100 parts a second, a full disk for 100 seconds."""


class PendingResults:
    """When 10 000 verdicts wait, `put` waits; where it may not, `lose_oldest` loses the oldest, counted.

    Owns the verdicts; any thread puts and asks, the publisher's thread takes.

    Attributes:
        lost: verdicts that never reached the disk.
    """

    def __init__(self) -> None:
        self.lost = 0
        self._space = threading.Condition()
        self._verdicts: deque[Verdict] = deque()
        self._left_over: frozenset[str] = frozenset()

    def __len__(self) -> int:
        return len(self._verdicts)

    def put(self, verdicts: Sequence[Verdict], may_wait: Callable[[], bool]) -> None:
        """Take verdicts over, in order; waits for room as long as `may_wait` says so."""
        with self._space:
            while len(self._verdicts) >= MAX_PENDING and may_wait():
                self._space.wait(0.1)
            self._verdicts.extend(verdicts)

    def batch(self) -> list[Verdict]:
        """Return what waits, oldest first; it goes on waiting."""
        with self._space:
            return list(self._verdicts)

    def stored(self, count: int) -> None:
        """Let go of the oldest so many: they are on disk."""
        with self._space:
            for _ in range(count):
                self._verdicts.popleft()
            self._space.notify_all()

    def lose_oldest(self) -> None:
        """Lose what is too much."""
        with self._space:
            while len(self._verdicts) > MAX_PENDING:
                _lose(self._verdicts.popleft())
                self.lost += 1

    def lose_all(self) -> None:
        """Lose what waits: the store is closed."""
        with self._space:
            self._left_over = self._ids()
            self.lost += len(self._left_over)
            while self._verdicts:
                _lose(self._verdicts.popleft())

    def waiting_ids(self) -> set[str]:
        """Return the event ids of what waits."""
        with self._space:
            return set(self._ids())

    def unsaved_ids(self) -> frozenset[str]:
        """Return the event ids of what waits, and of what waited when the store was closed."""
        with self._space:
            return self._left_over | self._ids()

    def _ids(self) -> frozenset[str]:
        return frozenset(verdict.event_id for verdict in self._verdicts)


def _lose(verdict: Verdict) -> None:
    """Tell the source, where it must know, that this verdict is stored by nobody."""
    if verdict.receipt is not None:
        verdict.receipt.lost()
