"""The store: every verdict on disk before anybody hears of it, and the outbox of those not yet delivered."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Iterator, Sequence, Set
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from agent import payloads
from agent.ballast import Ballast
from agent.data_folder import lock_folder
from agent.database import NAME, Damaged, DiskTrouble, open_database, open_to_read, ours
from agent.errors import StoreError
from agent.evidence_files import EvidenceFiles, Written
from agent.labels import Labelled, put_label
from agent.retention import Retention, rank_of
from agent.salvage import finish_exchange, put_aside, salvage
from agent.tidying import NOTHING_KEPT, Tidier
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

_RESULT = """
SELECT station, seq, substr(decided_at, 1, 10), verdict,
  EXISTS (SELECT 1 FROM label l WHERE l.event_id = v.event_id)
FROM verdict v WHERE event_id = ?"""
_GIVEN_UP_AT_ONCE = 1000
"""Of one commit; where `max_waiting` was lowered the rest follows with the next ones."""
_SHED_BYTES = 1_000_000
"""Of pictures, where there is no ballast to give back."""

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

    Raises:
        StoreError: the folder cannot be written, is in use by another agent, or is a newer version's.
        DiskTrouble: the file cannot be opened now.
    """

    def __init__(self, folder: Path, retention: Retention, *, outbox: bool = True) -> None:
        self.path = folder / NAME
        self.retention = retention
        self.files = EvidenceFiles(folder)
        self.given_up = 0
        self.kept = NOTHING_KEPT
        self._outbox = outbox
        self._ballast = Ballast(folder)
        self._unsettled: list[tuple[str, str, str]] = []
        self._lock = lock_folder(folder)
        self._last_seq: dict[str, int] = {}
        self.damage: str | None = None
        try:
            finish_exchange(folder)
            try:
                self._open()
            except Damaged as error:
                self._salvage(error)
        except BaseException:
            self._lock.close()
            raise

    def _open(self) -> None:
        self._db = open_database(self.path)
        try:
            with ours(self.path):
                self._last_seq = dict(self._db.execute(_LAST).fetchall())
                self.waiting = int(self._db.execute("SELECT COUNT(*) FROM outbox").fetchone()[0])
                self._tidier = Tidier(self._db, self.files)
                self.kept = self._tidier.kept()
            self._recover()
            self._tell_damage()
        except BaseException:
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

    def _recover(self) -> None:
        """Bring pictures and database together after a crash: at most what was being written then."""
        staged = self.files.staged()
        try:
            if staged:
                self.file(staged)
        except DiskTrouble as error:
            log.warning("%s; %d pictures wait for the next start", error, len(staged))

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
            excess = self.waiting + len(ids) - max(struck, 0) - self.retention.max_waiting
            given_up = self._give_up(excess) if excess > 0 else 0
            for station in stations:
                self._tidier.forget_excess(station, self.retention, last_seq[station])
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

    def file(self, written: Sequence[Written], expected: Set[str] = frozenset()) -> list[Written]:
        """Record pictures that are staged, in one durable transaction, and move them to their places.

        Args:
            expected: event ids of results that are yet to be committed.

        Returns:
            Those whose result is yet to come: file them later. One whose result was lost goes.

        Raises:
            DiskTrouble: nothing was recorded; try again with the same pictures.
        """
        filed: list[tuple[str, str, str]] = []
        images = image_bytes = 0
        with self._transaction():
            for picture in written:
                row = self._db.execute(_RESULT, (picture.event_id,)).fetchone()
                if row is None:
                    continue
                station, seq, day, verdict, labelled = row
                rank = rank_of(verdict, labelled=bool(labelled))
                # One that was recorded before a crash is but to be moved.
                new = self._db.execute(
                    "INSERT OR IGNORE INTO image (event_id, station, seq, day, rank, bytes)"
                    " VALUES (?, ?, ?, ?, ?, ?)",
                    (picture.event_id, station, seq, day, rank, picture.bytes),
                ).rowcount
                filed.append((picture.event_id, station, day))
                images += new
                image_bytes += new * picture.bytes
        self._tidier.filed(images, image_bytes)
        self._unsettled += filed
        self._settle()
        known = {event_id for event_id, _, _ in filed}
        rest = [picture for picture in written if picture.event_id not in known]
        for picture in rest:
            if picture.event_id not in expected:
                self.files.discard(picture.event_id)
        return [picture for picture in rest if picture.event_id in expected]

    def tidy(self, now: datetime) -> bool:
        """Delete a little of what retention lets go; some ten milliseconds at most.

        Returns:
            Whether there is more to do.

        Raises:
            DiskTrouble: the disk does not take it now.
        """
        retention = self.retention
        self._settle()
        try:
            self._ballast.take_on(retention.ballast_bytes, self._disk_free(), retention.min_free_bytes)
            if self._ballast.size < retention.ballast_bytes:
                # Pictures make room for it: the next full disk finds it there again.
                room = retention.min_free_bytes + 2 * retention.ballast_bytes
                retention = replace(retention, min_free_bytes=room)
            with ours(self.path):
                more = self._tidier.look(retention, self._disk_free(), now, self._last_seq)
            if more:
                with self._transaction():
                    self._tidier.step(retention, self._last_seq)
            with ours(self.path):
                self.kept = self._tidier.kept()
            self._tell_damage()
        except OSError as error:
            self._tidier.count()
            raise DiskTrouble(f"{self.path.parent}: {error.strerror or error}") from error
        except StoreError:
            self._tidier.count()
            raise
        return more

    def make_room(self) -> int:
        """Give back space on a full disk: the ballast, or else pictures; return how many bytes.

        Raises:
            DiskTrouble: that cannot be done either.
        """
        try:
            freed = self._ballast.throw_off()
            with ours(self.path):
                if not freed:
                    freed = self._tidier.shed(max(self.retention.ballast_bytes, _SHED_BYTES))
                if freed:
                    # What stands in the log twice stands in the file once.
                    self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        except OSError as error:
            raise DiskTrouble(f"{self.path.parent}: {error.strerror or error}") from error
        return freed

    def close(self) -> None:
        """Close the database and let another agent have the folder."""
        self._db.close()
        self._lock.close()

    def _told(self, rows: list[_Row]) -> list[_Row]:
        return rows if self._outbox else []

    def _require_room(self) -> None:
        floor = self.retention.min_free_bytes
        if self._disk_free() < floor:
            raise DiskTrouble(
                f"{self.path}: less than {floor // 1_000_000} MB free on the disk (storage.min_free_mb)"
            )

    def _disk_free(self) -> int:
        try:
            return shutil.disk_usage(self.path.parent).free
        except OSError as error:
            raise DiskTrouble(f"{self.path}: {error.strerror}") from error

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

    def _settle(self) -> None:
        """Move recorded pictures to their places."""
        while self._unsettled:
            try:
                self.files.settle(*self._unsettled[0])
            except FileNotFoundError:
                # Somebody removed it by hand; `mekiki store check` names it.
                log.warning("store: the picture of %s is not there", self._unsettled[0][0])
            except OSError as error:
                raise DiskTrouble(f"{self.files.root}: {error.strerror or error}") from error
            self._unsettled.pop(0)

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
