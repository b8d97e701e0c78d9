"""The operating point lies where known parts are told apart, follows their scores, and never too far."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from adapters.baseline.threshold import separate, soft_error, tracked
from tests.support.line_site import FEW, UNHURRIED

SCORES = arrays.arrays(np.float64, st.integers(3, 40), elements=st.integers(-640, 640).map(lambda n: n / 64))


def normal(count: int, mean: float, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(mean, 1, count).astype(np.float32)


@FEW
@given(SCORES, SCORES)
def test_scores_that_can_be_told_apart_are(good: np.ndarray, bad: np.ndarray) -> None:
    """Where a gap as wide as the scores' own spread is between them, no known part is on the wrong side."""
    gap = max(1.0, float(good.std() + bad.std()))
    bad = bad - bad.min() + good.max() + gap
    offset = separate(good, bad)
    assert (good < offset).all()
    assert (bad >= offset).all()


@FEW
@given(st.integers(0, 10**6), st.integers(-40, 40))
def test_scores_that_all_move_take_the_operating_point_along(seed: int, shift: int) -> None:
    """A worse picture moves all scores; what is told apart stays the same, to the step of the search."""
    good, bad = normal(60, -2, seed), normal(20, 2, seed + 1)
    before = separate(good, bad)
    after = separate(good + np.float32(shift), bad + np.float32(shift))
    step = float(np.ptp(np.concatenate([good, bad])) + 2) / 399
    assert after - shift == pytest.approx(before, abs=1.01 * step)


@pytest.mark.parametrize("factor", [0.1, 10.0])
def test_scores_that_spread_take_the_operating_point_along(factor: float) -> None:
    """Of two equal clouds it is the middle, however wide they are."""
    good, bad = normal(400, 0, 1), normal(400, 0, 1)
    assert separate(factor * (good - 3), factor * (bad + 3)) == pytest.approx(0, abs=0.6 * factor)


@pytest.mark.parametrize("allowed", [0.01, 0.05, 0.2])
@pytest.mark.parametrize("seed", range(5))
def test_no_more_good_parts_are_rejected_than_allowed(allowed: float, seed: int) -> None:
    """Where clouds overlap, defects are let through rather than too many good parts rejected.

    The share is smoothed, so a part beside the offset may lie on either side of it: one part of slack.
    """
    good, bad = normal(200, 0, seed), normal(40, 1.5, seed + 100)
    offset = separate(good, bad, allowed)
    assert (good >= offset).mean() <= allowed + 1 / len(good)
    free = separate(good, bad)
    assert offset >= free - 1e-9
    if (good >= free).mean() <= allowed / 2:
        assert offset == free


def test_the_share_of_defects_has_no_say() -> None:
    """Ten times as many known defects of the same kind move nothing: a bad day is no change of light."""
    good, bad = normal(100, -2, 0), normal(30, 2, 1)
    assert separate(good, np.tile(bad, 10)) == pytest.approx(separate(good, bad), abs=0.3)


def test_a_few_known_parts_will_do_and_none_will_not() -> None:
    """One of each is told apart; without one side there is nothing to tell."""
    one, other = np.array([-1.0], np.float32), np.array([3.0], np.float32)
    assert -1 < separate(one, other) < 3
    none = np.empty(0, np.float32)
    for good, bad in ((one, none), (none, one)):
        with pytest.raises(ValueError, match="good parts and of defective"):
            separate(good, bad)


@UNHURRIED
@given(st.floats(-100, 100), st.floats(-100, 100), st.floats(0, 20))
def test_tracking_never_leaves_its_bound_and_says_when_it_wanted_to(
    wanted: float, commissioned: float, bound: float
) -> None:
    point = tracked(wanted, commissioned, bound)
    assert abs(point.offset - commissioned) <= bound + 1e-9
    assert point.at_bound == (abs(wanted - commissioned) > bound)
    if not point.at_bound:
        assert point.offset == pytest.approx(wanted, abs=1e-9)
    else:
        assert abs(point.offset - commissioned) == pytest.approx(bound, abs=1e-9)
        assert (point.offset - commissioned) * (wanted - commissioned) >= 0


@UNHURRIED
@given(SCORES, st.floats(-10, 10), st.floats(0.01, 5))
def test_the_soft_error_falls_as_a_score_gets_righter(scores: np.ndarray, offset: float, more: float) -> None:
    """0.5 at the offset, towards 0 on the right side, towards 1 on the wrong one; never outside."""
    bad, good = np.ones(len(scores), bool), np.zeros(len(scores), bool)
    for fails, sign in ((bad, 1), (good, -1)):
        errors = soft_error(scores, fails, offset)
        assert ((errors >= 0) & (errors <= 1)).all()
        assert (soft_error(scores + sign * more, fails, offset) <= errors).all()
        right = scores >= offset if sign == 1 else scores < offset
        assert (errors[right] <= 0.5).all()
        assert (errors[~right] >= 0.5).all()
    assert soft_error(np.array([offset]), good[:1], offset) == pytest.approx(0.5)
    far = soft_error(np.array([-1e6, 1e6]), np.array([True, True]), 0.0)
    assert far == pytest.approx([1, 0], abs=1e-6)
