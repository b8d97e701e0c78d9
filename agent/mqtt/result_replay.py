"""Results that a subscriber asks for again: ranges of numbers, read from the store when their turn comes."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from agent.base.rate_limiter import RateLimiter
from agent.store.store import Store, Stored

MAX_RANGES = 16


@dataclass(slots=True)
class _Range:
    station: str
    next: int
    last: int
    unanswered: set[int] = field(default_factory=set)


class ResultReplay:
    """When 16 ranges wait, the next one is not taken; who asked is told so.

    Owns the ranges; the publisher's thread alone uses it. One range after the other, each in its order. What
    the broker has not acknowledged when a connection is lost is sent again over the next one. Ranges that
    wait when the agent ends are forgotten.

    Args:
        store: where results are.
        per_s: results a second.

    Attributes:
        sent: results since the start.
    """

    def __init__(self, store: Store, per_s: float) -> None:
        self.sent = 0
        self._store = store
        self.use(per_s)
        self._ranges: deque[_Range] = deque()

    def __bool__(self) -> bool:
        return bool(self._ranges)

    def use(self, per_s: float) -> None:
        """Send so many results a second from now on."""
        self._pace = RateLimiter(per_s, max(1.0, per_s / 10))

    def add(self, station: str, first: int, last: int) -> bool:
        """Send a range when its turn comes; False where too many wait."""
        if len(self._ranges) >= MAX_RANGES:
            return False
        self._ranges.append(_Range(station, first, last))
        return True

    def take(self, room: int, now: float) -> list[tuple[str, Stored]]:
        """Return stations and results that are to be sent now, at most `room`.

        Raises:
            DiskTrouble: the disk cannot be read now; nothing was taken.
        """
        if not self._ranges or room <= 0:
            return []
        one = self._ranges[0]
        allowed = 0
        while allowed < room and one.next + allowed <= one.last and self._pace.allows(now):
            allowed += 1
        if not allowed:
            return []
        rows = self._store.between(one.station, one.next, one.last, allowed)
        one.next = rows[-1].seq + 1 if rows else one.last + 1
        one.unanswered |= {row.seq for row in rows}
        self.sent += len(rows)
        self._finish()
        return [(one.station, row) for row in rows]

    def answered(self, seq: int) -> None:
        """Note that the broker has a result of the range that is being sent."""
        if self._ranges:
            self._ranges[0].unanswered.discard(seq)
            self._finish()

    def rewind(self) -> None:
        """Send again what the lost connection may not have delivered."""
        if self._ranges and self._ranges[0].unanswered:
            one = self._ranges[0]
            one.next = min(one.unanswered)
            one.unanswered.clear()

    def _finish(self) -> None:
        one = self._ranges[0]
        if one.next > one.last and not one.unanswered:
            self._ranges.popleft()
