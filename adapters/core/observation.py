"""What the frozen model has seen of one inspected picture: all that drift, buffer and guard look at."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from adapters.core.protocol import Floats, Preprocess

Bytes = NDArray[np.uint8]
Labelled = tuple[Floats, NDArray[np.int64]]
"""Preprocessed pictures ``(N, 3, S, S)`` and ``(N,)`` their classes."""


@dataclass(frozen=True, slots=True, eq=False)
class Observation:
    """One picture, and what the model as it was trained says about it.

    Attributes:
        number: of the frame at its station; grows, with gaps where pictures were not fit to be judged.
        at_s: when it was captured, in seconds of a clock that only goes forward.
        picture: ``(S, S, 3)`` uint8 RGB as the model's input shows it, masks burnt in.
        feature: ``(D,)`` unit-length.
        score: log-odds of a defect, see `log_odds`.
        label: index of the class it names.
        entropy: of its class probabilities, in nats.
    """

    number: int
    at_s: float
    picture: Bytes
    feature: Floats
    score: float
    label: int
    entropy: float

    @property
    def finite(self) -> bool:
        """Whether the model has said anything: its numbers are some."""
        return bool(math.isfinite(self.score + self.entropy) and np.isfinite(self.feature).all())


def log_odds(logits: Floats, fails: NDArray[np.bool_]) -> Floats:
    """Return ``(B,)`` log-odds that a part is defective: what a threshold on it is an offset to.

    The ranking of good against defective parts survives a worse picture better than any probability does,
    and a probability close to 1 cannot be told from 1 in float32.

    Args:
        logits: ``(B, C)``.
        fails: ``(C,)`` the classes of the recipe that fail; at least one does and one does not.
    """
    wide = logits.astype(np.float64)
    return np.asarray(_log_sum(wide[:, fails]) - _log_sum(wide[:, ~fails]), dtype=np.float32)


def as_bytes(pixels: Floats, spec: Preprocess) -> Bytes:
    """Return the ``(B, S, S, 3)`` uint8 pictures that were prepared into ``(B, 3, S, S)``: exactly those."""
    mean, std = _channels(spec)
    return np.asarray(np.rint((pixels * std + mean) * 255).clip(0, 255).transpose(0, 2, 3, 1), dtype=np.uint8)


def as_pixels(pictures: Bytes, spec: Preprocess) -> Floats:
    """Return the model's input ``(B, 3, S, S)`` for ``(B, S, S, 3)`` uint8 pictures of its size."""
    mean, std = _channels(spec)
    pixels = np.ascontiguousarray(pictures.transpose(0, 3, 1, 2), dtype=np.float32)
    # The same operations in the same order as camera.pictures.preprocess: equal to the last bit.
    pixels /= np.float32(255)
    pixels -= mean
    pixels /= std
    return pixels


def _channels(spec: Preprocess) -> tuple[Floats, Floats]:
    mean, std = (np.array(three, np.float32)[:, np.newaxis, np.newaxis] for three in (spec.mean, spec.std))
    return mean, std


def _log_sum(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    peak = logits.max(axis=1)
    return np.asarray(peak + np.log(np.exp(logits - peak[:, np.newaxis]).sum(axis=1)))
