"""A memory of patches: what the coreset keeps, and distances to it."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from adapters.core.protocol import Floats
from adapters.reference.memory import coreset, nearest, squared
from tests.support.line_site import FEW


def drawn(seed: int, count: int, width: int = 6) -> Floats:
    return np.random.default_rng(seed).normal(size=(count, width)).astype(np.float32)


@FEW
@given(st.integers(0, 99), st.integers(1, 60), st.integers(1, 60))
def test_a_coreset_keeps_so_many_different_patches(seed: int, count: int, most: int) -> None:
    rows = coreset(drawn(seed, count), most, seed)
    assert len(rows) == len(set(rows.tolist())) == min(count, most)


@FEW
@given(st.integers(0, 99))
def test_each_patch_kept_is_the_farthest_from_those_before_it(seed: int) -> None:
    features = drawn(seed, 50)
    rows = coreset(features, 12, seed)
    for k in range(1, 12):
        far = nearest(features, features[rows[:k]])
        assert far[rows[k]] >= far.max() - 1e-3


def test_what_is_there_twice_is_kept_once() -> None:
    features = np.repeat(drawn(1, 5), 40, axis=0)
    assert len(coreset(features, 50)) == 5


@FEW
@given(st.integers(0, 99), st.integers(1, 20), st.integers(1, 20))
def test_distances_are_those_of_the_definition(seed: int, count: int, kept: int) -> None:
    features, memory = drawn(seed, count), drawn(seed + 100, kept)
    every = np.linalg.norm(features[:, None] - memory[None], axis=2)
    np.testing.assert_allclose(np.sqrt(squared(features, memory)), every, atol=1e-3)
    np.testing.assert_allclose(nearest(features, memory), every.min(axis=1), atol=1e-3)


def test_a_patch_of_the_memory_is_at_distance_nothing() -> None:
    features = drawn(3, 30) * 100
    assert nearest(features, features).max() < 0.2  # float32 squares of 600
