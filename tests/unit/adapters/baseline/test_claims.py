"""A bound of false rejects is exact, whatever the scores, and says how many parts it takes."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.baseline.claims import (
    CONFIDENCE,
    SHARES,
    FalseRejectClaim,
    allowed,
    bound,
    needed,
    tolerance_limit,
)
from tests.support.line_site import FEW


def at_most(rejected: int, count: int, share: float) -> float:
    """P(Bin(count, share) <= rejected), term by term."""
    return sum(math.comb(count, k) * share**k * (1 - share) ** (count - k) for k in range(rejected + 1))


def test_the_numbers_of_parts_that_people_are_told() -> None:
    assert [needed(share) for share in SHARES] == [29, 59, 149, 299, 598]
    for share in SHARES:
        assert bound(0, needed(share)) <= share < bound(0, needed(share) - 1)


@FEW
@given(st.integers(1, 400), st.data())
def test_the_bound_is_the_share_at_which_so_few_are_a_surprise(count: int, data: st.DataObject) -> None:
    rejected = data.draw(st.integers(0, count))
    found = bound(rejected, count)
    if rejected == count:
        assert found == 1
    else:
        assert rejected / count < found < 1
        assert at_most(rejected, count, found) == pytest.approx(1 - CONFIDENCE, abs=1e-6)


@FEW
@given(st.integers(1, 3000), st.floats(0.001, 0.5))
def test_as_many_are_allowed_as_the_share_holds_with(count: int, share: float) -> None:
    """One more would not hold; none at all is what is left where even none does not."""
    found = allowed(count, share)
    if bound(0, count) <= share:
        assert bound(found, count) <= share < bound(found + 1, count)
    else:
        assert found == 0


def test_no_parts_bound_nothing_and_odd_numbers_are_refused() -> None:
    assert bound(0, 0) == 1
    assert (allowed(0, 0.01), allowed(100, 0.0)) == (0, 0)
    for rejected, count in ((-1, 5), (6, 5)):
        with pytest.raises(ValueError, match="parts rejected"):
            bound(rejected, count)
    for share in (0.0, 1.0, math.nan):
        with pytest.raises(ValueError, match="no number of parts"):
            needed(share)
    for wrong in ({"false_rejects_at_most": math.nan}, {"good_parts": 0}, {"rejected": 9}, {"basis": "hope"}):
        facts = {"false_rejects_at_most": 0.1, "confidence": 0.95, "good_parts": 5, "rejected": 1}
        with pytest.raises(ValueError, match="no claim"):
            FalseRejectClaim.read({**facts, "basis": "golden", **wrong})


@FEW
@given(st.lists(st.floats(-50, 50, width=32), min_size=1, max_size=60), st.data())
def test_no_more_parts_reach_the_tolerance_limit_than_are_allowed(
    scores: list[float], data: st.DataObject
) -> None:
    """And nothing lower does it: at the order statistic itself one more is rejected."""
    given_scores = np.array(scores, np.float32)
    rejected = data.draw(st.integers(0, len(scores) - 1))
    limit = tolerance_limit(given_scores, rejected)
    assert (given_scores >= np.float32(limit)).sum() <= rejected
    below = np.nextafter(np.float32(limit), np.float32(-np.inf))
    assert (given_scores >= below).sum() > rejected


@pytest.mark.parametrize("parts", [60, 300, 1000])
def test_the_true_share_exceeds_the_bound_in_one_commissioning_of_twenty(parts: int) -> None:
    """4000 of them, each with its own threshold from the parts that the claim is of."""
    rng, normal = np.random.default_rng(parts), NormalDist()
    rejected = allowed(parts, 0.01)
    limits = [tolerance_limit(rng.normal(size=parts).astype(np.float32), rejected) for _ in range(4000)]
    exceeded = np.mean([1 - normal.cdf(limit) > bound(rejected, parts) for limit in limits])
    assert exceeded == pytest.approx(0.05, abs=4 * math.sqrt(0.05 * 0.95 / 4000))
