"""The store: every verdict on disk before anybody hears of it, and the outbox of those not yet delivered."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from agent.base.codec import dumps, timestamp
from agent.base.data_dir import lock_folder
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
    ours,
    sound_results,
    transaction,
)
from agent.store.garbage_collector import Doubts, no_doubts
from agent.store.image_files import ImageFiles, Written
from agent.store.labels import Labelled, put_label
from agent.store.maintenance import Maintenance
from agent.store.numbering import keep_numbers, last_numbers, newest_at, numbered
from agent.store.outbox import Outbox, Outgoing
from agent.store.recovery import finish_exchange, put_aside, salvage
from agent.store.retention import Retention

log = logging.getLogger(__name__)

_RESULT = (
    "INSERT INTO verdict (station, seq, event_id, decided_at, verdict, payload) VALUES (?, ?, ?, ?, ?, ?)"
)


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
        version: of the results that are written; what is stored stays in the version it was written in.

    Attributes:
        retention, version: may be replaced by any thread at any time; the next commit goes by it.
        files: of the pictures.
        kept: how much is kept, as it was found last; any thread may read it.
        damage: what is to be done about a database that was damaged and put aside; None without one.
        newest_at: when the newest results say that they were decided; None without one to be believed.

    Raises:
        StoreError: the folder cannot be written, is in use by another agent, or is a newer version's.
        DiskTrouble: the file cannot be opened now, or what is damaged cannot be replaced.
    """

    def __init__(
        self,
        folder: Path,
        retention: Retention,
        *,
        outbox: bool = True,
        version: int = result_payload.NEWEST,
    ) -> None:
        self.path = folder / NAME
        self.retention, self.version = retention, version
        self.files = ImageFiles(folder)
        self.given_up = 0
        self.kept = NOTHING_KEPT
        self._told = outbox
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
                self._last_seq = last_numbers(self._db)
                self.newest_at = newest_at(self._db, self._last_seq)
                self._outbox = Outbox(self._db, self.path)
                self._maintenance = Maintenance(self._db, self.path, self.files)
            self._maintenance.recover()
            self.kept = self._maintenance.kept
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
            found = salvage(self.path.parent, datetime.now(UTC), self._last_seq, outbox=self._told)
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
        numbers, last_seq = numbered(verdicts, self._last_seq)
        version = self.version
        rows = [
            (verdict, seq, dumps(result_payload.result(verdict, seq, version))) for verdict, seq in numbers
        ]
        with transaction(self._db, self.path):
            # Strike off first: it makes room for what comes.
            struck = self._outbox.strike_off(delivered)
            self._db.executemany(
                _RESULT,
                [
                    (v.station, seq, v.event_id, timestamp(v.decided_at), v.decision.verdict, text)
                    for v, seq, text in rows
                ],
            )
            stations = {v.station for v, _, _ in rows}
            keep_numbers(self._db, last_seq, stations)
            told = rows if self._told else []
            new = [Outgoing(self._outbox.add(v.station, seq), v.station, seq, text) for v, seq, text in told]
            given_up = self._outbox.expire(len(new) - struck, self.retention.max_waiting)
            for station in stations:
                self._maintenance.tidier.forget_excess(station, self.retention, last_seq[station])
        self._last_seq = last_seq
        self.given_up += given_up
        self._outbox.settle(len(new) - struck - given_up)
        return new

    @property
    def waiting(self) -> int:
        """How many results wait for delivery; any thread may ask."""
        return self._outbox.waiting

    def backlog(self, after_id: int, limit: int) -> list[Outgoing]:
        """Return what waits for delivery, oldest first, beyond `after_id`; see `Outbox.backlog`."""
        return self._outbox.backlog(after_id, limit)

    def newest_waiting(self) -> int:
        """Return the outbox id of the newest result that waits, 0 if none does; see `Outbox.newest`."""
        return self._outbox.newest()

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
        return self._maintenance.file(written, expected)

    def collect_garbage(self, now: datetime, doubts: Doubts = no_doubts) -> bool:
        """Delete a little of what retention lets go; return whether there is more."""
        more = self._maintenance.collect_garbage(self.retention, now, self._last_seq, doubts)
        self.kept = self._maintenance.kept
        self._tell_damage()
        return more

    def make_room(self, now: datetime, doubts: Doubts = no_doubts) -> int:
        """Give back space on a full disk; return how many bytes; see `Maintenance.make_room`."""
        return self._maintenance.make_room(self.retention, now, doubts)

    def close(self) -> None:
        """Close the database and let another agent have the folder."""
        self._db.close()
        self._lock.close()

    def _require_room(self) -> None:
        floor = self.retention.min_free_bytes
        if disk_free(self.path) < floor:
            raise DiskTrouble(
                f"{self.path}: less than {floor // 1_000_000} MB free on the disk (storage.min_free_mb)"
            )

    def _read(self, query: str, parameters: tuple[Any, ...]) -> list[tuple[Any, ...]]:
        with ours(self.path):
            return self._db.execute(query, parameters).fetchall()
