"""What a station inspects with. One owner; every change of it is in the store and in the audit trail."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from adapters.adapter import Adapter, AdapterError
from adapters.adapter_store import AdapterStore
from adapters.commissioning import Commissioning
from adapters.seen import Seen
from adapters.trial import Assessment, Trial
from adapters.version import SOURCE, Version, Window
from agent import __version__
from agent.audit import Audit


@dataclass(frozen=True, slots=True, eq=False)
class Answering:
    """What to inspect with.

    Attributes:
        number: of the version; 0 is the source.
        adapter: its LayerNorms.
        offset: its operating point, on the log-odds of a defect.
        at_bound: its operating point may not follow the pictures any further.
    """

    number: int
    adapter: Adapter
    offset: float
    at_bound: bool = False


class Ledger:
    """Owns what answers. For the learner's thread; any thread may read `answering`.

    Args:
        clean: the station's commissioning.
        source: the model as it was trained.
        store: of the station's versions.
        audit: of the station.
        now: UTC time for records, ISO-8601; a replay gives the camera's.
        on_event: told of each record, for MQTT.
    """

    def __init__(
        self,
        clean: Commissioning,
        source: Adapter,
        store: AdapterStore,
        audit: Audit,
        now: Callable[[], str],
        on_event: Callable[[dict[str, Any]], None],
    ) -> None:
        self.source = Answering(SOURCE, source, clean.offset)
        self.frame = 0
        self.frozen_by: str | None = None
        self._recipe = clean.recipe
        self._store, self._audit, self._now, self._on_event = store, audit, now, on_event
        active = store.active()
        self.frozen_by = active.learner.get("frozen_by")
        self.frame = int(active.learner.get("frame", 0))
        version = active.version
        if version is None or version.recipe != clean.recipe:
            self.answering = self.source
        else:
            self.answering = _of(version)

    def numbers(self) -> list[int]:
        """Return the numbers of what is stored."""
        return list(self._store.numbers())

    def versions(self) -> list[Version]:
        """Return what is stored and was learned under the same recipe."""
        return [version for version in self._store.versions() if version.recipe == self._recipe]

    def promote(
        self,
        adapter: Adapter,
        found: Assessment,
        trial: Trial,
        recent: Sequence[Seen],
        numbers: Mapping[str, float],
        why: str,
    ) -> None:
        """Let an adapter answer at the operating point that a trial found for it."""
        before = self.answering
        version = Version(
            adapter=adapter,
            parent=before.number,
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
                **numbers,
            },
            release=__version__,
        )
        promoted = self._store.promote(version, self._now(), self._memory())
        self._store.prune()
        self.answering = _of(promoted)
        self.record("promoted", "guard", why, version.numbers, before)

    def go_to(
        self,
        number: int,
        actor: str,
        why: str,
        more: Mapping[str, Any] | None = None,
        event: str = "rolled_back",
    ) -> None:
        """Let a stored version answer, or the source.

        Args:
            number: of the version.
            actor: who.
            why: for the audit trail.
            more: to be remembered in the same write.
            event: what a record calls it; for the source it is ``reset``.

        Raises:
            AdapterError: there is no such version, or it is damaged; nothing has changed.
        """
        before = self.answering
        version = self._store.activate(number, self._now(), {**self._memory(), **(more or {})}).version
        if version is None:
            self.answering = self.source
        else:
            self.answering = _of(version)
        self.record("reset" if number == SOURCE else event, actor, why, {}, before)

    def recall(self, number: int, why: str) -> bool:
        """Let a version answer that was made for such pictures; False where there is none any more."""
        try:
            self.go_to(number, "guard", why, event="recalled")
        except AdapterError as error:
            self.record("refused", "guard", f"version {number} cannot be recalled: {error}")
            return False
        return True

    def freeze(self, by: str | None, actor: str, why: str, more: Mapping[str, Any] | None = None) -> None:
        """Stop learning in somebody's name, or go on with None."""
        self.frozen_by = by
        self._store.remember({**self._memory(), **(more or {})})
        self.record("resume" if by is None else "freeze", actor, why)

    def pin(self, number: int, actor: str, why: str, more: Mapping[str, Any], *, pinned: bool = True) -> None:
        """Keep a version whatever its age, or let it go when its time comes.

        Raises:
            AdapterError: there is no such version, or it is damaged; nothing has changed.
        """
        if pinned:
            self._store.pin(number)
        else:
            self._store.unpin(number)
        self._store.remember({**self._memory(), **more})
        self.record("pinned" if pinned else "unpinned", actor, why, {"version": number})

    def imported(self, number: int, actor: str, why: str, more: Mapping[str, Any]) -> None:
        """Record that somebody took in a version from a file; nothing answers by that."""
        try:
            digest = self._store.load(number).digest
        except AdapterError as error:  # removed or damaged since: that it was taken in stays true
            digest = str(error)
        self._store.remember({**self._memory(), **more})
        self.record("imported", actor, why, {"version": number, "digest": digest})

    def record(
        self,
        event: str,
        actor: str,
        why: str,
        numbers: Mapping[str, Any] | None = None,
        before: Answering | None = None,
    ) -> None:
        """Add to the audit trail, and tell."""
        after = self.answering
        facts: dict[str, Any] = {
            "before": None if before is None else {"number": before.number, "offset": before.offset},
            "after": {"number": after.number, "digest": after.adapter.digest, "offset": after.offset},
            "numbers": {"frame": self.frame, **(numbers or {})},
        }
        at = self._now()
        self._audit.append(at, event, actor=actor, why=why, **facts)
        self._on_event({"at": at, "event": event, "actor": actor, "why": why, **facts})

    def _memory(self) -> dict[str, Any]:
        return {"frozen_by": self.frozen_by, "frame": self.frame}


def _of(version: Version) -> Answering:
    at_bound = bool(version.numbers.get("at_bound"))
    return Answering(version.number, version.adapter, version.offset, at_bound)
