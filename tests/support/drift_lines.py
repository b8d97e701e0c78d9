"""Lines of frames with and without drift."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from adapters.core.observation import Observation

DIM = 32

SIDE = 12

CLASSES = 5

COMMISSIONING = 2000

AXES = np.linalg.qr(np.random.default_rng(0).standard_normal((DIM, DIM)))[0]


def line(
    frames: int,
    seed: int,
    *,
    defects: float = 0.03,
    bursts: float = 0.02,
    lamp: NDArray[np.float64] | float = 0.0,
    memory: float = 0.95,
) -> Iterator[Observation]:
    """Frames of a line whose parts, scores and light wander together (an AR(1) of weight `memory`).

    `lamp` is what the lamp has lost: each 1 takes a tenth of the light, and scores and features with it.
    """
    rng = np.random.default_rng(seed)
    lost = np.broadcast_to(lamp, frames)
    wander, burst = rng.standard_normal(), 0
    for number in range(frames):
        wander = memory * wander + math.sqrt(1 - memory**2) * rng.standard_normal()
        if number % 25 == 0:
            burst = int(rng.integers(1, CLASSES)) if rng.random() < bursts else 0
        bad = rng.random() < (0.5 if burst else defects)
        label = (burst or int(rng.integers(1, CLASSES))) if bad else 0
        part = rng.standard_normal(DIM)
        feature = 10 * AXES[0] + 0.5 * part + 0.1 * wander * AXES[1] + 4 * bad * AXES[2 + label]
        feature = feature + 0.5 * lost[number] * AXES[7]
        light = 120 * (1 + 0.04 * part[0] + 0.004 * wander) * (1 - 0.1 * lost[number])
        picture = np.clip(light + 12 * rng.standard_normal((SIDE, SIDE, 3)), 0, 255).astype(np.uint8)
        score = (4 if bad else -4) + rng.standard_normal() + 0.3 * wander + 0.4 * lost[number]
        entropy = math.log1p(math.exp(-abs(score)))
        unit = (feature / np.linalg.norm(feature)).astype(np.float32)
        yield Observation(number, float(number), picture, unit, score, label, entropy)
