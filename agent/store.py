"""The store: every verdict on disk before anybody hears of it, and the outbox of those not yet delivered."""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from agent import payloads
from agent.database import NAME, Damaged, DiskTrouble, open_database, open_to_read, ours
from agent.errors import StoreError, UsageError
from agent.labels import Labelled, put_label
from agent.verdict import Verdict

log = logging.getLogger(__name__)

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
    "INSERT INTO numbering VALUES (?, ?) ON CONFLICT (station) DO UPDATE SET last_seq = excluded.last_seq"
)
_WAIT = "INSERT INTO outbox (station, seq) VALUES (?, ?)"

_Row = tuple[Verdict, int, str]
"""A verdict, its number, and its payload."""


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


@dataclass(frozen=True, slots=True)
class Stored:
    """A result as it was stored.

    Attributes:
        payload: JSON, `replayed` false.
    """

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
        DiskTrouble: the file cannot be opened now.
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
        self.path = folder / NAME
        self.given_up = 0
        self._keep_results = keep_results
        self._max_waiting = max_waiting
        self._min_free_bytes = min_free_mb * 1_000_000
        self._outbox = outbox
        self._lock = lock_folder(folder)
        try:
            self._db = open_database(self.path)
            with ours(self.path):
                self._last_seq: dict[str, int] = dict(self._db.execute(_LAST).fetchall())
                self.waiting = int(self._db.execute("SELECT COUNT(*) FROM outbox").fetchone()[0])
        except Damaged as error:
            self._lock.close()
            raise StoreError(f"{error}: move the file away to start with an empty store") from error
        except BaseException:
            self._lock.close()
            raise

    def commit(self, verdicts: Sequence[Verdict], delivered: Sequence[int] = ()) -> list[Outgoing]:
        """Write new verdicts and strike delivered ones off the outbox, in one durable transaction.

        Returns:
            The new results, numbered, in the order given; none where nobody is to be told.

        Raises:
            DiskTrouble: nothing was written; try again with the same arguments.
        """
        if verdicts:  # striking off only makes room
            self._require_room()
        last_seq = dict(self._last_seq)
        rows: list[_Row] = []
        for verdict in verdicts:
            seq = last_seq.get(verdict.station, 0) + 1
            last_seq[verdict.station] = seq
            rows.append((verdict, seq, payloads.dumps(payloads.result(verdict, seq))))
        with self._transaction():
            # Strike off first: it makes room for what comes.
            struck = self._db.executemany(
                "DELETE FROM outbox WHERE id = ?", [(i,) for i in delivered]
            ).rowcount
            self._db.executemany(
                "INSERT INTO verdict VALUES (?, ?, ?, ?, ?, ?)",
                [
                    (v.station, seq, v.event_id, payloads.timestamp(v.decided_at), v.decision.verdict, text)
                    for v, seq, text in rows
                ],
            )
            stations = {v.station for v, _, _ in rows}
            self._db.executemany(_NUMBER, [(station, last_seq[station]) for station in stations])
            ids = [self._db.execute(_WAIT, (v.station, seq)).lastrowid for v, seq, _ in self._told(rows)]
            excess = self.waiting + len(ids) - max(struck, 0) - self._max_waiting
            given_up = self._give_up(excess) if excess > 0 else 0
            self._forget(stations, last_seq)
        self._last_seq = last_seq
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

    def between(self, station: str, first_seq: int, last_seq: int, limit: int) -> list[Stored]:
        """Return stored results of a station, `first_seq` to `last_seq` inclusive, oldest first.

        What was forgotten or never was is left out.

        Args:
            limit: return the oldest so many of them.

        Raises:
            DiskTrouble: the disk cannot be read now.
        """
        rows = self._read(
            "SELECT seq, payload FROM verdict WHERE station = ? AND seq BETWEEN ? AND ? ORDER BY seq LIMIT ?",
            (station, first_seq, last_seq, limit),
        )
        return [Stored(*row) for row in rows]

    def last_seq(self, station: str) -> int:
        """Return the number of a station's newest result, 0 before the first; from any thread."""
        return self._last_seq.get(station, 0)

    def label(
        self,
        event_id: str,
        label: str,
        user: str,
        at: str,
        record: Callable[[Labelled], object] = lambda labelled: None,
    ) -> Labelled:
        """Keep what a user says about a part, durably; the same label again changes nothing.

        Args:
            at: UTC, ISO-8601.
            record: puts it into the audit trail; called where it is news, before it counts. What it raises
                is raised here, and the label is as it was.

        Raises:
            UnknownEvent: no such result is stored.
            DiskTrouble: nothing was written; try again.
        """
        with self._transaction():
            labelled = put_label(self._db, event_id, label, user, at)
            if labelled.changed:
                # A crash behind this line leaves a record of a label that does not count; the sender, who has
                # no answer, says it again. The other way round there would be a label without a record.
                record(labelled)
        return labelled

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

    def _read(self, query: str, parameters: tuple[Any, ...]) -> list[tuple[Any, ...]]:
        with ours(self.path):
            return self._db.execute(query, parameters).fetchall()

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """Everything inside, or nothing."""
        # Disk full, read-only, I/O error: all may pass, and all leave the database as it was.
        with ours(self.path), self._db:
            self._db.execute("BEGIN IMMEDIATE")
            yield

    def _give_up(self, excess: int) -> int:
        cursor = self._db.execute(
            "DELETE FROM outbox WHERE id IN (SELECT id FROM outbox ORDER BY id LIMIT ?)", (excess,)
        )
        return cursor.rowcount

    def _forget(self, stations: set[str], last_seq: dict[str, int]) -> None:
        # Old results go once they are delivered; what waits in the outbox always stays.
        for station in stations:
            self._db.execute(
                "DELETE FROM verdict WHERE station = :station AND seq < MIN(:keep_from,"
                " IFNULL((SELECT MIN(seq) FROM outbox WHERE station = :station), :keep_from))",
                {"station": station, "keep_from": last_seq[station] + 1 - self._keep_results},
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


def peek(path: Path) -> int:
    """Return how many results wait in a store that an agent may be using; for `mekiki doctor`."""
    with closing(open_to_read(path)) as db, ours(path):
        return int(db.execute("SELECT COUNT(*) FROM outbox").fetchone()[0])
