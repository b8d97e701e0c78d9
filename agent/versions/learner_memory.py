"""What a station's learner knows after a restart: one value, in one durable write with what answers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from adapters.core.version import SOURCE
from adapters.gate.label_test import LabelTest
from adapters.gate.state_machine import Phase, State
from agent.inspection.frame_count import FrameCount, InForce

KEPT_REQUESTS = 50
"""Ids of requests that are remembered: more than lie in a folder between being carried out and removed."""

UNCOMMISSIONED = "none"
"""Instead of a digest, where a station's first commissioning is being made."""

Record = Mapping[str, Any]
"""What `Audit.append` takes, by name."""
_RECORD = ("at", "event", "actor", "why", "before", "after", "numbers")


@dataclass(frozen=True, slots=True)
class Staged:
    """What a commissioning means that may not be there yet.

    Attributes:
        commissioning: its digest.
        records: for the audit trail, once it is there.
    """

    commissioning: str
    records: tuple[Record, ...]


@dataclass(frozen=True, slots=True)
class Memory:
    """Everything but the adapter itself.

    Attributes:
        commissioning: digest of the one under which all this was learned; None where nobody knows.
        count: of the station's frames.
        frozen_by: who has stopped learning; None if nobody has.
        state: of the life cycle, in frames of `count`.
        test: by labels, of what answers.
        requests: ids of those that were carried out last, the newest last.
        trail: lines of the audit trail when `records` were added here.
        records: lines of the audit trail that are to be there, and may not be yet.
        staged: by a commissioning that was being made.
        older: highest number that a version had when this commissioning took effect: it and those below are
            of another one.
    """

    commissioning: str | None = None
    count: FrameCount = field(default_factory=FrameCount)
    frozen_by: str | None = None
    state: State = field(default_factory=State)
    test: LabelTest | None = None
    requests: tuple[str, ...] = ()
    trail: int = 0
    records: tuple[Record, ...] = ()
    staged: Staged | None = None
    older: int = SOURCE

    def done(self, request: str | None) -> Memory:
        """Return it with a request that is carried out; None is none."""
        if request is None:
            return self
        return replace(self, requests=(*self.requests, request)[-KEPT_REQUESTS:])

    def resumed(self, commissioning: str, now: InForce, last: int, *, learned: bool) -> Memory:
        """Return what a learner begins with after a restart.

        Args:
            commissioning: digest of the one that is there; under another one nothing of it is true any more.
            now: since when it is in force.
            last: the highest number that a version has.
            learned: whether a version answers, and not the source.
        """
        count = self.count.in_run(now)
        state, frame = self.state, count.frame
        other = self.commissioning not in (None, commissioning)
        # Without a commissioning nothing is learned: what there is then was brought in for the first one.
        older = last if other and self.commissioning != UNCOMMISSIONED else self.older
        if other or (learned and state.phase is Phase.WATCH):
            state = State(Phase.HOLD, frame, born=frame) if learned else State(since=frame)
        test = self.test if learned and state is self.state else None
        return Memory(commissioning, count, self.frozen_by, state, test, self.requests, older=older)

    def blob(self) -> dict[str, Any]:
        """Return it as JSON."""
        staged = self.staged
        return {
            "commissioning": self.commissioning,
            "frozen_by": self.frozen_by,
            # Older releases read these two.
            "frame": self.count.frame,
            "request": self.requests[-1] if self.requests else None,
            "count": asdict(self.count),
            "state": asdict(self.state),
            "test": None if self.test is None else asdict(self.test),
            "requests": list(self.requests),
            "trail": self.trail,
            "older": self.older,
            "records": [dict(record) for record in self.records],
            "staged": None
            if staged is None
            else {"commissioning": staged.commissioning, "records": [dict(one) for one in staged.records]},
        }

    @classmethod
    def read(cls, blob: Mapping[str, Any]) -> Memory:
        """Return what `blob` was made of; of another release's what there is and what is known here."""
        stored = blob.get("count")
        count = FrameCount(base=int(blob.get("frame", 0))) if stored is None else _count(stored)
        requests = blob.get("requests") or [one for one in [blob.get("request")] if one is not None]
        staged = blob.get("staged")
        return cls(
            commissioning=blob.get("commissioning"),
            count=count,
            frozen_by=blob.get("frozen_by"),
            state=_state(blob.get("state")) or State(since=count.frame),
            test=_test(blob.get("test")),
            requests=tuple(requests),
            trail=int(blob.get("trail", 0)),
            older=int(blob.get("older", SOURCE)),
            records=_records(blob.get("records", ())),
            staged=None if staged is None else Staged(staged["commissioning"], _records(staged["records"])),
        )


def record(
    at: str,
    event: str,
    actor: str,
    why: str,
    *,
    before: Any = None,
    after: Any = None,
    numbers: Mapping[str, Any] | None = None,
) -> Record:
    """Return a line for the audit trail."""
    return {
        "at": at, "event": event, "actor": actor, "why": why,
        "before": before, "after": after, "numbers": dict(numbers or {}),
    }  # fmt: skip


def _count(facts: Mapping[str, Any]) -> FrameCount:
    return FrameCount(**_of(FrameCount, facts))


def _records(stored: Iterable[Mapping[str, Any]]) -> tuple[Record, ...]:
    return tuple({name: one[name] for name in _RECORD if name in one} for one in stored)


def _state(facts: Mapping[str, Any] | None) -> State | None:
    if facts is None or facts["phase"] not in list(Phase):  # a phase of a newer release
        return None
    return State(**{**_of(State, facts), "phase": Phase(facts["phase"])})


def _test(facts: Mapping[str, Any] | None) -> LabelTest | None:
    if facts is None:
        return None
    wealth: dict[str, Sequence[float]] = {name: tuple(facts[name]) for name in ("harm", "gain")}
    return LabelTest(**{**_of(LabelTest, facts), **wealth})


def _of(kind: Any, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return what this release knows of it: a newer one may have written more."""
    known = {one.name for one in fields(kind)}
    return {name: value for name, value in facts.items() if name in known}
