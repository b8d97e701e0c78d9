"""From scores to a verdict: pure functions, no clock, no file, no network."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Literal

from agent.config.recipes import UNKNOWN, Recipe, Votes
from agent.domain.claim import Claim
from agent.domain.comparison import Box, Comparison, DifferenceMap
from agent.domain.part_pictures import PartPictures
from agent.domain.production import UNSAID, Production
from camera.core.frame import Quality, Receipt

Severity = Literal["minor", "major", "critical"]


class Outcome(StrEnum):
    """What the line is told about a part."""

    PASS = "pass"  # noqa: S105 - a verdict
    FAIL = "fail"
    UNSURE = "unsure"
    NOT_INSPECTED = "not_inspected"


CLASS = "class"
LOW_MARGIN = "low_margin"
VOTES = "votes"
NOT_FINITE = "not_finite"
ANOMALY = "anomaly"
NORMAL = "normal"
NO_REFERENCE = "no_reference"
RELOAD = "reload"
"""Reasons besides the faults of a picture (`camera.core.frame.Fault`); together they are a closed set."""

_ONE = 1 + 1e-6
"""The largest probability, with what rounding may add in float32."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What one picture says about a part.

    Attributes:
        reason: one of those above, or a `camera.core.frame.Fault`.
        label: the class that stands for the verdict, or ``unknown``; None when not inspected, and of a part
            that passes by a reference alone.
        severity: of a failing class or of what differs from the reference, else None.
        score: probability of `label`, 0..1; None where the label is none of the classes.
        margin: distance of the summed probability of all failing classes from the threshold, 0..1.
        scores: probability per class, in the recipe's order, summing to 1.
    """

    verdict: Outcome
    reason: str
    label: str | None = None
    severity: Severity | None = None
    score: float | None = None
    margin: float | None = None
    scores: Mapping[str, float] | None = None


@dataclass(frozen=True, slots=True)
class Provenance:
    """Everything that made a verdict, so that it can be made again.

    Attributes:
        adapter: number of the version that answered; 0 is the model as it was trained.
        offset: its operating point on the log-odds of a defect.
        commissioning: digest of the station's; None where there is none that fits.
        claim: what it promises of good parts; None where it does not say.
    """

    model: str
    weights: str
    adapter: int
    adapter_digest: str
    recipe: str
    config: str
    version: str
    offset: float = 0.0
    commissioning: str | None = None
    claim: Claim | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """A decision with its part, its times and its provenance; the store adds the sequence number.

    Attributes:
        trigger: id of the trigger that asked for it, or None.
        frame: number of its frame since the start, among those of the product in force, by which the
            station's learner knows it; 0 without one, and of another product.
        view: how its region became the model's square: fit, fill or crop; None without a picture.
        tile: the box that decided; None where the whole view was judged at once.
        compared: what the station's reference says of the part; None where none was asked.
        difference: of each place of the picture, for whoever draws it; no part of what the verdict says.
        part: where the agent finds the parts itself: which one it is, and what its pictures said.
        production: what was being made when it was decided.
        receipt: of the capture, for whoever stores the verdict; no part of what it says.
    """

    event_id: str
    agent: str
    station: str
    captured_at: datetime
    decided_at: datetime
    part_id: str | None
    recipe: str
    decision: Decision
    source: Decision | None
    provenance: Provenance
    quality: Quality
    wait_ms: float
    infer_ms: float
    trigger: str | None = None
    frame: int = 0
    view: str | None = None
    tile: Box | None = None
    compared: Comparison | None = None
    production: Production = UNSAID
    difference: DifferenceMap | None = field(default=None, compare=False, repr=False)
    part: PartPictures | None = None
    receipt: Receipt | None = field(default=None, compare=False, repr=False)


def decide(
    scores: Sequence[float] | None, quality: Quality, recipe: Recipe, compared: Comparison | None = None
) -> Decision:
    """Judge one picture, by words, by a reference, or by both: either may fail a part.

    ========== ==================== ============================
    words say  the reference: alike the reference: it differs
    ========== ==================== ============================
    pass       pass, ``class``      fail, ``anomaly``, `UNKNOWN`
    fail       fail, ``class``      fail, ``class``
    unsure     unsure, `LOW_MARGIN` fail, ``anomaly``, `UNKNOWN`
    (none)     pass, ``normal``     fail, ``anomaly``, `UNKNOWN`
    ========== ==================== ============================

    So where both know, the class's name comes from the words; a new kind of defect is forced into none.
    Where either says what is no number, the part is not inspected. Words judge alone where the recipe's
    reference could not be asked; where there are no words either, the part is not inspected.

    Args:
        scores: probability per class in the recipe's order; None where `quality.fault` is set, or the recipe
            has no words.
        quality: a picture with a fault is not inspected, whatever its scores.
        recipe: classes, threshold, margin, and how severe it is to differ from the reference.
        compared: what the reference says; None where it could not be asked, or the recipe has none.
    """
    if quality.fault is not None:
        return Decision(Outcome.NOT_INSPECTED, str(quality.fault))
    words = by_words(scores, recipe) if recipe.has_words else None
    if recipe.reference is None or compared is None:
        return words or Decision(Outcome.NOT_INSPECTED, NO_REFERENCE)
    if not compared.finite:
        return Decision(Outcome.NOT_INSPECTED, NOT_FINITE)
    if not compared.differs:
        return words or Decision(Outcome.PASS, NORMAL)
    if words is not None and words.verdict in (Outcome.FAIL, Outcome.NOT_INSPECTED):
        return words
    said = words or Decision(Outcome.FAIL, ANOMALY)
    severity = recipe.reference.severity
    return replace(said, verdict=Outcome.FAIL, reason=ANOMALY, label=UNKNOWN, severity=severity, score=None)


def by_words(scores: Sequence[float] | None, recipe: Recipe) -> Decision:
    """Judge one picture by what the model makes of the recipe's words.

    A part fails when the summed probability of the recipe's failing classes reaches `threshold`, and is
    unsure when that sum is within `abstain_margin` of it. The sum is the operating point of ok against
    defect: two kinds of defect that share the probability do not hide each other.

    What is no probability says nothing about a part, and every comparison with NaN is false: such a picture
    is not inspected.

    Args:
        scores: probability per class in the recipe's order; None: nothing was said.
        recipe: classes, threshold and margin.
    """
    if scores is None:
        return Decision(Outcome.NOT_INSPECTED, NOT_FINITE)
    by_label = dict(zip(recipe.classes, (float(score) for score in scores), strict=True))
    limits = recipe.threshold, recipe.abstain_margin
    if not all(0 <= score <= _ONE for score in by_label.values()) or not all(map(math.isfinite, limits)):
        return Decision(Outcome.NOT_INSPECTED, NOT_FINITE)
    failing = {label: score for label, score in by_label.items() if recipe.classes[label].verdict == "fail"}
    passing = {label: score for label, score in by_label.items() if label not in failing}
    p_fail = min(sum(failing.values()), 1.0)
    margin = abs(p_fail - recipe.threshold)
    if failing and passing and margin < recipe.abstain_margin:
        label = max(by_label, key=by_label.__getitem__)
        return Decision(Outcome.UNSURE, LOW_MARGIN, label, None, by_label[label], margin, by_label)
    fails = p_fail >= recipe.threshold if passing else True
    side = failing if fails else passing
    label = max(side, key=side.__getitem__)
    return Decision(
        Outcome.FAIL if fails else Outcome.PASS,
        CLASS,
        label,
        recipe.classes[label].severity if fails else None,
        by_label[label],
        margin,
        by_label,
    )


def vote(history: Sequence[Decision], votes: Votes) -> Decision:
    """Let the last `votes.n` pictures of a part decide together: `votes.k` equal verdicts carry it.

    Args:
        history: decisions of one station, oldest first, the newest included; at least one.

    Returns:
        The newest decision with the verdict that was voted. Without `k` equal verdicts it is unsure.
        A picture that was not inspected neither votes nor is outvoted.
    """
    newest = history[-1]
    if newest.verdict is Outcome.NOT_INSPECTED:
        return newest
    window = history[-votes.n :]
    counts = Counter(d.verdict for d in window if d.verdict in (Outcome.PASS, Outcome.FAIL))
    carried = next((v for v in (Outcome.FAIL, Outcome.PASS) if counts[v] >= votes.k), Outcome.UNSURE)
    if carried is newest.verdict:
        return newest
    voice = next((d for d in reversed(window) if d.verdict is carried), None)
    if voice is None:
        return replace(newest, verdict=carried, reason=VOTES, severity=None)
    label = voice.label
    score = newest.scores.get(label) if newest.scores and label else voice.score
    return replace(newest, verdict=carried, reason=VOTES, label=label, severity=voice.severity, score=score)
