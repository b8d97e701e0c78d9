"""What is kept beside the outbox: pictures recorded, old things deleted, room on a full disk."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Mapping, Sequence, Set
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from agent.base.errors import StoreError
from agent.base.reserved_space import ReservedSpace
from agent.store.database import DiskTrouble, disk_free, on_disk, ours, sound, transaction
from agent.store.garbage_collector import Doubts, GarbageCollector, no_doubts
from agent.store.image_files import ImageFiles, Written
from agent.store.retention import Retention, rank_of

log = logging.getLogger(__name__)

_RESULT = """
SELECT station, seq, substr(decided_at, 1, 10), verdict,
  EXISTS (SELECT 1 FROM label l WHERE l.event_id = v.event_id)
FROM verdict v WHERE event_id = ?"""
_SHED_BYTES = 1_000_000
"""Of pictures, where there is no ballast to give back."""


class Maintenance:
    """Owns ballast, pictures in their places and what is known of them; for the store and its thread alone.

    Args:
        db: the store's connection.
        path: of its file.
        files: the pictures.

    Attributes:
        tidier: says what is to go, and deletes it.
        kept: how much is kept, as it was found last.
    """

    def __init__(self, db: sqlite3.Connection, path: Path, files: ImageFiles) -> None:
        self.tidier = GarbageCollector(db, files)
        self.kept = self.tidier.kept()
        self._db = db
        self._path = path
        self._files = files
        self._ballast = ReservedSpace(path.parent)
        self._unsettled: list[tuple[str, str, str]] = []
        self._miscounted = False

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
        with transaction(self._db, self._path):
            for picture in written:
                row = self._db.execute(_RESULT, (picture.event_id,)).fetchone()
                if row is None:
                    continue
                station, seq, day, verdict, labelled = sound([row], "tnttn")[0]
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
        self.tidier.filed(images, image_bytes)
        self._unsettled += filed
        try:
            self._settle()
        except DiskTrouble as error:  # they are recorded: `collect_garbage` moves them, or the next start
            log.warning("%s; pictures wait to be moved", error)
        known = {event_id for event_id, _, _ in filed}
        rest = [picture for picture in written if picture.event_id not in known]
        for picture in rest:
            if picture.event_id not in expected:
                self._discard(picture)
        return [picture for picture in rest if picture.event_id in expected]

    def collect_garbage(
        self,
        retention: Retention,
        now: datetime,
        last_seq: Mapping[str, int],
        doubts: Doubts = no_doubts,
    ) -> bool:
        """Delete a little of what retention lets go; some ten milliseconds at most.

        Args:
            retention: how much is kept.
            now: the time to count ages by.
            last_seq: station -> number of its newest result.
            doubts: station -> which of its results do not have the time at which they were decided.

        Returns:
            Whether there is more to do.

        Raises:
            DiskTrouble: the disk does not take it now.
        """
        self._settle()
        try:
            with ours(self._path), on_disk(self._path.parent):
                if self._miscounted:
                    self.tidier.count()
                    self._miscounted = False
                more = self._collect_garbage(retention, now, last_seq, doubts)
                self.kept = self.tidier.kept()
        except StoreError:
            # Files may be gone whose rows are not. Now the database may not even be read: it waits.
            self._miscounted = True
            raise
        return more

    def _collect_garbage(
        self, retention: Retention, now: datetime, last_seq: Mapping[str, int], doubts: Doubts
    ) -> bool:
        self._ballast.take_on(retention.ballast_bytes, disk_free(self._path), retention.min_free_bytes)
        if self._ballast.size < retention.ballast_bytes:
            # Pictures make room for it: the next full disk finds it there again.
            room = retention.min_free_bytes + 2 * retention.ballast_bytes
            retention = replace(retention, min_free_bytes=room)
        more = self.tidier.look(retention, disk_free(self._path), now, last_seq, doubts)
        if more:
            with transaction(self._db, self._path):
                self.tidier.step(retention, last_seq)
        return more

    def make_room(self, retention: Retention, now: datetime, doubts: Doubts = no_doubts) -> int:
        """Free space on a full disk: the ballast, or else pictures; return how many bytes.

        Raises:
            DiskTrouble: that cannot be done either.
        """
        with ours(self._path), on_disk(self._path.parent):
            freed = self._ballast.throw_off()
            if not freed:
                freed = self.tidier.shed(max(retention.ballast_bytes, _SHED_BYTES), now, doubts)
            if freed:
                # What stands in the log twice stands in the file once.
                self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        return freed

    def recover(self) -> None:
        """Bring pictures and database together after a crash: at most what was being written then."""
        try:
            with on_disk(self._files.root):
                self._files.drop_half_staged()
                staged = self._files.staged()
            if staged:
                self.file(staged)
        except DiskTrouble as error:  # no reason not to inspect
            log.warning("%s; pictures that were being written wait for the next start", error)

    def _settle(self) -> None:
        """Move recorded pictures to their places."""
        while self._unsettled:
            try:
                self._files.settle(*self._unsettled[0])
            except FileNotFoundError:
                # Somebody removed it by hand; `mekiki store check` names it.
                log.warning("store: the picture of %s is not there", self._unsettled[0][0])
            except OSError as error:
                raise DiskTrouble(f"{self._files.root}: {error.strerror or error}") from error
            self._unsettled.pop(0)

    def _discard(self, picture: Written) -> None:
        try:
            self._files.discard(picture.event_id)
        except OSError as error:  # the next start tries again
            log.warning("store: the picture of %s, whose result was lost, stays: %s", picture.event_id, error)
