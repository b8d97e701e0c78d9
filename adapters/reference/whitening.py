"""Layers of patch features, each whitened by how good parts vary. Pure.

Channels in which good parts hardly differ from one another count more than those in which they do: the
Mahalanobis distance of PaDiM (Defard et al., ICPR 2021 workshops, https://arxiv.org/abs/2011.08785), but with
one covariance for all places, which few samples suffice for.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from adapters.core.patches import PatchInfo
from adapters.core.protocol import Floats

SHRINKAGE = 0.1
"""Of the mean variance, added to each: a direction in which ten good parts do not vary may yet vary."""


def widths(info: PatchInfo) -> tuple[int, ...]:
    """Return how many channels each layer of a backbone's features has."""
    return info.layers or (info.channels,)


def whitenings(good: Floats, layers: Sequence[int]) -> list[Floats]:
    """Return for each layer the ``(D, D)`` that whitens it, from ``(K, T, h, w, D)`` good parts.

    Of K parts the covariance around the mean of each place, so that what differs from place to place in every
    part alike is no variation; of one part the covariance around the mean of its places.
    """
    count = len(good)
    if count > 1:
        varying = (good - good.mean(axis=0)) * np.float32(np.sqrt(count / (count - 1)))
    else:
        varying = good - good.mean(axis=(2, 3), keepdims=True)
    found = []
    for layer in divided(varying, layers):
        flat = layer.reshape(-1, layer.shape[-1])
        values, vectors = np.linalg.eigh((flat.T @ flat).astype(np.float64) / len(flat))
        floor = SHRINKAGE * values.mean() + np.finfo(np.float32).tiny
        found.append((vectors / np.sqrt(np.maximum(values, 0) + floor)).astype(np.float32))
    return found


def whitened(features: Floats, by: Sequence[Floats]) -> list[Floats]:
    """Return the layers of ``(..., D)`` features, each whitened."""
    layers = divided(features, [len(one) for one in by])
    return [layer @ one for layer, one in zip(layers, by, strict=True)]


def divided(features: Floats, layers: Sequence[int]) -> list[Floats]:
    """Return ``(..., D)`` features, layer by layer."""
    return np.split(features, np.cumsum(layers)[:-1], axis=-1)


def halved(features: Floats) -> Floats:
    """Return ``(..., h / 2, w / 2, D)``: mean of 2x2 places each, without an odd last row or column."""
    *front, h, w, d = features.shape
    even = features[..., : h // 2 * 2, : w // 2 * 2, :]
    found: Floats = even.reshape(*front, h // 2, 2, w // 2, 2, d).mean(axis=(-4, -2))
    return found
