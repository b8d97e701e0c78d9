"""The guard: whether a proposal may answer. Pure, over numbers; every number goes into the audit record.

Numbers without labels can only refuse, never prove. So a proposal needs a gain on known parts that it did not
learn from, shown under the condition of now; and nothing else that is known of it may speak against it.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Literal

Rule = Literal[
    "kept",
    "not_finite",
    "unexplained",
    "too_far",
    "dead_class",
    "more_missed",
    "disagrees",
    "class_share",
    "worse",
    "no_gain",
]
"""Why a proposal was kept or refused."""

HARMFUL: frozenset[Rule] = frozenset(
    {"not_finite", "too_far", "dead_class", "more_missed", "disagrees", "class_share"}
)
"""Refusals that say that learning goes wrong. A proposal that is merely worse is usual near the end."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known about a proposal, all at the operating point that each adapter would get.

    Attributes:
        gain: mean of the soft error of the answering adapter minus that of the proposal on held-out known
            parts, good and defective ones weighing the same.
        gain_error: standard error of that mean of paired differences.
        source_error: soft error of the frozen model on the same parts.
        error: of the proposal.
        missed: share of held-out known defects that the proposal misses.
        missed_before: that the answering adapter misses.
        dead: classes that the frozen model names 3 times or more among held-out parts, the proposal never.
        agreement: with the frozen model, on the pictures of the stream of which that is sure.
        share: of the stream's pictures that the proposal calls defective.
        share_frozen: that the frozen model calls defective.
        distance: of the LayerNorms from the source, in lengths of the source.
        explained: share of the change in the frozen model's features that the estimated condition explains.
        finite: loss and gradients were numbers.
    """

    gain: float
    gain_error: float
    source_error: float
    error: float
    missed: float
    missed_before: float
    dead: int
    agreement: float
    share: float
    share_frozen: float
    distance: float
    explained: float
    finite: bool = True

    def numbers(self) -> dict[str, float]:
        """Return all of it for the audit record."""
        return {name: float(value) for name, value in asdict(self).items()}


@dataclass(frozen=True, slots=True)
class GateLimits:
    """What a proposal must hold to.

    Attributes:
        least_gain: in soft error; less is not worth a new version.
        sureness: standard errors that the gain must be above zero. Known parts are few: 1 lets one of six
            harmless changes through, and the next proposal is judged against it.
        missed: more known defects missed than before, as a share; one of 50 is within what rendering varies.
        agreement: at least; below, the proposal has become another model.
        share: most that the share of parts called defective may rise above the frozen model's. Fewer false
            rejects are what is wanted, so there is no limit downwards: `missed` and `dead` watch that side.
        distance: of the LayerNorms; gains were found at 0.05 to 0.16.
        explained: at least; below, the known parts are not shown as pictures really are, and prove nothing.
    """

    least_gain: float = 0.003
    sureness: float = 1.0
    missed: float = 0.025
    agreement: float = 0.6
    share: float = 0.05
    distance: float = 0.35
    explained: float = 0.3


@dataclass(frozen=True, slots=True)
class Ruling:
    """What the guard says.

    Attributes:
        keep: whether the proposal may answer.
        rule: the first one that decided.
    """

    keep: bool
    rule: Rule


def judge(evidence: Evidence, limits: GateLimits) -> Ruling:
    """Return whether a proposal may answer, and why not. What is not a number refuses."""
    if not evidence.finite or not all(math.isfinite(value) for value in evidence.numbers().values()):
        return Ruling(False, "not_finite")
    refusals: tuple[tuple[bool, Rule], ...] = (
        (evidence.explained < limits.explained, "unexplained"),
        (evidence.distance > limits.distance, "too_far"),
        (evidence.dead > 0, "dead_class"),
        (evidence.missed > evidence.missed_before + limits.missed, "more_missed"),
        (evidence.agreement < limits.agreement, "disagrees"),
        (evidence.share > evidence.share_frozen + limits.share, "class_share"),
        (evidence.gain < -limits.sureness * evidence.gain_error, "worse"),
        (evidence.gain < max(limits.least_gain, limits.sureness * evidence.gain_error), "no_gain"),
    )
    for refused, rule in refusals:
        if refused:
            return Ruling(False, rule)
    return Ruling(True, "kept")
