"""The upkeep of the store between commits: pictures are recorded, the past is tidied, trouble is told."""

from __future__ import annotations

import logging
import time

from agent.clock.time_book import TimeBook
from agent.domain.publisher_stats import Unsaved
from agent.mqtt.pending_results import PendingResults
from agent.store.database import DiskTrouble
from agent.store.image_files import Written
from agent.store.image_writer import ImageWriter
from agent.store.store import Store

log = logging.getLogger(__name__)

_RETRY_STORE_S = 1.0
_LOOK_S = 5.0
"""How often it is asked whether there is too much."""


class StoreUpkeep:
    """Owns the pictures that wait for their results, and what is wrong with the disk.

    The publisher's thread alone uses it; `unsaved` may be asked by any.

    Args:
        pending: results that are not on disk yet.
        evidence: pictures to record beside the results; None where nobody keeps any.

    Attributes:
        problem: what is wrong with the disk, in one sentence; None while all is well.
        retry_at: not before then is the disk tried again, by `time.monotonic`.
        collect_at: not before then is it asked whether there is too much.
    """

    def __init__(self, store: Store, pending: PendingResults, evidence: ImageWriter | None) -> None:
        self.evidence = evidence
        self.problem: str | None = None
        self.retry_at = self.collect_at = 0.0
        self._store = store
        self._pending = pending
        self._time = TimeBook(store.path.parent, store.numbers(), store.newest_at)
        self._to_file: list[Written] = []

    def trouble(self, error: DiskTrouble, now: float) -> None:
        """Tell of trouble once, and make room where the disk is full."""
        self.retry_at = now + _RETRY_STORE_S
        if self.problem is None:
            log.error("%s; inspection goes on, %d verdicts wait in memory", error, len(self._pending))
        self.problem = str(error)
        if error.full:
            try:
                at = self._time.look(self._store.numbers())
                freed = self._store.make_room(at, self._time.doubts)
            except DiskTrouble as worse:
                log.error("%s", worse)
                return
            if freed:
                log.warning("store: gave %.1f MB back to the full disk", freed / 1e6)
                self.retry_at = self.collect_at = now

    def works_again(self) -> None:
        """Tell that the trouble is over, where there was any."""
        if self.problem is not None:
            log.warning("store: works again, %d verdicts were lost meanwhile", self._pending.lost)
        self.problem = None

    def file(self, now: float) -> None:
        """Record the pictures that were written, once their results are on disk."""
        if self.evidence is None or now < self.retry_at:
            return
        # Not taken while some wait, so that the evidence thread notices and keeps no more.
        if not self._to_file:
            self._to_file = self.evidence.take()
        if not self._to_file:
            return
        try:
            self._to_file = self._store.file(self._to_file, self._pending.waiting_ids())
        except DiskTrouble as error:
            self.trouble(error, now)

    def collect_garbage(self, now: float) -> None:
        """Delete a little of what is too much; never more than half of the time."""
        if now < self.collect_at:
            return
        began, more = time.monotonic(), False
        try:
            now_by_clocks = self._time.look(self._store.numbers())
            more = self._store.collect_garbage(now_by_clocks, self._time.doubts)
            if not self._pending and not self._to_file:  # otherwise they tell, when they are written
                self.works_again()
        except DiskTrouble as error:
            self.trouble(error, now)
        ended = time.monotonic()
        self.collect_at = ended + (ended - began if more else _LOOK_S)

    def close(self) -> None:
        """Keep what is known of the time."""
        self._time.write()

    def unsaved(self) -> Unsaved:
        """Return what is not on disk at the end; from any thread."""
        lost = self._pending.unsaved_ids()
        staged, unwritten = list(self._to_file), 0
        if self.evidence is not None:
            staged += self.evidence.staged()
            unwritten = self.evidence.unwritten
        # What is staged and has its result is recorded at the next start.
        unwritten += sum(picture.event_id in lost for picture in staged)
        return Unsaved(len(lost), unwritten, self.problem)
