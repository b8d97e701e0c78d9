"""Where a part differs from good ones, and how much: one score, one place, a map. Pure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from adapters.core.protocol import Floats

Box = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True, eq=False)
class Anomaly:
    """What a reference says of one part.

    Attributes:
        score: how far it is from the good parts, 0 or more; above the threshold it fails.
        tile: which of the part's pictures decides, from 0.
        box: left, top, right, bottom of the place, in shares of that picture, 0..1; None where none
            stands out.
        maps: ``(T, h, w)`` float32, the score of each place.
    """

    score: float
    tile: int
    box: Box | None
    maps: Floats

    @classmethod
    def of(cls, maps: Floats, scores: Floats) -> Anomaly:
        """Return what ``(T, h, w)`` distances and ``(T,)`` scores say: the highest decides."""
        tile = int(scores.argmax())
        return cls(float(scores[tile]), tile, box_of(maps[tile]), maps)


def top_mean(maps: Floats, share: float) -> Floats:
    """Return ``(N,)`` mean of the highest share, at least one, of each of ``(N, h, w)``."""
    flat = maps.reshape(len(maps), -1)
    most = max(1, int(flat.shape[1] * share))
    highest = np.partition(flat, flat.shape[1] - most, axis=1)[:, -most:]
    return np.asarray(highest.mean(axis=1), dtype=np.float32)


def box_of(distances: Floats) -> Box | None:
    """Return the box around the peak of ``(h, w)``, in shares; None where the map is flat.

    It holds all places that hang together with the peak and lie above the middle between the median and it.
    """
    peak, middle = float(distances.max()), float(np.median(distances))
    if not peak > middle:
        return None
    above = distances >= (peak + middle) / 2
    place = _grown(np.unravel_index(int(distances.argmax()), distances.shape), above)
    rows, columns = np.flatnonzero(place.any(axis=1)), np.flatnonzero(place.any(axis=0))
    h, w = distances.shape
    return (
        float(columns[0] / w),
        float(rows[0] / h),
        float((columns[-1] + 1) / w),
        float((rows[-1] + 1) / h),
    )


def _grown(seed: tuple[np.intp, ...], above: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the part of `above` that hangs together with `seed`, corners included."""
    place = np.zeros_like(above)
    place[seed] = True
    while True:
        wide = np.pad(place, 1)
        wide = wide[:-2] | wide[1:-1] | wide[2:]
        grown = (wide[:, :-2] | wide[:, 1:-1] | wide[:, 2:]) & above
        if (grown == place).all():
            return place
        place = grown
