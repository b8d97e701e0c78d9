"""What a replay comes to: verdicts as lines, counted for the frozen model and for what answered."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from agent.audit.hash_chain import Audit
from agent.base.codec import JSON, dumps
from agent.domain.verdict import Outcome, Verdict
from agent.payloads import result_payload
from agent.replay.runner import Course

GOOD = "ok"
"""What the simulated line calls a part that is good."""


@dataclass(slots=True)
class VerdictCounts:
    """Verdicts of one side. Owned by `Count`.

    Attributes:
        outcomes: how often each came.
        rejected_good, missed: against the truth, where it is known.
    """

    outcomes: Counter[str] = field(default_factory=Counter)
    rejected_good: int = 0
    missed: int = 0

    def add(self, outcome: Outcome, truth: str | None) -> None:
        """Count a verdict."""
        self.outcomes[outcome.value] += 1
        self.rejected_good += truth == GOOD and outcome is Outcome.FAIL
        self.missed += truth is not None and truth != GOOD and outcome is Outcome.PASS


class Count:
    """Owns what is counted over a replay; one thread.

    Args:
        truth: what a part really was, where that is known.
        version: of the results that its lines are.
    """

    def __init__(self, truth: Callable[[str | None], str | None], version: int) -> None:
        self.frames = 0
        self.frozen, self.answering = VerdictCounts(), VerdictCounts()
        self.rejects: list[tuple[bool, bool]] = []
        """Of each frame, whether the frozen model and what answers reject it."""
        self._truth, self._version = truth, version
        self._sha = hashlib.sha256()
        self._parts = Counter[bool]()

    def add(self, verdict: Verdict) -> str:
        """Take the next verdict and return its line."""
        self.frames += 1
        line = dumps(result_payload.result(verdict, self.frames, self._version))
        self._sha.update(f"{line}\n".encode())
        truth, own = self._truth(verdict.part_id), verdict.decision.verdict
        asked = verdict.source is not None or verdict.decision.scores is None
        assert asked, "a replay shows every frame to the frozen model"
        # Where there are no words there is no model that could be frozen: nothing but the reference answers.
        frozen = verdict.source or verdict.decision
        if truth is not None and own is not Outcome.NOT_INSPECTED:
            self._parts[truth == GOOD] += 1
        self.frozen.add(frozen.verdict, truth)
        self.answering.add(own, truth)
        self.rejects.append((frozen.verdict is Outcome.FAIL, own is Outcome.FAIL))
        return line

    @property
    def truth(self) -> JSON | None:
        """How many good and defective parts were inspected, and what was wrong; None where nobody knows."""
        if not self._parts:
            return None
        sides = {"frozen": self.frozen, "answering": self.answering}
        return {
            "good": self._parts[True],
            "defective": self._parts[False],
            **{
                name: {"rejected_good": side.rejected_good, "missed": side.missed}
                for name, side in sides.items()
            },
        }

    def summary(self, course: Course, audit: Audit | None, why_off: str | None) -> JSON:
        """Return the last line."""
        facts: dict[str, Any] = {
            "frames": self.frames,
            "verdicts_sha256": self._sha.hexdigest(),
            "adapters": course.adapters,
            "audit_head": None if audit is None else audit.head,
            "audit_lines": 0 if audit is None else audit.n,
            "why_off": why_off,
            "frozen": dict(sorted(self.frozen.outcomes.items())),
            "answering": dict(sorted(self.answering.outcomes.items())),
        }
        return facts if self.truth is None else {**facts, "truth": self.truth}


def sentences(count: Count, course: Course, audit: Audit | None, why_off: str | None) -> Sequence[str]:
    """Return the same for people: a short table, and what the learner did at which frame and why."""
    lines = [f"{count.frames} frames", f"{'':<16}{'frozen':>10}{'answering':>12}"]
    sides = (count.frozen, count.answering)
    for outcome in Outcome:
        numbers = [side.outcomes[outcome.value] for side in sides]
        if any(numbers):
            lines.append(f"{outcome.value:<16}{numbers[0]:>10}{numbers[1]:>12}")
    if (truth := count.truth) is not None:
        for what, total in (("rejected_good", "good"), ("missed", "defective")):
            frozen, own = truth["frozen"][what], truth["answering"][what]
            lines.append(f"{what.replace('_', ' '):<16}{frozen:>10}{own:>12}  of {truth[total]}")
    if why_off is not None:
        lines.append(f"nothing is learned: {why_off}")
    for event in course.events:
        after = event["after"]
        lines.append(
            f"frame {event['frame']:>6}  {event['event']:<16} version {after['number']},"
            f" operating point {after['offset']:.2f}: {event['why']}"
        )
    lines.append(f"verdicts sha256:{count.summary(course, audit, why_off)['verdicts_sha256']}")
    if audit is not None:
        lines.append(f"audit    {audit.head}, {audit.n} lines")
    return lines
