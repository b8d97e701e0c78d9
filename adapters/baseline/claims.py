"""What can be said of false rejects, with which confidence, from good parts that a person vouches for.

A share that was measured on parts which the model itself calls good says nothing: those that it rejects
wrongly are not among them. So only parts count of which a person says that they are good.

*A threshold that was fixed without these parts.* Of n parts x are rejected; the exact one-sided bound is the
share p at which so few would be rejected with a chance of 1 - confidence: P(Bin(n, p) <= x) = 5 % (Clopper
and Pearson, Biometrika 26, 1934).

*A threshold that is chosen on the very same parts.* Then x is no surprise, and the argument above does not
hold as it stands. It holds again if x is fixed by n alone, before any score is seen, and the threshold is
put just above the (x + 1)-th largest of the n scores. For exchangeable parts with continuous scores the
share of all good parts that score higher than this order statistic has the distribution Beta(x + 1, n - x),
whatever the scores' own distribution (a tolerance limit: Wilks, Annals of Mathematical Statistics 12, 1941;
the same as split conformal prediction's argument). Its quantile at the confidence is the p above, because
P(Beta(x + 1, n - x) > p) = P(Bin(n, p) <= x). So the true share exceeds the bound in exactly 5 % of all
commissionings, and in fewer where scores repeat. Any higher threshold, for whatever reason it was chosen,
rejects no good part more: the bound stays true for it.

With x = 0 the bound is 1 - 0.05^(1/n): 29, 59, 149, 299 and 598 parts for 10, 5, 2, 1 and 0.5 %.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, Self, get_args

import numpy as np
from numpy.typing import NDArray

from adapters.core.protocol import Floats

CONFIDENCE = 0.95
SHARES = (0.1, 0.05, 0.02, 0.01, 0.005)
"""Shares that people ask for; `needed` says how many good parts they take."""

Basis = Literal["all_good", "golden"]
"""Parts that were watched and that a person calls good, all of them; or golden samples, held out."""


@dataclass(frozen=True, slots=True)
class FalseRejectClaim:
    """What is claimed of false rejects, by the model as it was trained at the commissioned threshold.

    Attributes:
        false_rejects_at_most: share of the good parts, 0..1.
        confidence: with which.
        good_parts: that a person vouches for, and that it was measured on.
        rejected: how many of these are rejected.
        basis: which parts these are.
    """

    false_rejects_at_most: float
    confidence: float
    good_parts: int
    rejected: int
    basis: Basis

    def __post_init__(self) -> None:
        good = (
            0 <= self.false_rejects_at_most <= 1
            and 0 < self.confidence < 1
            and 0 <= self.rejected <= self.good_parts
            and self.good_parts >= 1
            and self.basis in get_args(Basis)
        )
        if not good:
            raise ValueError(f"no claim: {self}")

    @classmethod
    def read(cls, facts: Mapping[str, Any]) -> Self:
        """Return what `facts` were made of.

        Raises:
            ValueError, KeyError, TypeError: they are none.
        """
        return cls(**{name: facts[name] for name in cls.__slots__})

    def facts(self) -> dict[str, Any]:
        """Return it for JSON."""
        return asdict(self)


def bound(rejected: int, good_parts: int, confidence: float = CONFIDENCE) -> float:
    """Return the exact upper bound of the share of false rejects, 0..1.

    Args:
        rejected: of the parts.
        good_parts: how many there are; 0 bounds nothing, which is 1.
        confidence: one-sided.

    Raises:
        ValueError: more are rejected than there are, or numbers below 0.
    """
    if not 0 <= rejected <= good_parts:
        raise ValueError(f"{rejected} of {good_parts} parts rejected")
    if rejected == good_parts:
        return 1.0
    ways = _log_ways(rejected, good_parts)
    low, high = rejected / good_parts, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        if _at_most(ways, good_parts, middle)[-1] > 1 - confidence:
            low = middle
        else:
            high = middle
    return high


def allowed(good_parts: int, share: float, confidence: float = CONFIDENCE) -> int:
    """Return how many of so many good parts may be rejected so that `bound` is at most a share.

    It depends on no score, as the argument above needs it. 0 also where even that does not bound it so far.
    """
    if not 0 < share < 1 or good_parts < 1:
        return 0
    most = min(good_parts - 1, math.floor(good_parts * share) + 1)
    chances = _at_most(_log_ways(most, good_parts), good_parts, share)
    return max(0, int((chances <= 1 - confidence).sum()) - 1)


def needed(share: float, confidence: float = CONFIDENCE) -> int:
    """Return how many good parts, none of them rejected, bound the share of false rejects so far.

    Raises:
        ValueError: no number of parts does that: the share is not between 0 and 1.
    """
    if not 0 < share < 1:
        raise ValueError(f"no number of parts bounds false rejects to {share}")
    return math.ceil(math.log(1 - confidence) / math.log1p(-share))


def tolerance_limit(scores: Floats, rejected: int) -> float:
    """Return the lowest threshold at which no more than `rejected` of ``(n,)`` good parts are rejected.

    A part is rejected when its score reaches the threshold; so it lies just above an order statistic.

    Raises:
        ValueError: there are not more parts than that.
    """
    if not 0 <= rejected < len(scores):
        raise ValueError(f"{rejected} of {len(scores)} parts rejected")
    highest = np.sort(scores.astype(np.float32))[len(scores) - 1 - rejected]
    return float(np.nextafter(highest, np.float32(np.inf)))


def of_all(scores: Floats, share: float) -> tuple[float, float]:
    """Return the lowest threshold for ``(n,)`` good parts that a person vouches for, and the bound at it.

    Args:
        scores: of all of them.
        share: of good parts that may be rejected; with too few parts the bound is above it.

    Raises:
        ValueError: there are no parts.
    """
    rejected = allowed(len(scores), share)
    return tolerance_limit(scores, rejected), bound(rejected, len(scores))


def held_out(scores: Floats, threshold: float) -> FalseRejectClaim | None:
    """Return what ``(n,)`` good parts claim of a threshold that they had no say in; None without parts."""
    if not len(scores):
        return None
    rejected, count = int((scores >= threshold).sum()), len(scores)
    return FalseRejectClaim(bound(rejected, count), CONFIDENCE, count, rejected, "golden")


def _log_ways(most: int, count: int) -> NDArray[np.float64]:
    """Return the logarithm of ``count`` over 0, 1, ... `most`."""
    k = np.arange(1, most + 1, dtype=np.float64)
    return np.concatenate([[0.0], np.cumsum(np.log((count - k + 1) / k))])


def _at_most(ways: NDArray[np.float64], count: int, share: float) -> NDArray[np.float64]:
    """Return P(Bin(count, share) <= 0, 1, ...)."""
    k = np.arange(len(ways), dtype=np.float64)
    if share >= 1:
        return np.zeros(len(ways))
    logs = ways + (k * math.log(share) if share > 0 else np.where(k > 0, -np.inf, 0.0))
    return np.cumsum(np.exp(logs + (count - k) * math.log1p(-share)))
