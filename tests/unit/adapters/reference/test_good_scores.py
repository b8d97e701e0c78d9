"""Which good samples are held out, and the threshold and the claim that follow."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from adapters.baseline.claims import bound
from adapters.reference.good_scores import (
    LEAST_HELD_OUT,
    LEAST_IN_MEMORY,
    MOST_IN_MEMORY,
    MOST_LEFT_OUT,
    OF_ONE,
    held_out_threshold,
    leave_one_out_threshold,
    split,
)
from tests.support.line_site import FEW


@FEW
@given(st.integers(1, 400), st.integers(0, 9))
def test_every_sample_is_in_the_memory_or_held_out(samples: int, seed: int) -> None:
    inside, outside = split(samples, seed)
    assert sorted([*inside, *outside]) == list(range(samples))
    if samples < LEAST_HELD_OUT + LEAST_IN_MEMORY:
        assert len(outside) == 0
    else:
        assert len(inside) >= LEAST_IN_MEMORY
        assert len(outside) >= max(LEAST_HELD_OUT, samples // 2)
        assert len(inside) <= MOST_IN_MEMORY


def test_thirty_nine_samples_are_the_first_that_claim() -> None:
    assert [len(split(n, 0)[1]) for n in (38, 39, 40, 58, 60, 100)] == [0, 29, 29, 29, 30, 50]


@FEW
@given(st.integers(29, 400), st.sampled_from([0.2, 0.1, 0.05, 0.01]), st.integers(0, 99))
def test_no_more_are_rejected_than_the_claim_says(count: int, share: float, seed: int) -> None:
    scores = np.random.default_rng(seed).random(count, dtype=np.float32)
    threshold, claim = held_out_threshold(scores, share)
    assert claim is not None
    assert int((scores > threshold).sum()) <= claim.rejected
    assert claim.false_rejects_at_most == bound(claim.rejected, count)
    assert claim.basis == "golden"
    assert claim.good_parts == count


@FEW
@given(st.integers(2, 38), st.integers(0, 99))
def test_the_threshold_by_leave_one_out_is_the_highest_score(count: int, seed: int) -> None:
    scores = np.random.default_rng(seed).random(count, dtype=np.float32) * 5
    assert leave_one_out_threshold(scores) == scores.max()


def test_one_odd_sample_does_not_make_the_station_blind() -> None:
    assert leave_one_out_threshold(np.array([2, 3, 2, 40], np.float32)) == MOST_LEFT_OUT


def test_one_sample_alone_has_a_threshold_of_its_own() -> None:
    assert leave_one_out_threshold(np.array([2], np.float32)) == OF_ONE
