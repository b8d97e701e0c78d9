"""One challenge from its first part to its outcome: values, and what a result means for it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Literal, get_args

from agent.domain.verdict import Outcome, Verdict

Expect = Literal["fail", "pass"]
State = Literal["running", "passed", "missed", "incomplete", "interrupted"]
"""``incomplete``: too few parts came in time; ``interrupted``: the agent ended meanwhile."""

_MUST: Final = {"fail": Outcome.FAIL, "pass": Outcome.PASS}
_SHOWN: Final = 20
"""Results that an outcome lists; the others are counted."""


@dataclass(frozen=True, slots=True)
class ChallengeResult:
    """What the line said of one part of a challenge.

    Attributes:
        event_id: of its result.
        verdict: pass, fail or unsure.
        reason, label: as the result has them.
        part_id: of the part, or None.
    """

    event_id: str
    verdict: str
    reason: str
    label: str | None
    part_id: str | None


@dataclass(frozen=True, slots=True)
class Challenge:
    """Parts of which a person knows what they are, put before the camera of a station.

    Attributes:
        id: a ULID.
        station: its name.
        expect: what each of the parts must do.
        parts: how many.
        within_s: until then all of them must have come.
        actor: who asked.
        why: what the person said to it; "" for nothing.
        kind: which kind of part was asked for, such as a class; "" where nobody said.
        at: when it began, UTC, ISO-8601.
        state: what came of it.
        met: parts that did what they must.
        missed: parts that did not.
        not_inspected: results that say nothing of a part: they do not count.
        results: of the first parts.
    """

    id: str
    station: str
    expect: Expect
    parts: int
    within_s: float
    actor: str
    why: str
    kind: str
    at: str
    state: State = "running"
    met: int = 0
    missed: int = 0
    not_inspected: int = 0
    results: tuple[ChallengeResult, ...] = ()

    def facts(self) -> dict[str, Any]:
        """Return it for JSON."""
        named = {name: getattr(self, name) for name in self.__slots__ if name != "results"}
        results = [{name: getattr(one, name) for name in one.__slots__} for one in self.results]
        return {**named, "results": results}

    @classmethod
    def read(cls, facts: Mapping[str, Any]) -> Challenge:
        """Return what `facts` were made of; raise ValueError, KeyError or TypeError where they are none."""
        results = tuple(
            ChallengeResult(**{name: one[name] for name in ChallengeResult.__slots__})
            for one in facts["results"]
        )
        named = {name: facts[name] for name in cls.__slots__ if name != "results"}
        texts = ("id", "station", "actor", "why", "kind", "at")
        counts = ("parts", "met", "missed", "not_inspected")
        whole = (
            all(isinstance(named[name], str) for name in texts)
            and all(type(named[name]) is int and 0 <= named[name] < 2**53 for name in counts)
            and type(named["within_s"]) in (int, float)
            and named["expect"] in get_args(Expect)
            and named["state"] in get_args(State)
        )
        if not whole:
            raise ValueError("no challenge")
        return cls(**named, results=results)

    def sentence(self) -> str:
        """Say what came of it."""
        kind = f" ({self.kind})" if self.kind else ""
        what = f"a known {'bad' if self.expect == 'fail' else 'good'} part{kind}"
        count, none = self.met + self.missed, self.not_inspected
        beside = f"; {none} results without an inspection do not count" if none else ""
        match self.state:
            case "running":
                return f"{count} of {self.parts} parts have come{beside}"
            case "passed":
                return f"passed: {self.met} of {self.parts} parts {self.expect}, as they must{beside}"
            case "missed":
                return f"missed: {self.missed} of {self.parts} times {what} did not {self.expect}{beside}"
            case "incomplete":
                return f"incomplete: {count} of {self.parts} parts came within {self.within_s:g} s{beside}"
            case _:
                return f"interrupted: the agent ended after {count} of {self.parts} parts{beside}"


def seen(challenge: Challenge, verdict: Verdict) -> Challenge:
    """Return a challenge after one more result of its station; one that is over stays as it is."""
    if challenge.state != "running" or verdict.station != challenge.station:
        return challenge
    decision = verdict.decision
    if decision.verdict == Outcome.NOT_INSPECTED:
        return replace(challenge, not_inspected=challenge.not_inspected + 1)
    met = decision.verdict == _MUST[challenge.expect]
    one = ChallengeResult(
        verdict.event_id, str(decision.verdict), str(decision.reason), decision.label, verdict.part_id
    )
    challenge = replace(
        challenge,
        met=challenge.met + met,
        missed=challenge.missed + (not met),
        results=(*challenge.results, one)[:_SHOWN],
    )
    if challenge.met + challenge.missed < challenge.parts:
        return challenge
    return replace(challenge, state="missed" if challenge.missed else "passed")


def ended(challenge: Challenge, state: State) -> Challenge:
    """Return a challenge whose parts will not all come; one part that was missed is a miss all the same."""
    return replace(challenge, state="missed" if challenge.missed else state)
