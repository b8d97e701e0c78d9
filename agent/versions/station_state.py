"""What answers at a station, what its learner remembers, and its audit trail: kept on the disk as one."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from adapters.core.adapter import AdapterError
from adapters.core.version import Version
from adapters.core.version_store import AdapterStore
from adapters.gate.label_test import LabelTest
from adapters.gate.state_machine import State
from agent.audit.hash_chain import Audit
from agent.versions.learner_memory import Memory, Record
from agent.versions.station_trail import StationTrail

log = logging.getLogger(__name__)

SAVE_FRAMES = 500
"""So many frames of a station's count are lost at most, when the power goes."""


class StationState:
    """Owns what is remembered, and writes it. For the learner's thread.

    Which version answers, what is remembered and the lines of the audit trail that say so go into one durable
    write; the lines are added to the trail behind it, and after a crash by `settle`.

    Args:
        store: of the station's versions.
        audit: of the station.
        on_event: told of each line once it is in the trail.
        memory: what there is to begin with.

    Attributes:
        memory: what is remembered; with the next write on the disk.
    """

    def __init__(
        self,
        store: AdapterStore,
        audit: Audit,
        on_event: Callable[[dict[str, Any]], None],
        memory: Memory,
    ) -> None:
        self.memory = memory
        self._store = store
        self._trail = StationTrail(audit, on_event)
        self._dirty = self._unsaved = False
        self._saved_frame = memory.count.frame
        self._left: str | None = None  # since when the source answers, where the disk does not know yet

    @property
    def trouble(self) -> str | None:
        """What the disk does not take; None while it takes everything."""
        return self._trail.trouble

    @property
    def saved(self) -> bool:
        """Whether the disk knows what answers, and which requests were carried out."""
        return not self._unsaved

    def version(self, number: int) -> Version:
        """Return a stored version that may answer here.

        Raises:
            AdapterError: there is no such version, it is damaged, or it is of another commissioning.
        """
        version, older = self._store.load(number), self.memory.older
        if number <= older:
            raise AdapterError(
                f"version {number} is of another commissioning, as all up to {older}: its operating point"
                " holds for that one; export it and import it again to have it here all the same"
            )
        return version

    def settle(self, records: Sequence[Record], after: int, left: str | None) -> None:
        """Make good what a crash or a full disk has left undone.

        Args:
            records: lines that are to be in the trail.
            after: number of its line from which on they may be there.
            left: since when the source answers; None where it is on the disk what answers.
        """
        self._left = left
        self._trail.settle(records, after)
        if records or left is not None:
            self.save()
            self._trail.flush()

    def count(self, number: int, at_s: float) -> int | None:
        """Return the station's number of a frame that a camera gave a number; None for one that is late."""
        count = self.memory.count.seen(number, at_s)
        if count is not None:
            self.memory = replace(self.memory, count=count)
        return None if count is None else count.frame

    def remember(self, state: State, test: LabelTest | None) -> None:
        """Remember how far the learner is; on the disk with the next write, or `save_in_time`."""
        if (state, test) != (self.memory.state, self.memory.test):
            self._dirty = True
            self.memory = replace(self.memory, state=state, test=test)

    def answer(self, version: Version, said: Record, memory: Memory) -> None:
        """Let a version answer; it is on the disk then, and so is its line, which `flush` adds to the trail.

        Raises:
            OSError: the disk does not take it; nothing has changed.
        """
        self._store.answer(version, said["at"], self._blob(memory, said))
        self._trail.add(said)  # with it, or the next write would be one without the line
        self.memory = memory
        self._is_saved()

    def leave(self, said: Record) -> None:
        """Let the source answer, and write it as soon as the disk takes it."""
        self._left = said["at"]
        self.write(said)

    def pin(self, number: int, said: Record, memory: Memory, *, pinned: bool) -> None:
        """Keep a version whatever its age, or do not.

        Raises:
            AdapterError: there is no such version, or it is damaged; nothing has changed.
            OSError: the disk does not take it; nothing has changed.
        """
        (self._store.pin if pinned else self._store.unpin)(number, self._blob(memory, said))
        self.memory = memory
        self.say(said)

    def write(self, said: Record) -> None:
        """Keep what is remembered with a line for the trail."""
        self._trail.add(said)
        self.save()
        self._trail.flush()

    def say(self, said: Record) -> None:
        """Add a line to the trail."""
        self._trail.add(said)
        self._trail.flush()

    def flush(self) -> None:
        """Add the lines that wait to the trail."""
        self._trail.flush()

    def save(self) -> None:
        """Keep what is remembered, and that the source answers where the disk does not know yet."""
        try:
            if self._left is not None:
                self._store.answer(None, self._left, self._blob(self.memory))
            else:
                self._store.remember(self._blob(self.memory))
        except OSError as error:
            self._unsaved = True
            self.failed(error)
        else:
            self._is_saved()

    def save_in_time(self) -> None:
        """Keep what is remembered if it is news, or if so many frames were counted that they should stay."""
        news = self._dirty or self.memory.count.frame - self._saved_frame >= SAVE_FRAMES
        if news and self.trouble is None:
            self.save()

    def prune(self) -> None:
        """Remove the oldest versions; where that fails, they go the next time."""
        try:
            self._store.prune()
        except OSError as error:
            self.failed(error)

    def failed(self, error: OSError) -> None:
        """Remember what the disk did not take; see `retry`."""
        self._trail.failed(error)

    def retry(self) -> str | None:
        """Try again what the disk did not take; return what that was, once it takes everything."""
        why, self._trail.trouble = self.trouble, None
        self.save()
        self._trail.flush()
        if self.trouble is not None:
            return None
        log.warning("the disk takes it again: %s", why)
        return why

    def _blob(self, memory: Memory, *more: Record) -> dict[str, Any]:
        return replace(memory, trail=self._trail.lines, records=(*self._trail.waiting, *more)).blob()

    def _is_saved(self) -> None:
        self._dirty = self._unsaved = False
        self._left, self._saved_frame = None, self.memory.count.frame
