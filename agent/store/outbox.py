"""The outbox: results that wait until the broker has them."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from agent.store.database import open_to_read, ours, sound_results

_GIVEN_UP_AT_ONCE = 1000
"""Of one commit; where `max_waiting` was lowered the rest follows with the next ones."""
_COUNT = "SELECT COUNT(*) FROM outbox"


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One result that waits for delivery.

    Attributes:
        id: its place in the outbox; ids grow in the order of decision.
        payload: JSON as stored, `replayed` false.
    """

    id: int
    station: str
    seq: int
    payload: str


class Outbox:
    """Owns the count of what waits. What changes rows is called within a transaction, `settle` behind it.

    Args:
        path: of the database, for messages.

    Attributes:
        waiting: how many results wait.

    Raises:
        DiskTrouble, Damaged: it cannot be read.
    """

    def __init__(self, db: sqlite3.Connection, path: Path) -> None:
        self._db = db
        self._path = path
        with ours(path):
            self.waiting = int(db.execute(_COUNT).fetchone()[0])

    def strike_off(self, delivered: Sequence[int]) -> int:
        """Remove what was delivered; return how many of it waited."""
        struck = self._db.executemany("DELETE FROM outbox WHERE id = ?", [(i,) for i in delivered]).rowcount
        return max(struck, 0)

    def add(self, station: str, seq: int) -> int:
        """Let a result wait; return its place."""
        row = self._db.execute("INSERT INTO outbox (station, seq) VALUES (?, ?)", (station, seq))
        return int(row.lastrowid or 0)

    def expire(self, more: int, most: int) -> int:
        """Remove the oldest of what is too much; return how many.

        Args:
            more: how many wait beyond `waiting` since the transaction began.
            most: how many may wait.
        """
        excess = self.waiting + more - most
        if excess <= 0:
            return 0
        cursor = self._db.execute(
            "DELETE FROM outbox WHERE id IN (SELECT id FROM outbox ORDER BY id LIMIT ?)",
            (min(excess, _GIVEN_UP_AT_ONCE),),
        )
        return cursor.rowcount

    def settle(self, more: int) -> None:
        """Count what a transaction has changed: so many more wait."""
        self.waiting += more

    def backlog(self, after_id: int, limit: int) -> list[Outgoing]:
        """Return what waits for delivery, oldest first, beyond `after_id`.

        Raises:
            DiskTrouble, Damaged: it cannot be read now.
        """
        with ours(self._path):
            rows = self._db.execute(
                "SELECT o.id, o.station, o.seq, v.payload FROM outbox o JOIN verdict v USING (station, seq)"
                " WHERE o.id > ? ORDER BY o.id LIMIT ?",
                (after_id, limit),
            ).fetchall()
        return [Outgoing(*row) for row in sound_results(rows, "ntnt")]

    def newest(self) -> int:
        """Return the id of the newest result that waits, 0 if none does.

        Raises:
            DiskTrouble: the disk cannot be read now.
        """
        with ours(self._path):
            return int(self._db.execute("SELECT IFNULL(MAX(id), 0) FROM outbox").fetchone()[0])


def peek(path: Path) -> int:
    """Return how many results wait in a store that an agent may be using; for `mekiki doctor`."""
    with closing(open_to_read(path)) as db, ours(path):
        return int(db.execute(_COUNT).fetchone()[0])
