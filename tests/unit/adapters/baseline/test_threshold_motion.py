"""A threshold rests where it does no harm, moves to the middle where it does, and never too far an hour."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.baseline.threshold import Band, band, separate
from adapters.baseline.threshold_motion import HOUR_S, ThresholdHistory, begins, settle, words
from tests.support.line_site import FEW

NATS = st.floats(-40, 40)
SIZES = st.floats(0, 20)


def between(low: float, gap: float) -> Band:
    return Band(low, low + gap, low + gap / 2)


@FEW
@given(NATS, SIZES, NATS, SIZES, st.floats(0, 100), NATS)
def test_who_has_moved_rests(
    low: float, gap: float, present: float, least: float, left: float, followed: float
) -> None:
    """The same pictures again move nothing, unless the hour's limit cut the first move short."""
    first = settle(present, between(low, gap), least, left, followed)
    again = settle(first.offset, between(low, gap), least, math.inf)
    assert first.why == "limited" or again.why == "rests"
    assert first.counted <= left + 1e-9
    assert abs(first.offset - present) <= first.counted + abs(followed) + 1e-9
    assert first.why != "rests" or (first.offset, first.counted) == (present, 0.0)


def test_good_parts_that_moved_take_it_along_and_nothing_counts() -> None:
    """A lens that gets dirty moves the scores of all parts; against them there is no more than the limit."""
    along = settle(0.0, between(9.0, 0.0), 0.75, 2.0, followed=8.0)
    assert (along.offset, along.why, along.counted) == (9.0, "moves", 1.0)
    against = settle(0.0, between(-9.0, 0.0), 0.75, 2.0, followed=8.0)
    assert (against.offset, against.why, against.counted) == (-2.0, "limited", 2.0)
    beyond = settle(0.0, between(19.0, 0.0), 0.75, 2.0, followed=8.0)
    assert (beyond.offset, beyond.why, beyond.counted) == (10.0, "limited", 2.0)


@FEW
@given(NATS, SIZES, NATS, SIZES)
def test_a_move_is_towards_the_middle_and_worth_it(
    low: float, gap: float, present: float, least: float
) -> None:
    step = settle(present, between(low, gap), least, 3.0)
    if step.offset != present:
        assert abs(step.offset - present) >= least
        assert abs(step.offset - step.wanted) < abs(present - step.wanted)


def test_a_wide_gap_whose_middle_jumps_moves_nothing() -> None:
    """One hard defect more or less shifts the middle by nats; the threshold lies well inside either way."""
    offset, good = 0.0, np.random.default_rng(0).normal(-9, 0.5, 80).astype(np.float32)
    for hardest in (6.0, 11.0, 5.0, 12.0):
        bad = np.array([hardest, 12, 12.5, 13, 13.5, 14], np.float32)
        step = settle(offset, band(good, bad), 0.75, 6.0)
        assert (step.offset, step.why) == (0.0, "rests")


@FEW
@given(st.lists(st.tuples(st.floats(0, 7200), NATS), max_size=60), st.floats(0.1, 20))
def test_no_hour_holds_more_than_its_limit(wishes: list[tuple[float, float]], per_hour: float) -> None:
    history, present = ThresholdHistory(), 0.0
    moved: list[tuple[float, float]] = []
    for at_s, wanted in sorted(wishes):
        step = settle(present, between(wanted, 0.0), 0.0, history.left(at_s, per_hour))
        moved.append((at_s, abs(step.offset - present)))
        history = history.moved(at_s, step.counted)
        present = step.offset
    for at_s, _ in moved:
        within = sum(size for then, size in moved if then <= at_s and at_s - then < HOUR_S)
        assert within <= per_hour + 1e-6


def test_an_hour_later_it_may_move_again() -> None:
    history = ThresholdHistory().moved(0.0, -6.0)
    assert history.left(10.0, 6.0) == 0
    assert history.left(HOUR_S, 6.0) == 6
    assert history.moved(HOUR_S, 1.0).moves == ((HOUR_S, 1.0),)


def test_each_step_says_why() -> None:
    far = between(10.0, 0.0)
    assert words(settle(0.0, far, 0.75, 4.0), 0.0, 6.0) == (
        "the threshold follows the pictures from 0.00 to 4.00, not to 10.00:"
        " beyond good parts at most 6 nats an hour"
    )
    assert "to 10.00, as samples look now" in words(settle(0.0, far, 0.75, 99), 0.0, 6.0)
    assert "rests at 0.00" in words(settle(0.0, between(-5.0, 10.0), 0.75, 6.0), 0.0, 6.0)
    assert words(begins(4.5), 1.0, 6.0) == "its threshold is 4.50, that of the adapter before was 1.00"


@FEW
@given(st.integers(0, 10**6), st.floats(-5, 5))
def test_the_middle_of_the_band_is_where_scores_are_told_apart_best(seed: int, shift: float) -> None:
    rng = np.random.default_rng(seed)
    good, bad = rng.normal(-4, 1, 60).astype(np.float32), rng.normal(4 + shift, 1, 12).astype(np.float32)
    among = band(good, bad)
    assert among.low <= among.middle <= among.high
    assert among.middle == separate(good, bad)


def test_without_defects_it_goes_up_only_as_far_as_good_parts_need_it() -> None:
    """Higher scores that it still lets pass move nothing: the room above is where defects are missed."""
    good = np.linspace(-8, -4, 101, dtype=np.float32)

    def shifted(by: float) -> float:
        return settle(2.0, Band.over(good + np.float32(by), -6.0 + by, 8.0, 2.0), 0.75, 99.0).offset

    assert shifted(0.0) == shifted(3.0) == shifted(5.0) == 2.0
    assert shifted(9.0) == pytest.approx(np.quantile(good, 0.95) + 9, abs=1e-4)
    assert shifted(-3.0) == pytest.approx(-1.0)


@FEW
@given(st.lists(NATS, min_size=1, max_size=40), NATS, st.floats(0, 20), NATS)
def test_without_defects_it_never_lies_further_over_good_parts_than_at_commissioning(
    good: list[float], usual: float, margin: float, commissioned: float
) -> None:
    among = Band.over(np.array(good, np.float32), usual, margin, commissioned)
    assert among.middle <= usual + margin
    assert among.low <= among.middle <= among.high
