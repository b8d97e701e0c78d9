"""Who owns what a station inspects with: every change of it is in the store and in the audit trail."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from adapters.baseline.baseline import Commissioning
from adapters.core.adapter import Adapter, AdapterError
from adapters.core.observation import Observation
from adapters.core.version import SOURCE, Version, Window
from adapters.core.version_store import AdapterStore
from adapters.gate.evaluation import Assessment, Evaluation
from adapters.gate.label_test import LabelTest
from adapters.gate.state_machine import State
from agent import __version__
from agent.audit.hash_chain import Audit
from agent.base.event_id import ulid
from agent.domain.active_version import ActiveVersion
from agent.inspection.frame_count import InForce
from agent.versions.learner_memory import Memory, Record, record
from agent.versions.station_state import StationState


class VersionManager:
    """Owns what answers. For the learner's thread; any thread may read `answering`.

    A version answers once it is on the disk that it does, and the line of the audit trail with it. The source
    answers at once, whatever the disk says: to leave a version must not wait.

    Args:
        clean: the station's commissioning.
        source: the model as it was trained.
        store: of the station's versions.
        audit: of the station.
        now: UTC time for records, ISO-8601; a replay gives the camera's.
        on_event: told of each record once it is in the trail, for MQTT.
        since: since when the product is in force; None: it is from here on, in a run of its own.

    Attributes:
        answering: what to inspect with now.
        generation: grows where somebody else than who computes decides what is to be: what was begun under an
            older one must not change anything.
        superseded_by: why it grew last.
        kept: what is remembered, and what the disk does not take.
    """

    def __init__(
        self,
        clean: Commissioning,
        source: Adapter,
        store: AdapterStore,
        audit: Audit,
        now: Callable[[], str],
        on_event: Callable[[dict[str, Any]], None],
        since: InForce | None = None,
    ) -> None:
        self.source = ActiveVersion(SOURCE, source, clean.offset)
        self.generation, self.superseded_by = 0, ""
        self._recipe = clean.recipe
        self._store, self._now = store, now
        self._changed: Callable[[], None] = lambda: None
        self._ready: Callable[[ActiveVersion], None] = lambda answering: None
        self._found = Memory.read(store.active().learner)
        version = store.active().version
        known = self._found.commissioning in (None, clean.digest)
        fits = version is not None and version.recipe == clean.recipe and known
        self.answering = ActiveVersion.by(version) if version is not None and fits else self.source
        learned = self.answering.number != SOURCE
        memory = self._found.resumed(clean.digest, since or InForce(ulid()), store.last, learned=learned)
        self.kept = StationState(store, audit, on_event, memory)

    def begin(
        self,
        changed: Callable[[], None] = lambda: None,
        ready: Callable[[ActiveVersion], None] = lambda answering: None,
    ) -> None:
        """Make good what a crash or a full disk has left undone; once, before anything is changed.

        Args:
            changed: called whenever something else answers, at once.
            ready: makes what inspecting with a version needs; called before it answers. Where it raises,
                nothing has changed.
        """
        self._changed, self._ready = changed, ready
        found, stored = self._found, self._store.active().number
        records = list(found.records)
        left = None if stored == self.answering.number else self._now()
        if found.staged is not None and found.staged.commissioning == self.kept.memory.commissioning:
            records += found.staged.records
        elif left is not None:
            why = "it was learned under another commissioning, or for another recipe"
            records.append(self._said("reset", "agent", why, {"version": stored}))
        self.kept.settle(records, found.trail, left)

    @property
    def frame(self) -> int:
        """Number of the station's newest frame."""
        return self.kept.memory.count.frame

    @property
    def frozen_by(self) -> str | None:
        """Who has stopped learning; None if nobody has."""
        return self.kept.memory.frozen_by

    @property
    def state(self) -> State:
        """Of the life cycle."""
        return self.kept.memory.state

    @property
    def test(self) -> LabelTest:
        """By labels, of what answers."""
        return self.kept.memory.test or LabelTest()

    def number_of(self, number: int) -> int:
        """Return the station's number of a frame that a camera gave a number and that was counted."""
        return self.kept.memory.count.base + number

    def supersede(self, why: str) -> None:
        """Let nothing that is being computed now change anything.

        Args:
            why: for the record of what is discarded.
        """
        self.generation += 1
        self.superseded_by = why

    def numbers(self) -> list[int]:
        """Return the numbers of what is stored."""
        return list(self._store.numbers())

    def versions(self) -> list[Version]:
        """Return what is stored and is of this recipe and commissioning; any thread may ask."""
        older = self.kept.memory.older
        return [one for one in self._store.versions() if one.recipe == self._recipe and one.number > older]

    def promote(
        self,
        adapter: Adapter,
        found: Assessment,
        trial: Evaluation,
        recent: Sequence[Observation],
        numbers: Mapping[str, float],
        why: str,
    ) -> None:
        """Let an adapter answer at the operating point that a trial found for it.

        Raises:
            OSError: the disk does not take it; nothing has changed.
        """
        written = self._store.write(
            Version(
                adapter=adapter,
                parent=self.answering.number,
                origin="learned",
                made_at=self._now(),
                window=Window(recent[0].number, recent[-1].number, len(recent)),
                offset=found.point.offset,
                recipe=self._recipe,
                condition=trial.condition.numbers(),
                numbers={
                    "error": found.error,
                    "missed": found.missed,
                    "rejected": found.rejected,
                    "at_bound": float(found.point.at_bound),
                    "usual": found.usual,
                    **numbers,
                },
                release=__version__,
            )
        )
        self._let_answer(written, "promoted", "guard", why, written.numbers, self.kept.memory)
        self.kept.prune()

    def go_to(
        self,
        number: int,
        actor: str,
        why: str,
        request: str | None = None,
        event: str = "rolled_back",
        state: State | None = None,
    ) -> None:
        """Let a stored version answer, or the source.

        Args:
            number: of the version.
            actor: who.
            why: for the audit trail.
            request: id of the one that asks for it.
            event: what a record calls it; for the source it is ``reset``.
            state: of the life cycle from then on; None: as it is.

        Raises:
            AdapterError: see `StationState.version`; nothing has changed.
            OSError: the disk does not take it; nothing has changed. Never for the source.
        """
        memory = replace(self.kept.memory, state=state or self.state, test=None).done(request)
        if number != SOURCE:
            self._let_answer(self.kept.version(number), event, actor, why, {}, memory)
            self.supersede(why)
            return
        said = self._said("reset", actor, why, {}, self.answering, self.source)
        self.kept.memory, self.answering = memory, self.source
        self.supersede(why)
        try:
            self._changed()
        finally:
            self.kept.leave(said)

    def recall(self, number: int, why: str, state: State) -> bool:
        """Let a version answer that was made for such pictures; False where there is none any more.

        Raises:
            OSError: the disk does not take it; nothing has changed.
        """
        try:
            self.go_to(number, "guard", why, event="recalled", state=state)
        except AdapterError as error:
            self.record("refused", "guard", f"version {number} cannot be recalled: {error}")
            return False
        return True

    def freeze(self, by: str | None, actor: str, why: str, request: str | None = None) -> None:
        """Stop learning in somebody's name, or go on with None."""
        self.kept.memory = replace(self.kept.memory, frozen_by=by).done(request)
        self.supersede(why)
        self.kept.write(self._said("resume" if by is None else "freeze", actor, why))

    def pin(self, number: int, actor: str, why: str, request: str, *, pinned: bool = True) -> None:
        """Keep a version whatever its age, or let it go when its time comes; raises as `go_to`."""
        said = self._said("pinned" if pinned else "unpinned", actor, why, {"version": number})
        self.kept.pin(number, said, self.kept.memory.done(request), pinned=pinned)

    def imported(self, number: int, actor: str, why: str, request: str) -> None:
        """Record that somebody took in a version from a file; nothing answers by that."""
        try:
            digest = self._store.load(number).digest
        except AdapterError as error:  # removed or damaged since: that it was taken in stays true
            digest = str(error)
        self.kept.memory = self.kept.memory.done(request)
        self.kept.write(self._said("imported", actor, why, {"version": number, "digest": digest}))

    def refuse(self, actor: str, why: str, request: str) -> None:
        """Record that a request is refused; it is over then."""
        self.kept.memory = self.kept.memory.done(request)
        self.kept.write(self._said("request_refused", actor, why))

    def record(self, event: str, actor: str, why: str, numbers: Mapping[str, Any] | None = None) -> None:
        """Add to the audit trail, and tell; it waits where the disk does not take it."""
        self.kept.say(self._said(event, actor, why, numbers))

    def retry(self) -> None:
        """Try again what the disk did not take; where it takes everything now, that is recorded."""
        if (why := self.kept.retry()) is not None:
            self.record("disk_trouble_over", "agent", f"the disk takes it again: {why}")

    def _let_answer(
        self,
        version: Version,
        event: str,
        actor: str,
        why: str,
        numbers: Mapping[str, Any],
        memory: Memory,
    ) -> None:
        after = ActiveVersion.by(version)
        self._ready(after)  # takes as long as the text tower does: neither the line nor its time waits for it
        said = self._said(event, actor, why, numbers, self.answering, after)
        if after.adapter.digest != self.answering.adapter.digest:
            memory = replace(memory, test=None)
        self.kept.answer(version, said, memory)
        self.answering = after
        try:
            self._changed()
        finally:
            self.kept.flush()

    def _said(
        self,
        event: str,
        actor: str,
        why: str,
        numbers: Mapping[str, Any] | None = None,
        before: ActiveVersion | None = None,
        after: ActiveVersion | None = None,
    ) -> Record:
        now = after or self.answering
        return record(
            self._now(),
            event,
            actor,
            why,
            before=None if before is None else {"number": before.number, "offset": before.offset},
            after={"number": now.number, "digest": now.adapter.digest, "offset": now.offset},
            numbers={"frame": self.frame, **(numbers or {})},
        )
