"""Score, tile and box of a part's distance maps."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.core.protocol import Floats
from adapters.reference.anomaly import Anomaly, box_of, top_mean
from tests.support.line_site import FEW


def maps_of(seed: int, tiles: int = 1, h: int = 9, w: int = 7) -> Floats:
    return np.random.default_rng(seed).random((tiles, h, w), dtype=np.float32)


@FEW
@given(st.integers(0, 99), st.floats(0.001, 1))
def test_the_score_is_the_mean_of_the_highest_share(seed: int, share: float) -> None:
    maps = maps_of(seed, 3)
    most = max(1, int(63 * share))
    wanted = np.sort(maps.reshape(3, -1), axis=1)[:, -most:].mean(axis=1)
    np.testing.assert_allclose(top_mean(maps, share), wanted, rtol=1e-5)


@FEW
@given(st.integers(0, 99), st.integers(0, 3))
def test_the_tile_that_differs_most_decides(seed: int, tile: int) -> None:
    maps = maps_of(seed, 4)
    found = Anomaly.of(maps, np.where(np.arange(4) == tile, 5, 1).astype(np.float32))
    assert found.tile == tile
    assert found.score == 5
    assert found.maps is maps


@FEW
@given(st.integers(0, 8), st.integers(0, 6), st.integers(1, 9), st.integers(1, 7))
def test_the_box_holds_the_place_that_stands_out(top: int, left: int, high: int, wide: int) -> None:
    """Only what hangs together with the peak: another place that stands out less is not in it."""
    flat = np.zeros((9, 7), np.float32)
    bottom, right = min(9, top + high), min(7, left + wide)
    if (bottom - top) * (right - left) > 31:
        return  # more than half of the picture: then the rest stands out
    flat[top:bottom, left:right] = 4
    flat[top, left] = 5
    assert box_of(flat) == pytest.approx((left / 7, top / 9, right / 7, bottom / 9))


def test_a_second_place_is_not_in_the_box() -> None:
    two = np.zeros((10, 10), np.float32)
    two[1, 1], two[8:, 8:] = 5, 4
    assert box_of(two) == pytest.approx((0.1, 0.1, 0.2, 0.2))
    two[2, 2] = 4  # hangs together by its corner
    assert box_of(two) == pytest.approx((0.1, 0.1, 0.3, 0.3))


def test_nothing_stands_out_of_a_flat_map() -> None:
    assert box_of(np.full((4, 4), 3, np.float32)) is None
    assert Anomaly.of(np.zeros((1, 4, 4), np.float32), np.ones(1, np.float32)).box is None
