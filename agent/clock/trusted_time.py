"""The time by which what is stored grows old: that of a clock which was known to be right.

A line PC may boot without a battery in 1970 or in a past year, and be set right a minute later; its clock
may leap into a far future and come back. Nothing may be deleted early by that. So beside the clock of the
machine, which can be set, goes a line of time that was right once and runs on with the seconds that really
pass. The machine's clock is believed while it agrees with that line; where it does not, once NTP or PTP
keeps it, or once it has gone on for a day. Until then the earlier of both counts, and the times of new
results are in doubt.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

FIRST = datetime(2025, 1, 1, tzinfo=UTC)
"""Before any release of this agent: nothing was decided then, whatever a clock said."""
SLACK = timedelta(hours=1)
"""By which a clock may be set without a question: what is kept for days is kept an hour less at most."""
_BELIEVED_S = 86_400.0
_MOST_S = 3_600.0
"""That count between two looks: while the agent was away nobody looked at the clock."""

_TIMESYNCD = Path("/run/systemd/timesync/synchronized")
_MARK_S = 7_200.0
"""It touches the mark at each answer: every 34 minutes at the least, `PollIntervalMaxSec=`, and where an
answer is lost a little later. A clock that is set by hand behind NTP's back is further away from it."""
_TIMEX_BYTES = 512
_TIME_ERROR = 5


@dataclass(frozen=True, slots=True)
class ClockReading:
    """What the machine's clocks say at one moment.

    Attributes:
        wall: UTC; anybody may set it.
        up_s: seconds since the machine was started, sleep included; nobody can set it.
        synchronised: NTP or PTP keeps the wall clock.
    """

    wall: datetime
    up_s: float
    synchronised: bool


@dataclass(frozen=True, slots=True)
class TrustedTime:
    """What is known of the time.

    Attributes:
        at: a time that was right; None where none is known yet.
        up_s: of the machine then.
        off_s: for how long the wall clock has been another one, in seconds that the agent ran; negative while
            it is behind.
        trusted: the wall clock agrees.
    """

    at: datetime | None = None
    up_s: float = 0.0
    off_s: float = 0.0
    trusted: bool = False

    def now(self, reading: ClockReading) -> datetime:
        """Return the time to count ages by; never later than a time that is known to be right."""
        return reading.wall if self.at is None else min(reading.wall, self.at)


@dataclass(frozen=True, slots=True)
class Doubt:
    """Results of a station whose own times are not to be believed.

    Attributes:
        first, last: their numbers.
        at: when all of them had been decided; None while that is not known.
    """

    station: str
    first: int
    last: int
    at: datetime | None


def step(known: TrustedTime, reading: ClockReading) -> tuple[TrustedTime, bool]:
    """Return what is known now, and whether the wall clock is believed at another time than was known."""
    if known.at is None:
        right = reading.wall >= FIRST
        return TrustedTime(reading.wall if right else None, reading.up_s, 0.0, right), right
    # After a start of the machine at least this much has passed; how long it was off is not known.
    passed_s = reading.up_s - known.up_s if reading.up_s >= known.up_s else reading.up_s
    line = known.at + timedelta(seconds=passed_s)
    off = reading.wall - line
    if abs(off) <= SLACK:
        return TrustedTime(reading.wall, reading.up_s, 0.0, True), False
    way = 1.0 if off > timedelta() else -1.0
    since_s = max(0.0, known.off_s * way) + min(passed_s, _MOST_S)
    if reading.synchronised or since_s >= _BELIEVED_S:
        return TrustedTime(reading.wall, reading.up_s, 0.0, True), True
    return TrustedTime(line, reading.up_s, way * since_s, False), False


def counted(
    rows: Sequence[tuple[int, datetime | None]],
    doubts: Sequence[Doubt],
    now: datetime,
    following: datetime | None = None,
) -> list[datetime]:
    """Return when results count as decided, never earlier than they were: in the order of their numbers.

    A time that cannot be, or is in doubt, says nothing: such a result is as old as the next one whose time
    can be. And none is older than one that was decided before it.

    Args:
        rows: number and own time of a station's results, ascending.
        doubts: of this station.
        now: `TrustedTime.now`.
        following: of the next result behind them whose time can be; None where there is none.
    """
    times = [_possible(_said(number, own, doubts), now) for number, own in rows]
    later = following or now
    for place in reversed(range(len(times))):
        later = times[place] = times[place] or later
    earlier = FIRST
    found = []
    for one in times:
        assert one is not None
        earlier = max(earlier, one)
        found.append(earlier)
    return found


def own_time(number: int, own: datetime | None, doubts: Sequence[Doubt], now: datetime) -> datetime | None:
    """Return when a result had been decided at the latest, by itself; None where it does not say that.

    Args:
        number: its number.
        own: the time that it has.
        doubts: of its station.
        now: `TrustedTime.now`.
    """
    return _possible(_said(number, own, doubts), now)


def read_clocks() -> ClockReading:
    """Return what the machine's clocks say now."""
    return ClockReading(datetime.now(UTC), time.clock_gettime(time.CLOCK_BOOTTIME), _synchronised())


def _said(number: int, own: datetime | None, doubts: Sequence[Doubt]) -> datetime | None:
    for doubt in doubts:
        if doubt.first <= number <= doubt.last:
            return doubt.at
    return own


def _possible(moment: datetime | None, now: datetime) -> datetime | None:
    return moment if moment is not None and FIRST <= moment <= now + SLACK else None


def _marked(wall_s: float) -> bool:
    """Whether the wall clock goes on from where timesyncd has left it: the mark stays when NTP is gone."""
    try:
        return abs(wall_s - _TIMESYNCD.stat().st_mtime) <= _MARK_S
    except OSError:
        return False


def _synchronised() -> bool:
    """Ask timesyncd's mark, and the kernel where the sandbox lets us."""
    if _marked(time.time()):
        return True
    timex = ctypes.create_string_buffer(_TIMEX_BYTES)  # all zero: it is asked, not set
    try:
        state = int(ctypes.CDLL(None, use_errno=True).adjtimex(timex))
    except (AttributeError, OSError):  # another C library
        return False
    return 0 <= state < _TIME_ERROR
