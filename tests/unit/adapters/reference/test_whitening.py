"""Layers of features, whitened by how good parts vary."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from adapters.reference.whitening import divided, halved, whitened, whitenings
from tests.support.line_site import FEW


@FEW
@given(st.integers(0, 99), st.floats(0.01, 100))
def test_channels_that_vary_more_count_less(seed: int, unit: float) -> None:
    """Whitened, every direction varies about as much, and what each place has of its own is no variation."""
    random = np.random.default_rng(seed)
    place = random.normal(size=(1, 1, 8, 8, 5)) * 50
    good = (place + random.normal(size=(9, 1, 8, 8, 5)) * [1, 2, 1, 3, 1]).astype(np.float32)
    by = whitenings(good * np.float32(unit), (2, 3))
    each = whitened((good - good.mean(axis=0)) * np.float32(unit), by)
    for layer in each:
        deviation = layer.reshape(-1, layer.shape[-1]).std(axis=0)
        assert 0.6 < deviation.min() <= deviation.max() < 1.1


@FEW
@given(st.integers(1, 4), st.integers(1, 4))
def test_layers_come_back_in_order(first: int, second: int) -> None:
    features = np.arange(first + second, dtype=np.float32)[None]
    one, two = divided(features, (first, second))
    assert one.tolist() == [list(range(first))]
    assert two.tolist() == [list(range(first, first + second))]


def test_a_half_grid_has_means_of_four_places() -> None:
    grid = np.arange(20, dtype=np.float32).reshape(1, 4, 5, 1)
    assert halved(grid)[0, ..., 0].tolist() == [[3, 5], [13, 15]]
