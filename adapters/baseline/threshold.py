"""The operating point: where on the log-odds of a defect good parts end and defective ones begin.

A worse picture leaves the ranking of good against defective parts almost as it was and moves all scores, so a
threshold that was right at commissioning rejects good parts or lets defects through. Tracking it moves it to
where the known parts of commissioning, shown as the pictures are now, are told apart best. The share of
rejected parts has no say in it: a process that makes more defects does not move it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from adapters.core.protocol import Floats

_GRID = 400
REJECTED = 0.05
"""Share of good parts, as they look now, that may be rejected before it goes up where no defects are
known: less cannot be told from none with the fewest good parts that false rejects are seen with."""
ALIKE = 0.01
"""Shares of good parts rejected and defects missed, added up, that two offsets may differ by and be alike."""


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """An offset on the log-odds: a part fails when its score reaches it (at a recipe's threshold of 0.5).

    Attributes:
        offset: in nats.
        at_bound: tracking wanted to go further from the commissioned offset than it may.
    """

    offset: float
    at_bound: bool = False


@dataclass(frozen=True, slots=True)
class Band:
    """Offsets that tell good parts from defective ones as well as each other, to `ALIKE`, in nats.

    Attributes:
        low, high: where it ends.
        middle: the offset to go to; between them.
    """

    low: float
    high: float
    middle: float

    @classmethod
    def over(cls, good: Floats, usual: float, margin: float, commissioned: float) -> Band:
        """Return it where no defects are known that say how far up it may lie.

        Down it follows the good parts, keeping its margin over them. Up it goes only as far as false rejects
        of good parts are seen to need it: all that lies between is room in which defects are missed, and
        nobody sees that. Keeping the margin upwards too misses three times as many under noise
        (benchmarks/results/good_parts_only.md).

        Args:
            good: ``(G,)`` scores of good parts as they look now; at least one.
            usual: what good parts of the stream score.
            margin: from there up to the commissioned threshold, on the clean line, in nats.
            commissioned: threshold.
        """
        needed = float(np.quantile(good, 1 - REJECTED))
        middle = min(usual + margin, max(commissioned, needed))
        slack = abs(margin) / 4
        return cls(middle - slack, middle + slack, middle)


def separate(good: Floats, bad: Floats, false_rejects: float | None = None) -> float:
    """Return the middle of `band`, which says what the arguments are."""
    return band(good, bad, false_rejects).middle


def band(good: Floats, bad: Floats, false_rejects: float | None = None) -> Band:
    """Return the offsets that tell ``(G,)`` scores of good parts from ``(B,)`` of defective ones best.

    Best is the smallest sum of the shares of good parts rejected and of defects missed; both are smoothed as
    a kernel density is (Silverman's rule), because few known parts leave wide gaps, and of equally good
    offsets the one to go to is the middle one.

    Args:
        good: at least one.
        bad: at least one.
        false_rejects: if given, at most this share of the good parts may be rejected, where that is possible.

    Raises:
        ValueError: there are no good or no bad scores.
    """
    if not len(good) or not len(bad):
        raise ValueError("an operating point needs scores of good parts and of defective ones")
    low, high = (float(limit) for limit in (min(good.min(), bad.min()), max(good.max(), bad.max())))
    offsets = np.linspace(low - 1, high + 1, _GRID)
    rejected = _share_above(good, offsets)
    missed = 1 - _share_above(bad, offsets)
    cost = rejected + missed
    if false_rejects is not None and (rejected <= false_rejects).any():
        cost = np.where(rejected <= false_rejects, cost, np.inf)
    best = np.flatnonzero(cost <= cost.min() + 1e-3)
    middle = best[len(best) // 2]
    # Of such offsets that lie apart only those around the middle are one band.
    alike = np.flatnonzero(cost <= cost.min() + ALIKE)
    run = np.split(alike, np.flatnonzero(np.diff(alike) > 1) + 1)
    around = next(rows for rows in run if rows[0] <= middle <= rows[-1])
    return Band(float(offsets[around[0]]), float(offsets[around[-1]]), float(offsets[middle]))


def soft_error(scores: Floats, fails: NDArray[np.bool_], offset: float) -> Floats:
    """Return ``(N,)`` how wrong each score is about its known part, 0..1: 0.5 at the offset.

    A share of wrong parts moves in steps of one part; this moves with every score, so that a few known parts
    can tell two adapters apart.

    Args:
        scores: ``(N,)`` log-odds.
        fails: ``(N,)`` bool, the truth.
        offset: operating point.
    """
    wrong = np.where(fails, offset - scores, scores - offset).clip(-30, 30)
    return np.asarray(1 / (1 + np.exp(-wrong)), dtype=np.float32)


def tracked(wanted: float, commissioned: float, bound: float) -> OperatingPoint:
    """Return the wanted offset, or the bound of tracking if that is nearer to the commissioned one.

    Raises:
        ValueError: what is wanted is not a number.
    """
    if not math.isfinite(wanted):
        raise ValueError(f"an operating point at {wanted}: scores are not finite")
    shift = max(-bound, min(bound, wanted - commissioned))
    return OperatingPoint(commissioned + shift, at_bound=abs(wanted - commissioned) > bound)


def _share_above(scores: Floats, offsets: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return ``(K,)`` the smoothed share of ``(N,)`` scores above each offset."""
    spread = min(float(scores.std()), float(np.subtract(*np.percentile(scores, [75, 25]))) / 1.34)
    width = max(0.9 * spread * len(scores) ** -0.2, 1e-3)
    z = (scores[:, None].astype(np.float64) - offsets[None, :]) / width
    erf = np.vectorize(math.erf, otypes=[float])
    return np.asarray(0.5 * (1 + erf(z / math.sqrt(2))).mean(axis=0))
