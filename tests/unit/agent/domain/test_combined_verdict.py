"""Words and a reference together: either may fail a part, and only words name a class."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest

from agent.config.recipes import Recipe, Votes
from agent.domain.comparison import Comparison
from agent.domain.verdict import Decision, Outcome, by_words, decide, vote
from camera.core.frame import Fault, Quality

WORDS = {
    "templates": ["a {}"],
    "abstain_margin": 0.1,
    "classes": {
        "good": {"verdict": "pass", "phrases": ["good part"]},
        "scratch": {"verdict": "fail", "severity": "minor", "phrases": ["scratched part"]},
    },
}
REFERENCE = {"reference": {"severity": "critical"}}
BOTH, ALONE, ONLY = (
    Recipe.model_validate_json(json.dumps(one)) for one in (WORDS | REFERENCE, REFERENCE, WORDS)
)
SCORES = {"pass": [0.9, 0.1], "fail": [0.2, 0.8], "unsure": [0.55, 0.45], "broken": [math.nan, 0.1]}
SEEN = Quality(100.0, 100.0)


def compared(score: float, threshold: float = 1.0) -> Comparison:
    return Comparison(score, threshold, (0.1, 0.2, 0.3, 0.4), "sha256:" + "1" * 64, 10)


ALIKE, DIFFERS, BROKEN = compared(0.5), compared(1.5), compared(math.nan)

TABLE = [
    ("pass", ALIKE, "pass", "class", "good", None),
    ("pass", DIFFERS, "fail", "anomaly", "unknown", "critical"),
    ("fail", ALIKE, "fail", "class", "scratch", "minor"),
    ("fail", DIFFERS, "fail", "class", "scratch", "minor"),
    ("unsure", ALIKE, "unsure", "low_margin", "good", None),
    ("unsure", DIFFERS, "fail", "anomaly", "unknown", "critical"),
    ("broken", ALIKE, "not_inspected", "not_finite", None, None),
    ("broken", DIFFERS, "not_inspected", "not_finite", None, None),
    ("pass", BROKEN, "not_inspected", "not_finite", None, None),
    ("fail", BROKEN, "not_inspected", "not_finite", None, None),
    ("unsure", BROKEN, "not_inspected", "not_finite", None, None),
    ("broken", BROKEN, "not_inspected", "not_finite", None, None),
    ("pass", None, "pass", "class", "good", None),
    ("fail", None, "fail", "class", "scratch", "minor"),
    ("unsure", None, "unsure", "low_margin", "good", None),
    ("broken", None, "not_inspected", "not_finite", None, None),
]


@pytest.mark.parametrize(("words", "beside", "verdict", "reason", "label", "severity"), TABLE)
def test_words_and_reference_decide_together(
    words: str, beside: Comparison | None, verdict: str, reason: str, label: str, severity: str
) -> None:
    """Every combination; what the words say of the classes stays beside the verdict."""
    said = decide(SCORES[words], SEEN, BOTH, beside)
    assert (said.verdict, said.reason, said.label, said.severity) == (verdict, reason, label, severity)
    if reason == "anomaly":
        assert said.score is None
        assert said.scores == by_words(SCORES[words], BOTH).scores
    if reason in ("class", "low_margin"):
        assert said == by_words(SCORES[words], BOTH)


@pytest.mark.parametrize(
    ("beside", "verdict", "reason", "label"),
    [
        (ALIKE, "pass", "normal", None),
        (DIFFERS, "fail", "anomaly", "unknown"),
        (compared(1.0), "pass", "normal", None),
        (BROKEN, "not_inspected", "not_finite", None),
        (compared(0.5, math.nan), "not_inspected", "not_finite", None),
        (compared(math.inf), "not_inspected", "not_finite", None),
        (None, "not_inspected", "no_reference", None),
    ],
)
def test_a_reference_alone_decides(
    beside: Comparison | None, verdict: str, reason: str, label: str | None
) -> None:
    """Above the threshold a part fails, at it it passes; without a reference nothing is passed silently."""
    said = decide(None, SEEN, ALONE, beside)
    assert (said.verdict, said.reason, said.label) == (verdict, reason, label)
    assert said.severity == ("critical" if verdict == "fail" else None)
    assert (said.score, said.margin, said.scores) == (None, None, None)


def test_words_alone_decide_as_they_always_did() -> None:
    """A comparison that no recipe asked for changes nothing."""
    for scores in SCORES.values():
        assert decide(scores, SEEN, ONLY, DIFFERS) == by_words(scores, ONLY)
    assert decide(None, SEEN, ONLY) == Decision(Outcome.NOT_INSPECTED, "not_finite")


@pytest.mark.parametrize("recipe", [BOTH, ALONE, ONLY])
def test_a_picture_with_a_fault_is_not_inspected_whatever_is_said(recipe: Recipe) -> None:
    blurred = replace(SEEN, fault=Fault.BLURRED)
    assert decide(SCORES["fail"], blurred, recipe, DIFFERS) == Decision(Outcome.NOT_INSPECTED, "blurred")


def test_votes_take_what_differs_for_the_fail_that_it_is() -> None:
    """The label that is none of the classes has no probability, and needs none."""
    votes = Votes(k=2, n=3)
    odd, good = decide(SCORES["pass"], SEEN, BOTH, DIFFERS), decide(SCORES["pass"], SEEN, BOTH, ALIKE)
    voted = vote([odd, odd, good], votes)
    assert (voted.verdict, voted.reason, voted.label, voted.severity, voted.score) == (
        Outcome.FAIL, "votes", "unknown", "critical", None,
    )  # fmt: skip
    assert vote([good, good, odd], votes).label == "good"
    alone = [decide(None, SEEN, ALONE, one) for one in (DIFFERS, DIFFERS, ALIKE)]
    assert (vote(alone, votes).verdict, vote(alone, votes).label) == (Outcome.FAIL, "unknown")
