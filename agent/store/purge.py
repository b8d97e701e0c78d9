"""Deleting results or pictures because a person says so, while no agent runs."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from agent.clock.time_book import TimeBook
from agent.clock.trusted_time import own_time
from agent.store.database import NAME, make_shrinkable, moment, open_database, open_to_read, ours
from agent.store.image_files import ImageFiles

_BEFORE = "decided_before"
_AT_ONCE = 5000
"""Results of one transaction."""


@dataclass(frozen=True, slots=True)
class Purge:
    """What is to go.

    Attributes:
        before: decided before this moment for sure; None: whenever.
        station: of this one alone; None: of all.
        images_only: pictures alone.
    """

    before: datetime | None
    station: str | None
    images_only: bool = False

    def where(self) -> tuple[str, tuple[Any, ...]]:
        """Return the condition on a result `v`, with its values."""
        return (
            f"(? IS NULL OR v.station = ?) AND {_BEFORE}(v.station, v.seq, v.decided_at)",
            (self.station, self.station),
        )

    def prepare(self, db: sqlite3.Connection, data: Path) -> None:
        """Let a connection know what was decided before: where a time is in doubt it may have been later."""
        before = self.before
        doubts, now = cache(TimeBook(data, {}, None).doubts), datetime.now(UTC)

        def decided_before(station: str, seq: int, decided_at: str) -> bool:
            if before is None:
                return True
            at = own_time(seq, moment(decided_at), doubts(station), now)
            return at is not None and at < before

        db.create_function(_BEFORE, 3, decided_before)


@dataclass(frozen=True, slots=True)
class Going:
    """How much it is.

    Attributes:
        waiting: of the results, not delivered yet.
    """

    results: int
    waiting: int
    images: int
    image_bytes: int


def would_go(data: Path, purge: Purge) -> Going:
    """Count what is to go; the agent may be running.

    Raises:
        DiskTrouble, Damaged: the database cannot be read.
    """
    where, values = purge.where()
    path = data / NAME
    with closing(open_to_read(path)) as db, ours(path):
        purge.prepare(db, data)

        def ask(what: str, more: str = "") -> tuple[int, ...]:
            query = f"SELECT {what} FROM verdict v {more} WHERE {where}"  # noqa: S608 - words of ours
            found: tuple[int, ...] = db.execute(query, values).fetchone()
            return found

        join = "JOIN image i ON i.event_id = v.event_id"
        images, image_bytes = ask("COUNT(*), IFNULL(SUM(i.bytes), 0)", join)
        if purge.images_only:
            return Going(0, 0, images, image_bytes)
        (results,) = ask("COUNT(*)")
        (waiting,) = ask("COUNT(*)", "JOIN outbox o ON o.station = v.station AND o.seq = v.seq")
        return Going(results, waiting, images, image_bytes)


def purge(data: Path, options: Purge, tell: Callable[[str], None]) -> None:
    """Delete it, and write the database anew without it; the caller holds the data folder.

    May be cut off at any moment: what is gone is gone with all that hangs on it, and it can be done again.

    Args:
        tell: hears how far it is.

    Raises:
        DiskTrouble: the disk does not take it; what was deleted until then is gone.
    """
    where, values = options.where()
    files = ImageFiles(data)
    path = data / NAME
    with closing(open_database(path)) as db, ours(path):
        options.prepare(db, data)
        db.execute("PRAGMA secure_delete = ON")  # whatever SQLite was built with
        done = 0
        query = (
            "SELECT v.station, v.seq, v.event_id, substr(v.decided_at, 1, 10), i.event_id IS NOT NULL"  # noqa: S608
            f" FROM verdict v LEFT JOIN image i ON i.event_id = v.event_id WHERE {where}"
            " AND (NOT ? OR i.event_id IS NOT NULL) LIMIT ?"
        )
        while True:
            rows = db.execute(query, (*values, options.images_only, _AT_ONCE)).fetchall()
            if not rows:
                break
            _delete(db, files, rows, images_only=options.images_only)
            done += len(rows)
            tell(f"{done} deleted")
        # Also so that nobody finds what was deleted in the bytes that are left. It needs room for a copy.
        if shutil.disk_usage(data).free > 2 * path.stat().st_size:
            make_shrinkable(db)
        else:
            tell("too little room to write the database anew: it keeps its size, and is filled again")
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()


def _delete(
    db: sqlite3.Connection, files: ImageFiles, rows: list[tuple[Any, ...]], *, images_only: bool
) -> None:
    events = [(row[2],) for row in rows]
    numbers = [row[:2] for row in rows]
    # As the agent does it: doomed first, so that a crash leaves no file that nobody knows.
    with db:
        db.execute("BEGIN IMMEDIATE")
        db.executemany("UPDATE image SET doomed = 1 WHERE event_id = ?", events)
        if not images_only:
            db.executemany("DELETE FROM outbox WHERE station = ? AND seq = ?", numbers)
            db.executemany("DELETE FROM label WHERE event_id = ?", events)
            db.executemany("DELETE FROM verdict WHERE station = ? AND seq = ?", numbers)
    for station, _, event_id, day, pictured in rows:
        if pictured:
            files.remove(station, day, event_id)
    with db:
        db.execute("BEGIN IMMEDIATE")
        db.executemany("DELETE FROM image WHERE event_id = ?", events)
