"""Labels prove harm and gain, at a false alarm rate that holds however often one looks."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from adapters.gate.label_test import LabelTest
from tests.support.line_site import UNHURRIED

RUNS, LABELS = 2000, 2000

LABEL = st.tuples(st.booleans(), st.booleans(), st.booleans())


def told(test: LabelTest, defect: bool, *, right: bool) -> LabelTest:
    """A label on a disagreement: the answering adapter was right, or the frozen model was."""
    answer = defect if right else not defect
    return test.told(defect=defect, adapted_fails=answer, frozen_fails=not answer)


def coins(runs: LabelTest, defect: NDArray[np.bool_], right: NDArray[np.bool_]) -> LabelTest:
    """The next label of many runs at once, whose wealths are arrays: those that hear the same together."""
    harm, gain = np.array(runs.harm), np.array(runs.gain)
    for bad in (False, True):
        for hit in (False, True):
            rows = (defect == bad) & (right == hit)
            after = told(LabelTest(harm=tuple(harm[:, rows]), gain=tuple(gain[:, rows])), bad, right=hit)
            harm[:, rows], gain[:, rows] = after.harm, after.gain
    return LabelTest(harm=tuple(harm), gain=tuple(gain))


@UNHURRIED
@given(st.lists(LABEL, max_size=60), st.booleans())
def test_where_both_models_agree_a_label_changes_nothing(
    labels: list[tuple[bool, ...]], defect: bool
) -> None:
    """Only disagreements are evidence, and only they are counted."""
    test = LabelTest()
    for truth, adapted, frozen in labels:
        test = test.told(defect=truth, adapted_fails=adapted, frozen_fails=frozen)
    assert test.labels == sum(adapted != frozen for _, adapted, frozen in labels)
    for both in (False, True):
        assert test.told(defect=defect, adapted_fails=both, frozen_fails=both) == test


@UNHURRIED
@given(st.lists(st.tuples(st.booleans(), st.booleans()), max_size=80), st.booleans(), st.floats(0.01, 1.0))
def test_the_next_bet_is_fair_after_any_history_at_any_cost(
    history: list[tuple[bool, bool]], defect: bool, cost: float
) -> None:
    """What Ville's inequality asks for: wealth stays positive, and a coin leaves it as it is on average."""
    test = LabelTest(false_reject_cost=cost)
    for truth, right in history:
        test = told(test, truth, right=right)
    won, lost = told(test, defect, right=True), told(test, defect, right=False)
    for side in (0, 1):
        mean = (won.evidence[side] + lost.evidence[side]) / 2
        assert mean == pytest.approx(test.evidence[side], rel=1e-9)
    assert min(*won.harm, *won.gain, *lost.harm, *lost.gain) > 0
    assert won.evidence[1] > lost.evidence[1]
    assert won.evidence[0] < lost.evidence[0]


def test_an_adapter_that_is_no_worse_is_rarely_ever_called_harmful() -> None:
    """2000 runs of 2000 labels by a coin; which parts are labelled depends on the evidence so far.

    The share of runs that ever reach 1 / alpha is at most alpha, for every alpha at once; the bound is four
    standard deviations of a binomial above it. It is not idle: some runs do go far.
    """
    rng = np.random.default_rng(0)
    runs = LabelTest(
        harm=tuple(np.ones((len(LabelTest().harm), RUNS))),
        gain=tuple(np.ones((len(LabelTest().gain), RUNS))),
    )
    highest = np.ones(RUNS)
    for _ in range(LABELS):
        # Someone who wants to see harm: large stakes while far from it, small ones near it.
        defect = (runs.evidence[0] < 2.0) | (np.arange(RUNS) % 3 == 0)
        runs = coins(runs, defect, rng.random(RUNS) < 0.5)
        highest = np.maximum(highest, runs.evidence[0])
    for alpha in (0.5, 0.2, 0.1, 0.05, 0.01):
        often = (highest >= 1 / alpha).sum()
        assert often <= RUNS * alpha + 4 * math.sqrt(RUNS * alpha * (1 - alpha)), alpha
    assert highest.max() > 20


@pytest.mark.parametrize("wrong", [0.8, 1.0])
def test_an_adapter_that_misses_defects_is_proven_harmful_within_some_tens_of_labels(wrong: float) -> None:
    """It overlooks defects that the frozen model finds; proof takes no thousand labels."""
    needed = []
    for seed in range(50):
        rng, test = np.random.default_rng(seed), LabelTest()
        while test.verdict == "open" and test.labels < 500:
            test = told(test, defect=True, right=bool(rng.random() >= wrong))
        assert test.verdict == "harm"
        needed.append(test.labels)
    assert np.median(needed) <= 50
    assert np.quantile(needed, 0.9) <= 100


def test_an_adapter_that_finds_what_the_frozen_model_misses_is_proven_a_gain() -> None:
    """The same proof the other way round: what harms one gambler feeds the other."""
    test = LabelTest()
    for _ in range(30):
        test = told(test, defect=True, right=True)
    assert test.verdict == "gain"
    assert test.evidence[0] < 1e-2


def test_a_missed_defect_weighs_more_than_a_good_part_rejected() -> None:
    """By default five false rejects cost what one missed defect does: evidence grows accordingly slower."""
    missing, rejecting = (told(LabelTest(), defect, right=False).evidence[0] for defect in (True, False))
    assert missing > rejecting > 1
    balance = LabelTest(false_reject_cost=1.0)
    assert told(balance, True, right=False).evidence == told(balance, False, right=False).evidence


def test_a_test_is_a_value() -> None:
    """The test before a label is what it was: a refused label can be forgotten."""
    test = told(LabelTest(), True, right=False)
    before = test.evidence
    told(test, True, right=False)
    assert test.evidence == before
    assert told(test, True, right=True) == told(test, True, right=True)
