"""The numbers of results: 1, 2, 3, ... per station without gaps, also where old results were forgotten."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime

from agent.base.event_id import moment_of
from agent.clock.trusted_time import FIRST
from agent.domain.verdict import Verdict
from agent.store.database import sound

_LAST = """
WITH RECURSIVE s(station) AS (
  SELECT MIN(station) FROM verdict
  UNION ALL
  SELECT (SELECT MIN(station) FROM verdict WHERE station > s.station) FROM s WHERE station IS NOT NULL)
SELECT station, MAX(seq) FROM (
  SELECT station, (SELECT MAX(seq) FROM verdict v WHERE v.station = s.station) AS seq FROM s
  UNION ALL
  SELECT station, last_seq FROM numbering)
WHERE station IS NOT NULL GROUP BY station"""
"""The last number of each station, from one end of the index to the next: GROUP BY would read all of it."""
_NUMBER = (
    "INSERT INTO numbering (station, last_seq) VALUES (?, ?)"
    " ON CONFLICT (station) DO UPDATE SET last_seq = excluded.last_seq"
)


def last_numbers(db: sqlite3.Connection) -> dict[str, int]:
    """Return the number of each station's newest result, also of a station that has none stored any more.

    Raises:
        Damaged: one is no number.
    """
    return dict(sound(db.execute(_LAST), "tn"))


def newest_at(db: sqlite3.Connection, last: Mapping[str, int]) -> datetime | None:
    """Return when the newest results say that they were decided; None without one to be believed.

    Args:
        last: the number of each station's newest result.
    """
    # Not from the payload: what one flipped bit makes unreadable there is no reason not to start.
    query = "SELECT event_id FROM verdict WHERE station = ? AND seq = ?"
    ids = [row[0] for key in last.items() for row in db.execute(query, key)]
    return max((at for one in ids if (at := moment_of(one)) is not None and at >= FIRST), default=None)


def numbered(
    verdicts: Sequence[Verdict], last: Mapping[str, int]
) -> tuple[list[tuple[Verdict, int]], dict[str, int]]:
    """Return verdicts with their numbers, and the last number of each station after them."""
    now, rows = dict(last), []
    for verdict in verdicts:
        now[verdict.station] = now.get(verdict.station, 0) + 1
        rows.append((verdict, now[verdict.station]))
    return rows, now


def keep_numbers(db: sqlite3.Connection, last: Mapping[str, int], stations: Collection[str]) -> None:
    """Write the last numbers of these stations; within a transaction."""
    db.executemany(_NUMBER, [(station, last[station]) for station in stations])
