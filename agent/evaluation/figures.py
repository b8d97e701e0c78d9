"""Figures of a comparison with the truth: AUROC, shares, and their 95 % intervals. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from adapters.baseline.claims import bound
from adapters.core.protocol import Floats

_TWO_SIDED: Final = 0.975
"""Confidence of each end of a 95 % interval."""
_Z: Final = 1.959964


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure with its 95 % interval, all 0..1.

    Attributes:
        value: the figure.
        low, high: where the interval ends.
    """

    value: float
    low: float
    high: float

    def facts(self) -> dict[str, float]:
        """Return it for JSON."""
        return {"value": round(self.value, 6), "low": round(self.low, 6), "high": round(self.high, 6)}


def auroc(good: Floats, bad: Floats) -> tuple[float, float]:
    """Return the area under the ROC curve of ``(G,)`` scores of good and ``(B,)`` of bad parts; its variance.

    The area is the chance that a bad part scores higher than a good one, half of it where they are equal. The
    variance is DeLong's (DeLong, DeLong and Clarke-Pearson, Comparing the Areas under Two or More Correlated
    Receiver Operating Characteristic Curves, Biometrics 44, 1988); nan where either class has one part.

    Raises:
        ValueError: a class has no part.
    """
    if not len(good) or not len(bad):
        raise ValueError("AUROC needs good and bad parts")
    of_bad, of_good = _placed(bad, good), 1 - _placed(good, bad)
    if min(len(good), len(bad)) < 2:
        return float(of_bad.mean()), math.nan
    variance = of_bad.var(ddof=1) / len(bad) + of_good.var(ddof=1) / len(good)
    return float(of_bad.mean()), float(variance)


def auroc_estimate(draws: Sequence[tuple[float, float]], smaller: int) -> Estimate:
    """Return the mean of draws with an interval of the pictures that were judged.

    The variance is the mean of those of the draws, which is not less than that of their mean. At 1 it is 0
    and says nothing: then the interval goes down to what the smaller class alone bounds exactly.

    Args:
        draws: AUROC and variance of each.
        smaller: parts of the smaller class.
    """
    value = float(np.mean([one for one, _ in draws]))
    variance = float(np.mean([one for _, one in draws]))
    if math.isnan(variance) or variance == 0:
        exact = 1 - bound(0, smaller, _TWO_SIDED)
        return Estimate(value, exact if value == 1 else 0.0, 1 - exact if value == 0 else 1.0)
    half = _Z * math.sqrt(variance)
    return Estimate(value, max(0.0, value - half), min(1.0, value + half))


def share_estimate(counts: Sequence[int], total: int) -> Estimate:
    """Return the share of parts that were judged wrongly, the mean of draws, with its interval.

    For one draw it is the exact interval of Clopper and Pearson (Biometrika 26, 1934). The draws judge the
    same pictures, so that more of them are no more pictures: for several it is that of one draw in which as
    many parts were wrong as on average, rounded outwards.

    Args:
        counts: parts that were wrong, of each draw.
        total: parts of one draw; at least one.
    """
    mean = float(np.mean(counts))
    few, many = math.floor(mean), math.ceil(mean)
    low = 1 - bound(total - few, total, _TWO_SIDED)
    return Estimate(mean / total, max(0.0, low), bound(many, total, _TWO_SIDED))


def _placed(ones: Floats, others: Floats) -> Floats:
    """Return for each of ``(N,)`` the share of ``(M,)`` that is lower, half of those that are equal."""
    ordered = np.sort(others)
    lower, upper = np.searchsorted(ordered, ones, "left"), np.searchsorted(ordered, ones, "right")
    return np.asarray((lower + upper) / (2 * len(ordered)), dtype=np.float64).astype(np.float64)
