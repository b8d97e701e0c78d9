"""Which pictures go first where space is needed: by their rank, and by age as far as that is known."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import cache

from agent.base.codec import timestamp
from agent.base.event_id import moment_of, ulid_of
from agent.clock.trusted_time import FIRST, SLACK, Doubt, own_time
from agent.store.database import Row, moment, sound

_PICTURES = (
    "SELECT event_id, station, day, bytes, rank, seq FROM image"
    " WHERE doomed = 0 AND event_id >= ? AND event_id < ? ORDER BY rank, event_id"
)
# The pluses keep SQLite from walking through all pictures in order of rank to find the few of these times.
_OUTSIDE = _PICTURES.replace("doomed", "+doomed").replace("BY rank", "BY +rank")
_END = "a"
"""Behind every event id."""


def least_evidence(
    db: sqlite3.Connection, now: datetime, doubts: Callable[[str], Sequence[Doubt]], limit: int
) -> list[Row]:
    """Return event id, station, day and bytes of the pictures that go first.

    Event ids sort by the time that a clock said. Where that cannot be, or is in doubt, a picture is as old
    as its doubt, or as the next result whose time can be.

    Args:
        db: the store's connection.
        now: the time to count ages by.
        doubts: station -> which of its results do not have the time at which they were decided.
        limit: return at most so many.

    Raises:
        Damaged: a row holds something that was never written.
    """
    of = cache(doubts)
    earliest, latest = _id_of(FIRST), _id_of(now + SLACK)
    rows = db.execute(f"{_OUTSIDE} LIMIT ?", ("", earliest, limit)).fetchall()
    rows += db.execute(f"{_OUTSIDE} LIMIT ?", (latest, _END, limit)).fetchall()
    sure = unsure = 0
    for row in db.execute(_PICTURES, (earliest, latest)):
        doubtful = any(doubt.first <= row[5] <= doubt.last for doubt in of(row[1]))
        sure, unsure = sure + (not doubtful), unsure + doubtful
        if not doubtful or unsure <= limit:
            rows.append(row)
        if sure == limit:
            break
    rows = sound(rows, "tttnnn")
    last: dict[str, int] = {}
    for row in rows:
        last[row[1]] = max(row[5], last.get(row[1], 0))
    later = {station: following(db, station, seq, now) or now for station, seq in last.items()}

    def order(row: Row) -> tuple[int, datetime, str]:
        at = own_time(row[5], moment_of(row[0]), of(row[1]), now)
        return row[4], at or later[row[1]], row[0]

    return [row[:4] for row in sorted(rows, key=order)[:limit]]


def following(db: sqlite3.Connection, station: str, seq: int, now: datetime) -> datetime | None:
    """Return when the next result behind a number was decided whose time can be; None without one."""
    found = db.execute(
        "SELECT decided_at FROM verdict WHERE station = ? AND seq > ?"
        " AND decided_at BETWEEN ? AND ? ORDER BY seq LIMIT 1",
        (station, seq, timestamp(FIRST), timestamp(now)),
    ).fetchone()
    return None if found is None else moment(found[0])


def _id_of(moment: datetime) -> str:
    return ulid_of(max(0, int(moment.timestamp() * 1000)), 0)
