"""How large each statistic is in good parts, and one score of all of them. Pure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from adapters.core.protocol import Floats

FLOOR = 0.05
"""Of the mean, that a statistic varies by at least: the variation of few good parts is itself uncertain."""
FLOOR_OF_ONE = 0.1
"""The same where one good part says nothing of the variation."""
ODD = 3.0
"""Deviations from the median from which on a good part is odd: it counts as one that lies there."""
OF_ITSELF = 0.05
"""A statistic of one good part below this compares it with itself; another good part has about 1."""


@dataclass(frozen=True, slots=True, eq=False)
class Scale:
    """Mean and standard deviation of each statistic over good parts.

    Attributes:
        mean: ``(T, J)``.
        deviation: ``(T, J)``, above 0.
    """

    mean: Floats
    deviation: Floats

    @classmethod
    def of(cls, good: Floats) -> Scale:
        """Return the scale of ``(K, T, J)`` statistics of good parts, each without itself."""
        mean = good.mean(axis=0)
        if len(good) == 1:
            mean = np.where(mean < OF_ITSELF, 1, mean)
            deviation = FLOOR_OF_ONE * mean
        else:
            middle = np.median(good, axis=0)
            spread = 1.4826 * np.median(np.abs(good - middle), axis=0)
            reach = ODD * np.hypot(spread, FLOOR * middle)
            good = np.clip(good, middle - reach, middle + reach)
            mean = good.mean(axis=0)
            deviation = np.hypot(good.std(axis=0, ddof=1), FLOOR * mean) + 1e-6
        return cls(mean.astype(np.float32), deviation.astype(np.float32))

    def scores(self, statistics: Floats, groups: tuple[int, ...]) -> Floats:
        """Return ``(T,)`` scores of ``(T, J)`` statistics, above 0.

        Each is measured in its standard deviations beyond the mean of good parts; those of a group say much
        the same and are averaged; groups see different defects, so what exceeds adds up: softplus, which is 0
        well below the mean and the excess itself well above.

        Args:
            statistics: of one part.
            groups: how many statistics each group has, in order.
        """
        beyond = (statistics - self.mean) / self.deviation
        each = np.split(beyond, np.cumsum(groups)[:-1], axis=1)
        means = np.stack([group.mean(axis=1) for group in each])
        return np.asarray(np.logaddexp(0, means).sum(axis=0), dtype=np.float32)

    @classmethod
    def leave_one_out(cls, good: Floats, groups: tuple[int, ...]) -> Floats:
        """Return ``(K,)`` scores of ``(K, T, J)`` statistics of good parts, each by that of the others."""
        if len(good) == 1:
            return np.array([cls.of(good).scores(good[0], groups).max()])
        every = range(len(good))
        return np.array([cls.of(np.delete(good, i, 0)).scores(good[i], groups).max() for i in every])
