"""Statistics of good parts, and one score of them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.core.protocol import Floats
from adapters.reference.scale import Scale
from tests.support.line_site import FEW

GROUPS = (1, 3, 2)


def statistics(seed: int, parts: int, tiles: int = 2) -> Floats:
    return np.random.default_rng(seed).uniform(1, 2, size=(parts, tiles, 6)).astype(np.float32)


@FEW
@given(st.integers(0, 99), st.integers(2, 12), st.floats(0.01, 100))
def test_a_score_knows_no_unit(seed: int, parts: int, unit: float) -> None:
    good = statistics(seed, parts + 1)
    scores = Scale.of(good[1:]).scores(good[0], GROUPS)
    again = Scale.of(good[1:] * np.float32(unit)).scores(good[0] * np.float32(unit), GROUPS)
    np.testing.assert_allclose(scores, again, rtol=1e-2)


@FEW
@given(st.integers(0, 99), st.integers(0, 5))
def test_a_higher_statistic_never_scores_lower(seed: int, which: int) -> None:
    good = statistics(seed, 8)
    scale, higher = Scale.of(good[1:]), good[0].copy()
    higher[1, which] += 1
    before, after = scale.scores(good[0], GROUPS), scale.scores(higher, GROUPS)
    assert after[1] > before[1] > 0
    assert after[0] == before[0]


def test_left_out_scores_are_those_by_the_others() -> None:
    good = statistics(3, 5)
    found = Scale.leave_one_out(good, GROUPS)
    assert found[2] == pytest.approx(Scale.of(np.delete(good, 2, 0)).scores(good[2], GROUPS).max())


def test_one_odd_part_does_not_stretch_the_scale() -> None:
    good = statistics(4, 10)
    odd = np.concatenate([good, good[:1] + 50])
    plain, stretched = Scale.of(good), Scale.of(odd)
    assert (stretched.deviation < 2 * plain.deviation).all()
    assert (np.abs(stretched.mean - plain.mean) < 0.5).all()
