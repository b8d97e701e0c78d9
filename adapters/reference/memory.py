"""A memory of patch features: a greedy coreset, and how far a patch is from the nearest one in it. Pure."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from adapters.core.protocol import Floats


def coreset(features: Floats, most: int, seed: int = 0) -> NDArray[np.int64]:
    """Return which of ``(P, D)`` features to keep, at most `most`: each the farthest from those before it.

    Greedy minimax selection as in PatchCore (Roth et al., Towards Total Recall in Industrial Anomaly
    Detection, CVPR 2022, https://arxiv.org/abs/2106.08265), from a first one drawn by `seed`. What is there
    twice is kept once, so fewer may come back.
    """
    if len(features) <= most:
        return np.arange(len(features))
    squares = np.einsum("pd,pd->p", features, features)
    row = int(np.random.default_rng(seed).integers(len(features)))
    rows, near = [row], np.full(len(features), np.inf, np.float32)
    while len(rows) < most:
        last = features[row]
        near = np.minimum(near, squares - 2 * (features @ last) + float(last @ last))
        near[row] = 0
        row = int(near.argmax())
        if not near[row] > 0:
            break
        rows.append(row)
    return np.array(rows)


def nearest(features: Floats, memory: Floats) -> Floats:
    """Return ``(P,)`` distance of ``(P, D)`` features to the nearest of ``(M, D)``."""
    found: Floats = np.sqrt(squared(features, memory).min(axis=1))
    return found


def squared(features: Floats, memory: Floats) -> Floats:
    """Return ``(P, M)`` squared distances of ``(P, D)`` features to ``(M, D)``, 0 or more."""
    found: Floats = features @ (-2 * memory.T)
    found += np.einsum("pd,pd->p", features, features)[:, None]
    found += np.einsum("md,md->m", memory, memory)
    np.maximum(found, 0, out=found)
    return found
