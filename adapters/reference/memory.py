"""A memory of patch features: a greedy coreset, and how far a patch is from the nearest one in it. Pure."""

from __future__ import annotations

import numpy as np

from adapters.core.protocol import Floats

MOST = 1500
"""Patches in a memory at most."""


def coreset(features: Floats, most: int = MOST, seed: int = 0) -> Floats:
    """Return at most `most` of ``(P, D)`` features: each the one farthest from those chosen before it.

    Greedy minimax selection as in PatchCore (Roth et al., CVPR 2022), from a first one drawn by `seed`.
    """
    if len(features) <= most:
        return features
    squares = np.einsum("pd,pd->p", features, features)
    row = int(np.random.default_rng(seed).integers(len(features)))
    rows, near = [row], np.full(len(features), np.inf, np.float32)
    while len(rows) < most:
        last = features[rows[-1]]
        near = np.minimum(near, squares - 2 * (features @ last) + float(last @ last))
        rows.append(int(near.argmax()))
    return features[rows]


def nearest(features: Floats, memory: Floats) -> Floats:
    """Return ``(P,)`` distance of ``(P, D)`` features to the nearest of ``(M, D)``."""
    squares = np.einsum("pd,pd->p", features, features)[:, None] - 2 * (features @ memory.T)
    squares += np.einsum("md,md->m", memory, memory)
    return np.asarray(np.sqrt(np.maximum(squares.min(axis=1), 0)), dtype=np.float32)
