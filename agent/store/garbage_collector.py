"""Deleting what retention lets go, a little at a time, so that nobody waits long for the database."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime

from agent.base.event_id import moment_of
from agent.clock.trusted_time import FIRST, Doubt, counted
from agent.domain.publisher_stats import Kept
from agent.store.database import Row, moment, sound, used_bytes
from agent.store.image_files import ImageFiles
from agent.store.image_order import following, least_evidence
from agent.store.retention import Excess, Holdings, Retention, excess

AT_ONCE = 200
"""Results, or pictures, of one transaction: some ten milliseconds of the publisher's time."""
_ROW_BYTES = 150
"""Of a result beside its payload, with its places in the indices."""
_FREE_PAGES = 256
"""Free pages that stay in the file: what comes next is written there."""


Doubts = Callable[[str], Sequence[Doubt]]
"""Station -> which of its results do not have the time at which they were decided."""


def no_doubts(_station: str) -> Sequence[Doubt]:
    """Believe every result's own time, where it is possible at all."""
    return ()


class GarbageCollector:
    """Owns what is known of how much is kept. Every call is made by the thread that owns the connection.

    Pictures go in two steps: a transaction dooms them, then their files go, then the next transaction
    forgets them. So after a crash the doomed ones are all that may lack a file.

    Args:
        db: the store's connection.
        files: the pictures.
    """

    def __init__(self, db: sqlite3.Connection, files: ImageFiles) -> None:
        self._db = db
        self._files = files
        self.images = self.image_bytes = self.purged = self.purged_images = 0
        self.count()
        self._excess: Excess | None = None
        self._now = FIRST
        self._doubts: Doubts = no_doubts
        self._shrinking = False

    def count(self) -> None:
        """Count the pictures, at the start and after a transaction that came to nothing."""
        self.images, self.image_bytes = self._db.execute(
            "SELECT COUNT(*), IFNULL(SUM(bytes), 0) FROM image"
        ).fetchone()

    def filed(self, images: int, image_bytes: int) -> None:
        """Count pictures that were recorded."""
        self.images += images
        self.image_bytes += image_bytes

    def forget_excess(self, station: str, retention: Retention, last_seq: int) -> None:
        """Forget what is beyond `keep_results`, in the caller's transaction; a backlog is left to `step`."""
        upto = self._last_to_go(station, _NOTHING, retention, last_seq)
        if upto:
            forget(self._db, station, upto)

    def kept(self) -> Kept:
        """Return what is kept now."""
        oldest = self._db.execute(_OLDEST).fetchone()
        return Kept(
            used_bytes(self._db)[0],
            self.images,
            self.image_bytes,
            None if oldest is None or moment(oldest[0]) is None else oldest[0],
            self._excess is not None,
            self.purged,
            self.purged_images,
        )

    def look(
        self,
        retention: Retention,
        disk_free: int,
        now: datetime,
        last_seq: Mapping[str, int],
        doubts: Doubts = no_doubts,
    ) -> bool:
        """Find out whether anything is to go; return whether `step` has work.

        Args:
            retention: how much is kept.
            disk_free: bytes.
            now: the time to count ages by.
            last_seq: station -> number of its newest result.
            doubts: station -> which of its results do not have the time at which they were decided.
        """
        self._now, self._doubts = now, doubts
        held = Holdings(used_bytes(self._db)[0], self.image_bytes, disk_free)
        found = excess(retention, held, now)
        due = (
            found.image_bytes > 0
            or found.result_bytes > 0
            or self._doomed()
            or any(self._old_images(station, found.images_before) for station in last_seq)
            or any(self._last_to_go(s, found, retention, last) for s, last in last_seq.items())
        )
        self._excess = found if due else None
        self._shrinking = used_bytes(self._db)[1] > _FREE_PAGES * self._page_size()
        return self._excess is not None or self._shrinking

    def step(self, retention: Retention, last_seq: Mapping[str, int]) -> None:
        """Delete at most `AT_ONCE` results and pictures, or give back as many pages.

        In the caller's transaction.

        Files of doomed pictures are removed here, before the transaction that forgets them is committed:
        `remove` and this one may be done again.
        """
        if self._excess is None:
            self._db.execute(f"PRAGMA incremental_vacuum({AT_ONCE})").fetchall()
            return
        gone = self._forget_doomed()
        self._doom_images(self._excess, gone, last_seq)
        for station, last in last_seq.items():
            upto = self._last_to_go(station, self._excess, retention, last)
            if upto:
                self.purged += forget(self._db, station, upto)
                return
        if self._excess.result_bytes > 0:
            self._forget_bytes(self._excess.result_bytes, last_seq)

    def shed(self, image_bytes: int, now: datetime, doubts: Doubts) -> int:
        """Remove files of the least evidence without a word to the database: the disk takes none.

        Their rows follow: the same pictures are the first to be doomed once it does. See `look`.
        """
        self._now, self._doubts = now, doubts
        freed = 0
        for event_id, station, day, size in self._least_evidence():
            if freed >= image_bytes:
                break
            self._files.remove(station, day, event_id)
            freed += size
        return freed

    def _page_size(self) -> int:
        return int(self._db.execute("PRAGMA page_size").fetchone()[0])

    def _doomed(self) -> bool:
        return self._db.execute("SELECT 1 FROM image WHERE doomed = 1 LIMIT 1").fetchone() is not None

    def _old_images(self, station: str, before: str) -> int:
        """Return up to which number a station's next pictures go for their age; 0: none.

        Args:
            station: its name.
            before: an event id of that time; "" for none.
        """
        limit = moment_of(before)
        if limit is None:
            return 0
        rows = self._db.execute(
            "SELECT seq, event_id FROM image WHERE station = ? AND doomed = 0 ORDER BY seq LIMIT ?",
            (station, AT_ONCE),
        ).fetchall()
        return self._last_old(station, [(seq, moment_of(event_id)) for seq, event_id in rows], limit)

    def _last_old(self, station: str, rows: Sequence[tuple[int, datetime | None]], before: datetime) -> int:
        """Return the number of the last of a station's first rows that count as decided before; 0: none."""
        old = 0
        for (seq, _), at in zip(rows, self._counted(station, rows), strict=True):
            if at >= before:
                break
            old = seq
        return old

    def _counted(self, station: str, rows: Sequence[tuple[int, datetime | None]]) -> list[datetime]:
        """Return when a station's first rows count as decided."""
        later = (
            following(self._db, station, rows[-1][0], self._now) if len(rows) == AT_ONCE else None
        )  # more may follow
        return counted(rows, self._doubts(station), self._now, later)

    def _least_evidence(self) -> list[Row]:
        return least_evidence(self._db, self._now, self._doubts, AT_ONCE)

    def _forget_doomed(self) -> int:
        """Remove doomed pictures and return their bytes."""
        query = "SELECT event_id, station, day, bytes FROM image WHERE doomed = 1 LIMIT ?"
        rows = sound(self._db.execute(query, (AT_ONCE,)), "tttn")
        for event_id, station, day, _ in rows:
            self._files.remove(station, day, event_id)
        self._db.executemany("DELETE FROM image WHERE event_id = ?", [(row[0],) for row in rows])
        gone = int(sum(row[3] for row in rows))
        self.images -= len(rows)
        self.image_bytes -= gone
        self.purged_images += len(rows)
        return gone

    def _doom_images(self, found: Excess, gone: int, stations: Iterable[str]) -> None:
        """Doom what is too old, and beyond the `gone` bytes what is too much."""
        # By age in the order of age, for bytes in the order of evidence.
        for station in stations:
            if old := self._old_images(station, found.images_before):
                self._db.execute(
                    "UPDATE image SET doomed = 1 WHERE station = ? AND seq <= ? AND doomed = 0",
                    (station, old),
                )
                break  # one station's share is enough for one transaction
        already = self._db.execute("SELECT IFNULL(SUM(bytes), 0) FROM image WHERE doomed = 1").fetchone()[0]
        already += gone
        going = []
        least = self._least_evidence() if already < found.image_bytes else []
        for event_id, _, _, size in least:
            if already >= found.image_bytes:
                break
            going.append((event_id,))
            already += size
        self._db.executemany("UPDATE image SET doomed = 1 WHERE event_id = ?", going)

    def _last_to_go(self, station: str, found: Excess, retention: Retention, last_seq: int) -> int:
        """Return up to which number a station's next results go for their age or their number; 0: none."""
        end = min(self._first_waiting(station), last_seq + 1)
        too_many = min(last_seq - retention.keep_results, end - 1)
        first = self._db.execute("SELECT MIN(seq) FROM verdict WHERE station = ?", (station,)).fetchone()[0]
        if first is None:
            return 0
        upto = min(too_many, first + AT_ONCE - 1) if too_many >= first else 0
        if found.results_before is None:
            return int(upto)
        rows = self._db.execute(
            "SELECT seq, decided_at FROM verdict WHERE station = ? AND seq < ? ORDER BY seq LIMIT ?",
            (station, end, AT_ONCE),
        ).fetchall()
        dated = [(seq, moment(decided_at)) for seq, decided_at in rows]
        return max(int(upto), self._last_old(station, dated, found.results_before))

    def _forget_bytes(self, wanted: int, last_seq: Mapping[str, int]) -> None:
        """Forget the oldest results of all stations that are delivered, as many as take so many bytes."""
        oldest = []
        for station in last_seq:
            rows = self._db.execute(
                "SELECT seq, decided_at, length(payload) FROM verdict WHERE station = ? AND seq < ?"
                " ORDER BY seq LIMIT ?",
                (station, self._first_waiting(station), AT_ONCE),
            ).fetchall()
            times = self._counted(station, [(seq, moment(decided_at)) for seq, decided_at, _ in rows])
            oldest += [(at, station, seq, size) for at, (seq, _, size) in zip(times, rows, strict=True)]
        upto: dict[str, int] = {}
        for _, station, seq, size in sorted(oldest)[:AT_ONCE]:
            if wanted <= 0:
                break
            upto[station] = max(seq, upto.get(station, 0))
            wanted -= size + _ROW_BYTES
        for station, seq in upto.items():
            self.purged += forget(self._db, station, seq)

    def _first_waiting(self, station: str) -> int:
        first = self._db.execute("SELECT MIN(seq) FROM outbox WHERE station = ?", (station,)).fetchone()[0]
        return 2**62 if first is None else int(first)


def forget(db: sqlite3.Connection, station: str, upto: int) -> int:
    """Delete a station's results up to a number with all that hangs on them; return how many."""
    db.execute("UPDATE image SET doomed = 1 WHERE station = ? AND seq <= ?", (station, upto))
    db.execute("DELETE FROM label WHERE station = ? AND seq <= ?", (station, upto))
    return db.execute("DELETE FROM verdict WHERE station = ? AND seq <= ?", (station, upto)).rowcount


_NOTHING = Excess(None, "", 0, 0)
_OLDEST = """
WITH RECURSIVE s(station) AS (
  SELECT MIN(station) FROM verdict
  UNION ALL
  SELECT (SELECT MIN(station) FROM verdict WHERE station > s.station) FROM s WHERE station IS NOT NULL)
SELECT MIN((SELECT decided_at FROM verdict v WHERE v.station = s.station ORDER BY seq LIMIT 1)) FROM s"""
"""When the oldest result was decided, by a look at the first one of each station."""
