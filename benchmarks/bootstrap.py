"""Intervals of means over pictures."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 2000


def interval(values: NDArray[Any]) -> list[float]:
    """Return mean, lower and upper end of ``(N,)`` shares, in percent: 95 %, bootstrap over pictures."""
    means = _counts(len(values)) @ values.astype(np.float64) / len(values)
    low, high = np.quantile(means, (0.025, 0.975))
    return [round(100 * float(x), 2) for x in (values.mean(), low, high)]


@cache
def _counts(number: int) -> NDArray[np.float64]:
    """Return ``(resamples, N)`` how often each picture is in each resample."""
    rng = np.random.default_rng(0)
    return rng.multinomial(number, np.full(number, 1 / number), RESAMPLES).astype(np.float64)
