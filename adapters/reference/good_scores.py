"""What good parts score, and the threshold and the claim that follow from it. Pure.

With enough good parts some are held out of the memory, and the threshold is an order statistic of their
scores with its exact bound (`adapters.baseline.claims`). With fewer all are in the memory, and each is scored
as if it were not: leave-one-out. These scores depend on one another and are few, so nothing is claimed.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from adapters.baseline.claims import CONFIDENCE, FalseRejectClaim, allowed, bound, tolerance_limit
from adapters.core.protocol import Floats

LEAST_HELD_OUT = 29
"""Good samples beside the memory from which on something can be claimed."""
LEAST_IN_MEMORY = 10
"""Of samples, where others are held out."""
MOST_IN_MEMORY = 50
"""Of samples: what good parts look like is known by then, and more in the claim say more."""
MOST_LEFT_OUT = 6.0
"""Of a threshold by leave-one-out. Good parts have 2 in the middle, on any set (`scale`). On the six sets
that the method was chosen by or seen with, at 5, 10 and 20 samples, this rule rejected 3 to 4 % of other good
parts and missed fewer defects than the highest score plus any margin, or the median plus deviations."""
OF_ONE = 16.0
"""About the highest score of another good part where one sample is known, on the same sets."""

Basis = Literal["held_out", "leave_one_out"]


def split(samples: int, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return which of so many samples the memory takes, and which are held out; none where there are few."""
    drawn = np.random.default_rng(seed).permutation(samples)
    held = max(LEAST_HELD_OUT, samples // 2, samples - MOST_IN_MEMORY)
    if samples - held < LEAST_IN_MEMORY:
        held = 0
    return np.sort(drawn[held:]), np.sort(drawn[:held])


def held_out_threshold(scores: Floats, false_rejects: float) -> tuple[float, FalseRejectClaim]:
    """Return the threshold and its claim for ``(n,)`` good parts that are not in the memory.

    How many of them may be rejected depends on n alone, as the claim's proof needs it.
    """
    count = len(scores)
    rejected = allowed(count, false_rejects)
    claim = FalseRejectClaim(bound(rejected, count), CONFIDENCE, count, rejected, "golden")
    return tolerance_limit(scores, rejected), claim


def leave_one_out_threshold(scores: Floats) -> float:
    """Return the threshold for ``(n,)`` good parts that were each scored without themselves.

    The highest of them, but no more than `MOST_LEFT_OUT`: one odd sample among ten would else make the
    station blind. One good part alone says nothing of others: then it is `OF_ONE`.
    """
    return OF_ONE if len(scores) == 1 else float(min(scores.max(), MOST_LEFT_OUT))
