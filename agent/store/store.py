"""The store: every verdict on disk before anybody hears of it, and the outbox of those not yet delivered."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence, Set
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from agent.base.codec import dumps, timestamp
from agent.base.data_dir import lock_folder
from agent.base.event_id import moment_of
from agent.clock.trusted_time import FIRST
from agent.domain.publisher_stats import NOTHING_KEPT
from agent.domain.verdict import Verdict
from agent.payloads import result_payload
from agent.store.database import (
    NAME,
    Damaged,
    DiskTrouble,
    disk_free,
    on_disk,
    open_database,
    open_to_read,
    ours,
    transaction,
)
from agent.store.garbage_collector import Doubts, no_doubts
from agent.store.image_files import ImageFiles, Written
from agent.store.labels import Labelled, put_label
from agent.store.maintenance import Maintenance
from agent.store.recovery import finish_exchange, put_aside, salvage
from agent.store.retention import Retention
from agent.store.row_checks import sound, sound_results

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
    "INSERT INTO numbering (station, last_seq) VALUES (?, ?)"
    " ON CONFLICT (station) DO UPDATE SET last_seq = excluded.last_seq"
)
_RESULT = (
    "INSERT INTO verdict (station, seq, event_id, decided_at, verdict, payload) VALUES (?, ?, ?, ?, ?, ?)"
)
_WAIT = "INSERT INTO outbox (station, seq) VALUES (?, ?)"

_GIVEN_UP_AT_ONCE = 1000
"""Of one commit; where `max_waiting` was lowered the rest follows with the next ones."""
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
        retention: how much is kept.
        outbox: False where nobody is to be told: results are kept, none waits.

    Attributes:
        retention: may be replaced by any thread at any time; the next commit goes by it.
        files: of the pictures.
        kept: how much is kept, as it was found last; any thread may read it.
        damage: what is to be done about a database that was damaged and put aside; None without one.
        newest_at: when the newest results say that they were decided; None without one to be believed.

    Raises:
        StoreError: the folder cannot be written, is in use by another agent, or is a newer version's.
        DiskTrouble: the file cannot be opened now, or what is damaged cannot be replaced.
    """

    def __init__(self, folder: Path, retention: Retention, *, outbox: bool = True) -> None:
        self.path = folder / NAME
        self.retention = retention
        self.files = ImageFiles(folder)
        self.given_up = 0
        self.kept = NOTHING_KEPT
        self._outbox = outbox
        self._lock = lock_folder(folder)
        self._last_seq: dict[str, int] = {}
        self.damage: str | None = None
        try:
            with on_disk(folder):
                finish_exchange(folder)
            try:
                self._open()
            except Damaged as error:
                self._salvage(error)
        except BaseException:  # raised again; whoever made this has no store to close
            self._lock.close()
            raise

    def _open(self) -> None:
        self._db = open_database(self.path)
        try:
            with ours(self.path):
                self._last_seq = dict(sound(self._db.execute(_LAST), "tn"))
                self.newest_at = self._newest_at()
                self.waiting = int(self._db.execute("SELECT COUNT(*) FROM outbox").fetchone()[0])
                self._keeping = Maintenance(self._db, self.path, self.files)
            self._keeping.recover()
            self.kept = self._keeping.kept
            self._tell_damage()
        except BaseException:  # as above
            self._db.close()
            raise

    def mend(self, error: Damaged) -> None:
        """Take over what can be read into a new database; outbox ids may be others from here on.

        Raises:
            DiskTrouble: there is no room for it.
        """
        self._db.close()
        self._salvage(error)

    def _salvage(self, error: Damaged) -> None:
        log.error("%s: it is put aside, what can be read is taken over", error)
        with on_disk(self.path.parent):
            found = salvage(self.path.parent, datetime.now(UTC), self._last_seq, outbox=self._outbox)
        log.error("store: %s %s", self.path, found)
        self._open()

    def _tell_damage(self) -> None:
        """Say so as long as a damaged file lies there: whoever has looked at it moves it away."""
        aside = put_aside(self.path.parent)
        self.damage = None
        if aside:
            self.damage = (
                f"the database was damaged; what could be read was taken over: see the journal, run"
                f" mekiki store check, then move {aside[-1].name} out of the data folder"
            )

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
            rows.append((verdict, seq, dumps(result_payload.result(verdict, seq))))
        with transaction(self._db, self.path):
            # Strike off first: it makes room for what comes.
            struck = self._db.executemany(
                "DELETE FROM outbox WHERE id = ?", [(i,) for i in delivered]
            ).rowcount
            self._db.executemany(
                _RESULT,
                [
                    (v.station, seq, v.event_id, timestamp(v.decided_at), v.decision.verdict, text)
                    for v, seq, text in rows
                ],
            )
            stations = {v.station for v, _, _ in rows}
            self._db.executemany(_NUMBER, [(station, last_seq[station]) for station in stations])
            ids = [self._db.execute(_WAIT, (v.station, seq)).lastrowid for v, seq, _ in self._told(rows)]
            excess = self.waiting + len(ids) - max(struck, 0) - self.retention.max_waiting
            given_up = self._give_up(excess) if excess > 0 else 0
            for station in stations:
                self._keeping.tidier.forget_excess(station, self.retention, last_seq[station])
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
            DiskTrouble, Damaged: it cannot be read now.
        """
        rows = self._read(
            "SELECT o.id, o.station, o.seq, v.payload FROM outbox o JOIN verdict v USING (station, seq)"
            " WHERE o.id > ? ORDER BY o.id LIMIT ?",
            (after_id, limit),
        )
        return [Outgoing(*row) for row in sound_results(rows, "ntnt")]

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
            DiskTrouble, Damaged: it cannot be read now.
        """
        rows = self._read(
            "SELECT seq, payload FROM verdict WHERE station = ? AND seq BETWEEN ? AND ? ORDER BY seq LIMIT ?",
            (station, first_seq, last_seq, limit),
        )
        return [Stored(*row) for row in sound_results(rows, "nt")]

    def last_seq(self, station: str) -> int:
        """Return the number of a station's newest result, 0 before the first; from any thread."""
        return self._last_seq.get(station, 0)

    def numbers(self) -> dict[str, int]:
        """Return the number of each station's newest result."""
        return dict(self._last_seq)

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
        with transaction(self._db, self.path):
            labelled = put_label(self._db, event_id, label, user, at)
            if labelled.changed:
                # A crash behind this line leaves a record of a label that does not count; the sender, who has
                # no answer, says it again. The other way round there would be a label without a record.
                record(labelled)
        return labelled

    def file(self, written: Sequence[Written], expected: Set[str] = frozenset()) -> list[Written]:
        """Record pictures that are staged; see `Maintenance.file`."""
        return self._keeping.file(written, expected)

    def tidy(self, now: datetime, doubts: Doubts = no_doubts) -> bool:
        """Delete a little of what retention lets go; return whether there is more; see `Maintenance.tidy`."""
        more = self._keeping.tidy(self.retention, now, self._last_seq, doubts)
        self.kept = self._keeping.kept
        self._tell_damage()
        return more

    def make_room(self, now: datetime, doubts: Doubts = no_doubts) -> int:
        """Give back space on a full disk; return how many bytes; see `Maintenance.make_room`."""
        return self._keeping.make_room(self.retention, now, doubts)

    def close(self) -> None:
        """Close the database and let another agent have the folder."""
        self._db.close()
        self._lock.close()

    def _newest_at(self) -> datetime | None:
        # Not from the payload: what one flipped bit makes unreadable there is no reason not to start.
        query = "SELECT event_id FROM verdict WHERE station = ? AND seq = ?"
        ids = [row[0] for key in self._last_seq.items() for row in self._db.execute(query, key)]
        return max((at for one in ids if (at := moment_of(one)) is not None and at >= FIRST), default=None)

    def _told(self, rows: list[_Row]) -> list[_Row]:
        return rows if self._outbox else []

    def _require_room(self) -> None:
        floor = self.retention.min_free_bytes
        if disk_free(self.path) < floor:
            raise DiskTrouble(
                f"{self.path}: less than {floor // 1_000_000} MB free on the disk (storage.min_free_mb)"
            )

    def _read(self, query: str, parameters: tuple[Any, ...]) -> list[tuple[Any, ...]]:
        with ours(self.path):
            return self._db.execute(query, parameters).fetchall()

    def _give_up(self, excess: int) -> int:
        cursor = self._db.execute(
            "DELETE FROM outbox WHERE id IN (SELECT id FROM outbox ORDER BY id LIMIT ?)",
            (min(excess, _GIVEN_UP_AT_ONCE),),
        )
        return cursor.rowcount


def peek(path: Path) -> int:
    """Return how many results wait in a store that an agent may be using; for `mekiki doctor`."""
    with closing(open_to_read(path)) as db, ours(path):
        return int(db.execute("SELECT COUNT(*) FROM outbox").fetchone()[0])
