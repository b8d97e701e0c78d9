"""The guard keeps a proposal only if everything that is known of it allows that."""

from __future__ import annotations

import math
from dataclasses import fields, replace
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.gate.promotion_gate import HARMFUL, Evidence, GateLimits, Rule, judge
from tests.support.line_site import UNHURRIED

LIMITS = GateLimits()
GOOD = Evidence(
    gain=0.1, gain_error=0.01, source_error=0.2, error=0.1, missed=0.05, missed_before=0.1, dead=0,
    agreement=0.95, share=0.04, share_frozen=0.2, distance=0.1, explained=0.9,
)  # fmt: skip
NUMBERS = [field.name for field in fields(Evidence) if field.name != "finite"]

WORSE = {
    "gain": -1, "gain_error": 1, "source_error": -1, "error": 1, "missed": 1, "missed_before": -1, "dead": 1,
    "agreement": -1, "share": 1, "share_frozen": -1, "distance": 1, "explained": -1,
}  # fmt: skip
"""Sign of what speaks against a proposal."""

SHARE = st.floats(0, 1)
EVIDENCE = st.builds(
    Evidence,
    gain=st.floats(-0.2, 0.4),
    gain_error=st.floats(0, 0.1),
    source_error=SHARE,
    error=SHARE,
    missed=st.floats(0, 0.2),
    missed_before=st.floats(0, 0.2),
    dead=st.sampled_from([0, 0, 0, 1]),
    agreement=st.floats(0.5, 1),
    share=st.floats(0, 0.3),
    share_frozen=st.floats(0, 0.3),
    distance=st.floats(0, 0.5),
    explained=st.floats(-1, 1),
)

REACHED: dict[Rule, Evidence] = {
    "kept": GOOD,
    "not_finite": replace(GOOD, finite=False),
    "unexplained": replace(GOOD, explained=LIMITS.explained - 0.01),
    "too_far": replace(GOOD, distance=LIMITS.distance + 0.01),
    "dead_class": replace(GOOD, dead=1),
    "more_missed": replace(GOOD, missed=GOOD.missed_before + LIMITS.missed + 0.01),
    "disagrees": replace(GOOD, agreement=LIMITS.agreement - 0.01),
    "class_share": replace(GOOD, share=GOOD.share_frozen + LIMITS.share + 0.01),
    "worse": replace(GOOD, gain=-0.1),
    "no_gain": replace(GOOD, gain=0.0),
}


@pytest.mark.parametrize("rule", get_args(Rule))
def test_every_rule_can_decide(rule: Rule) -> None:
    """One thing wrong names itself; nothing wrong keeps the proposal."""
    ruling = judge(REACHED[rule], LIMITS)
    assert (ruling.rule, ruling.keep) == (rule, rule == "kept")


@pytest.mark.parametrize("name", [name for name in NUMBERS if name not in ("error", "source_error")])
def test_every_number_has_a_limit_beyond_which_nothing_is_kept(name: str) -> None:
    """Worsened step by step a good proposal is kept, then refused, and stays refused."""
    step = WORSE[name] * (1 if name == "dead" else 0.02)
    kept = [judge(replace(GOOD, **{name: getattr(GOOD, name) + n * step}), LIMITS).keep for n in range(100)]
    assert kept == sorted(kept, reverse=True)
    assert kept[0]
    assert not kept[-1]


@UNHURRIED
@given(st.one_of(EVIDENCE, st.just(GOOD)), st.sampled_from(NUMBERS), st.floats(0, 1), st.floats(0, 1))
def test_what_is_worse_is_never_kept_where_the_better_was_refused(
    evidence: Evidence, name: str, more: float, and_more: float
) -> None:
    """Monotone: worsening any number, a little or a lot, turns no refusal into a promotion."""
    kept = [judge(evidence, LIMITS).keep]
    for step in (more, and_more):
        by = WORSE[name] * (math.ceil(3 * step) if name == "dead" else step)
        evidence = replace(evidence, **{name: getattr(evidence, name) + by})
        kept.append(judge(evidence, LIMITS).keep)
    assert kept == sorted(kept, reverse=True)


@UNHURRIED
@given(st.sampled_from(NUMBERS), st.sampled_from([math.nan, math.inf, -math.inf]), EVIDENCE)
def test_what_is_not_a_number_refuses(name: str, value: float, evidence: Evidence) -> None:
    """A comparison with NaN is False, which must never read as no objection."""
    for one in (evidence, GOOD):
        ruling = judge(replace(one, **{name: value}), LIMITS)
        assert not ruling.keep
        assert ruling.rule == "not_finite"


@UNHURRIED
@given(EVIDENCE)
def test_no_kept_proposal_breaks_a_limit(evidence: Evidence) -> None:
    """What is kept gains more than chance gives, misses no more, agrees, stays near and is explained."""
    if not judge(evidence, LIMITS).keep:
        return
    assert evidence.gain >= LIMITS.least_gain > 0
    assert evidence.gain >= LIMITS.sureness * evidence.gain_error
    assert evidence.missed - evidence.missed_before <= LIMITS.missed + 1e-12
    assert evidence.agreement >= LIMITS.agreement
    assert evidence.share - evidence.share_frozen <= LIMITS.share + 1e-12
    assert evidence.distance <= LIMITS.distance
    assert evidence.explained >= LIMITS.explained
    assert evidence.dead == 0


def test_a_gain_that_chance_would_give_is_none() -> None:
    """The same gain counts where it is sure and not where the parts scatter."""
    assert judge(replace(GOOD, gain=0.02, gain_error=0.001), LIMITS).keep
    assert judge(replace(GOOD, gain=0.02, gain_error=0.2), LIMITS).rule == "no_gain"


def test_fewer_parts_called_defective_is_no_objection() -> None:
    """After a change of light most of what the frozen model rejects is good."""
    assert judge(replace(GOOD, share=0.0, share_frozen=0.6), LIMITS).keep


def test_no_gain_is_not_taken_for_harm() -> None:
    """Learning that is done makes proposals without gain; three of those must not trip the guard."""
    assert {"kept", "no_gain", "worse"}.isdisjoint(HARMFUL)
    assert set(get_args(Rule)) > HARMFUL


def test_all_of_the_evidence_is_in_the_audit_record() -> None:
    numbers = GOOD.numbers()
    assert set(numbers) == {field.name for field in fields(Evidence)}
    assert all(type(value) is float for value in numbers.values())
