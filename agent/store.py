"""The store: every verdict on disk before anybody hears of it, and the outbox of those not yet delivered."""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from agent import payloads
from agent.errors import StoreError, UsageError
from agent.verdict import Verdict

log = logging.getLogger(__name__)

_MIGRATIONS = (
    """
    CREATE TABLE verdict (
        station TEXT NOT NULL,
        seq INTEGER NOT NULL,
        event_id TEXT NOT NULL UNIQUE,
        decided_at TEXT NOT NULL,
        verdict TEXT NOT NULL,
        payload TEXT NOT NULL,
        PRIMARY KEY (station, seq)
    );
    CREATE TABLE outbox (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        station TEXT NOT NULL,
        seq INTEGER NOT NULL
    );
    CREATE INDEX outbox_station_seq ON outbox (station, seq);
    """,
)
"""Entry n lifts the database from ``PRAGMA user_version`` n to n + 1. Never edit one that was released."""


_NEXT = """
WITH RECURSIVE s(station) AS (
  SELECT MIN(station) FROM verdict
  UNION ALL
  SELECT (SELECT MIN(station) FROM verdict WHERE station > s.station) FROM s WHERE station IS NOT NULL)
SELECT station, (SELECT MAX(seq) + 1 FROM verdict v WHERE v.station = s.station) FROM s
WHERE station IS NOT NULL"""
"""The next number of each station, from one end of the index to the next: GROUP BY would read all of it."""
_WAIT = "INSERT INTO outbox (station, seq) VALUES (?, ?)"

_Row = tuple[Verdict, int, str]
"""A verdict, its number, and its payload."""


class DiskTrouble(StoreError):
    """The disk is full, read-only or failing. Nothing of the transaction was written; try it again later."""


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


class Store:
    """Owns the database connection; one thread uses it, the publisher's.

    Results are numbered 1, 2, 3, ... per station without gaps. A number is given when the result is
    committed, so a number that a subscriber misses was lost on the way, not here.

    Args:
        folder: the data folder; made if absent, and locked while the store is open.
        keep_results: delivered results kept per station; the oldest go first.
        min_free_mb: below this much free disk nothing is written; the plant's other programs need it too.
        max_waiting: results that may wait for delivery; beyond it the oldest are given up and counted.

        outbox: False where nobody is to be told: results are kept, none waits.

    Raises:
        StoreError: the folder cannot be written, is in use by another agent, or the file is no database.
    """

    def __init__(
        self,
        folder: Path,
        *,
        keep_results: int,
        max_waiting: int,
        min_free_mb: int = 0,
        outbox: bool = True,
    ) -> None:
        self.path = folder / "mekiki.db"
        self.given_up = 0
        self._keep_results = keep_results
        self._max_waiting = max_waiting
        self._min_free_bytes = min_free_mb * 1_000_000
        self._outbox = outbox
        self._lock = lock_folder(folder)
        try:
            self._db = _open(self.path)
            self._next_seq = dict(self._db.execute(_NEXT).fetchall())
            self.waiting = int(self._db.execute("SELECT COUNT(*) FROM outbox").fetchone()[0])
        except (sqlite3.Error, StoreError) as error:
            self._lock.close()
            if isinstance(error, StoreError):
                raise
            raise StoreError(
                f"{self.path}: cannot be used: {error}: move the file away to start with an empty store"
            ) from error

    def commit(self, verdicts: Sequence[Verdict], delivered: Sequence[int] = ()) -> list[Outgoing]:
        """Write new verdicts and strike delivered ones off the outbox, in one durable transaction.

        Returns:
            The new results, numbered, in the order given; none where nobody is to be told.

        Raises:
            DiskTrouble: nothing was written; try again with the same arguments.
        """
        if verdicts:  # striking off only makes room
            self._require_room()
        next_seq = dict(self._next_seq)
        rows: list[_Row] = []
        for verdict in verdicts:
            seq = next_seq.get(verdict.station, 1)
            next_seq[verdict.station] = seq + 1
            rows.append((verdict, seq, payloads.dumps(payloads.result(verdict, seq))))
        try:
            with self._db:
                self._db.execute("BEGIN IMMEDIATE")
                # Strike off first: it makes room for what comes.
                struck = self._db.executemany(
                    "DELETE FROM outbox WHERE id = ?", [(i,) for i in delivered]
                ).rowcount
                self._db.executemany(
                    "INSERT INTO verdict VALUES (?, ?, ?, ?, ?, ?)",
                    [
                        (
                            v.station,
                            seq,
                            v.event_id,
                            payloads.timestamp(v.decided_at),
                            v.decision.verdict,
                            text,
                        )
                        for v, seq, text in rows
                    ],
                )
                ids = [self._db.execute(_WAIT, (v.station, seq)).lastrowid for v, seq, _ in self._told(rows)]
                excess = self.waiting + len(ids) - max(struck, 0) - self._max_waiting
                given_up = self._give_up(excess) if excess > 0 else 0
                self._forget({v.station for v, _, _ in rows}, next_seq)
        except sqlite3.OperationalError as error:
            # Disk full, read-only, I/O error: all may pass, and all left the database as it was.
            raise DiskTrouble(f"{self.path}: {error}") from error
        self._next_seq = next_seq
        self.given_up += given_up
        self.waiting += len(ids) - max(struck, 0) - given_up
        return [
            Outgoing(int(row_id or 0), v.station, seq, text)
            for row_id, (v, seq, text) in zip(ids, self._told(rows), strict=True)
        ]

    def backlog(self, after_id: int, limit: int) -> list[Outgoing]:
        """Return what waits for delivery, oldest first, beyond `after_id`.

        Raises:
            DiskTrouble: the disk cannot be read now.
        """
        rows = self._read(
            "SELECT o.id, o.station, o.seq, v.payload FROM outbox o JOIN verdict v USING (station, seq)"
            " WHERE o.id > ? ORDER BY o.id LIMIT ?",
            (after_id, limit),
        )
        return [Outgoing(*row) for row in rows]

    def newest_waiting(self) -> int:
        """Return the outbox id of the newest result that waits, 0 if none does.

        Raises:
            DiskTrouble: the disk cannot be read now.
        """
        return int(self._read("SELECT IFNULL(MAX(id), 0) FROM outbox", ())[0][0])

    def close(self) -> None:
        """Close the database and let another agent have the folder."""
        self._db.close()
        self._lock.close()

    def _told(self, rows: list[_Row]) -> list[_Row]:
        return rows if self._outbox else []

    def _require_room(self) -> None:
        try:
            free = shutil.disk_usage(self.path.parent).free
        except OSError as error:
            raise DiskTrouble(f"{self.path}: {error.strerror}") from error
        if free < self._min_free_bytes:
            floor_mb = self._min_free_bytes // 1_000_000
            raise DiskTrouble(f"{self.path}: less than {floor_mb} MB free on the disk (storage.min_free_mb)")

    def _read(self, query: str, parameters: tuple[int, ...]) -> list[tuple[Any, ...]]:
        try:
            return self._db.execute(query, parameters).fetchall()
        except sqlite3.OperationalError as error:
            raise DiskTrouble(f"{self.path}: {error}") from error

    def _give_up(self, excess: int) -> int:
        cursor = self._db.execute(
            "DELETE FROM outbox WHERE id IN (SELECT id FROM outbox ORDER BY id LIMIT ?)", (excess,)
        )
        return cursor.rowcount

    def _forget(self, stations: set[str], next_seq: dict[str, int]) -> None:
        # Old results go once they are delivered; what waits in the outbox always stays.
        for station in stations:
            self._db.execute(
                "DELETE FROM verdict WHERE station = :station AND seq < MIN(:keep_from,"
                " IFNULL((SELECT MIN(seq) FROM outbox WHERE station = :station), :keep_from))",
                {"station": station, "keep_from": next_seq[station] - self._keep_results},
            )


def lock_folder(folder: Path) -> TextIO:
    """Take the data folder for this process; the lock dies with it, also by kill -9.

    Raises:
        StoreError: another process has it, or it cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = (folder / "lock").open("a")
    except OSError as error:
        raise StoreError(
            f"{folder}: the data folder cannot be written: {error.strerror}: "
            "give its owner the right to write, or set agent.data_dir"
        ) from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        handle.close()
        raise StoreError(
            f"{folder}: another agent uses this data folder: stop it, or set agent.data_dir"
        ) from None
    return handle


def require_owner(data: Path, command: str) -> None:
    """Keep root from leaving files that the service's user can neither change nor take away.

    Args:
        command: of `mekiki`, for the message.

    Raises:
        UsageError: names the user to be.
    """
    existing = next(path for path in (data, *data.absolute().parents) if path.exists())
    owner = existing.stat().st_uid
    if os.geteuid() == 0 and owner != 0:
        raise UsageError(f"{data}: belongs to user {owner}: sudo -u '#{owner}' mekiki {command} ...")


def _open(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, isolation_level=None, timeout=5.0, check_same_thread=False)
    db.execute("PRAGMA journal_mode = WAL")
    # FULL: a commit that returned survives a power cut, not only a crash of the process.
    db.execute("PRAGMA synchronous = FULL")
    version = int(db.execute("PRAGMA user_version").fetchone()[0])
    if version > len(_MIGRATIONS):
        db.close()
        raise StoreError(f"{path}: written by a newer version of the agent: install that version again")
    for number, script in enumerate(_MIGRATIONS[version:], start=version + 1):
        db.executescript(f"BEGIN; {script} PRAGMA user_version = {number}; COMMIT;")
    return db


def peek(path: Path) -> int:
    """Return how many results wait in a store that an agent may be using; for `mekiki doctor`."""
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=1.0)) as db:
        return int(db.execute("SELECT COUNT(*) FROM outbox").fetchone()[0])
