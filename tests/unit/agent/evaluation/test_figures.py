"""Figures against the truth: what they are, and intervals that hold as often as they say."""

from __future__ import annotations

import math

import numpy as np
import pytest

from agent.evaluation.figures import auroc, auroc_estimate, share_estimate


def test_auroc_is_the_share_of_pairs_in_order() -> None:
    """Counted out; equal scores count half."""
    rng = np.random.default_rng(0)
    good, bad = rng.integers(0, 6, 40).astype(float), rng.integers(2, 8, 25).astype(float)
    pairs = [1.0 if b > g else 0.5 if b == g else 0.0 for g in good for b in bad]
    assert auroc(good, bad)[0] == pytest.approx(np.mean(pairs), abs=1e-12)
    assert auroc(good, good)[0] == 0.5
    assert auroc(np.array([1.0]), np.array([2.0])) == (1.0, pytest.approx(math.nan, nan_ok=True))
    with pytest.raises(ValueError, match="good and bad"):
        auroc(np.zeros(0), bad)


def test_the_interval_of_auroc_holds_the_truth_about_as_often_as_it_says() -> None:
    """Normal scores one deviation apart: the true area is .760."""
    rng, held = np.random.default_rng(1), 0
    for _ in range(400):
        found = auroc(rng.normal(0, 1, 40), rng.normal(1, 1, 40))
        one = auroc_estimate([found], 40)
        held += one.low <= 0.7602 <= one.high
    assert 0.91 <= held / 400 <= 0.99


def test_all_in_order_is_no_certainty() -> None:
    """With 17 defects: as for 0 of 17."""
    one = auroc_estimate([auroc(np.zeros(24), np.ones(17))], 17)
    assert (one.value, one.high) == (1.0, 1.0)
    assert one.low == pytest.approx(0.025 ** (1 / 17), abs=1e-6)
    worst = auroc_estimate([auroc(np.ones(24), np.zeros(17))], 17)
    assert (worst.value, worst.low) == (0.0, 0.0)
    assert worst.high == pytest.approx(1 - one.low)


@pytest.mark.parametrize(
    ("wrong", "low", "high"),
    [(0, 0.0, 0.30850), (1, 0.00253, 0.44502), (5, 0.18709, 0.81291), (10, 0.6915, 1.0)],
)
def test_shares_of_one_draw_have_the_exact_interval(wrong: int, low: float, high: float) -> None:
    """Clopper and Pearson's for 10 parts, from a table."""
    one = share_estimate([wrong], 10)
    assert one.value == wrong / 10
    assert (one.low, one.high) == (pytest.approx(low, abs=1e-5), pytest.approx(high, abs=1e-5))


def test_draws_make_an_interval_no_narrower_than_the_pictures_do() -> None:
    several = share_estimate([1, 2, 1, 2, 1], 20)
    one, two = share_estimate([1], 20), share_estimate([2], 20)
    assert several.value == pytest.approx(0.07)
    assert (several.low, several.high) == (one.low, two.high)
