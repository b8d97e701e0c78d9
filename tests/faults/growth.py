"""What the agent's process holds over time, and whether it grows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil

LIMITS_PER_H = {"rss_mb": 1.0, "private_mb": 1.0, "threads": 1.0, "files": 1.0, "learner_mb": 1.0}
"""What may come to stay within an hour."""
LONG_MINUTES = 35
"""From here on the slope itself has to be below its limit; of less time, only what is certain counts."""
_FEWEST_MINUTES = 6
_GROWN_UP_S = 180.0
"""The process of the learners opens its model first, and fills its buffers."""


@dataclass(frozen=True, slots=True)
class Sample:
    """What the agent and its learners' process held at one moment.

    Attributes:
        private_mb: of the agent's memory what no other process has and no file holds.
        learner: process id; 0 where there is none just now.
        learners: how many there are.
    """

    at_s: float
    rss_mb: float
    threads: int
    files: int
    private_mb: float = 0.0
    learner: int = 0
    learner_mb: float = 0.0
    learners: int = 0


@dataclass(frozen=True, slots=True)
class Trend:
    """How something changes over time, by the estimator of Theil and Sen: half of it may be outliers.

    Attributes:
        minutes: that were looked at.
        first, last: medians of the first and the last quarter.
        per_h: median of the slopes of all pairs of minutes.
        low, high: its interval of 95 %, by the distribution of Kendall's tau (P. K. Sen, "Estimates of the
            Regression Coefficient Based on Kendall's Tau", JASA 63, 1968).
    """

    minutes: int
    first: float
    last: float
    per_h: float
    low: float
    high: float


def sample(pid: int, at_s: float) -> Sample:
    """Return what a running agent holds.

    Raises:
        psutil.Error, OSError: it is gone.
    """
    agent = psutil.Process(pid)
    learners = [child for child in agent.children() if "learner" in " ".join(child.cmdline())]
    with agent.oneshot():
        return Sample(
            at_s,
            agent.memory_info().rss / 2**20,
            agent.num_threads(),
            agent.num_fds(),
            _private_mb(pid),
            learners[0].pid if learners else 0,
            learners[0].memory_info().rss / 2**20 if learners else 0.0,
            len(learners),
        )


def trend(at_s: Sequence[float], values: Sequence[float]) -> Trend | None:
    """Return how values change, by the median of each minute; None of less than six minutes.

    Medians, because a fault needs memory while it lasts: what matters is what stays.
    """
    minutes: dict[int, list[float]] = {}
    for at, value in zip(at_s, values, strict=True):
        minutes.setdefault(int(at // 60), []).append(value)
    if len(minutes) < _FEWEST_MINUTES:
        return None
    x = np.array(sorted(minutes), np.float64)
    y = np.array([float(np.median(minutes[int(minute)])) for minute in x])
    first, second = np.triu_indices(len(x), 1)
    slopes = np.sort(60 * (y[second] - y[first]) / (x[second] - x[first]))
    count, pairs = len(x), len(slopes)
    reach = 1.96 * float(np.sqrt(count * (count - 1) * (2 * count + 5) / 18))
    low = slopes[max(0, int((pairs - reach) // 2))]
    high = slopes[min(pairs - 1, int((pairs + reach) // 2) + 1)]
    quarter = max(1, count // 4)
    return Trend(
        count,
        float(np.median(y[:quarter])),
        float(np.median(y[-quarter:])),
        float(np.median(slopes)),
        float(low),
        float(high),
    )


def trends(life: Sequence[Sample]) -> dict[str, Trend]:
    """Return how everything that is limited changed; what cannot be told is left out."""
    told = {
        name: trend([one.at_s for one in life], [getattr(one, name) for one in life])
        for name in LIMITS_PER_H
        if name != "learner_mb"
    }
    old = _of_the_oldest_learner(life)
    told["learner_mb"] = trend([one.at_s for one in old], [one.learner_mb for one in old])
    return {name: found for name, found in told.items() if found is not None}


def growing(found: dict[str, Trend]) -> list[str]:
    """Return what grows by more than it may, one sentence each.

    A slope over little time is mostly chance: there it counts only if even its lower end is too much.
    """
    problems = []
    for name, one in found.items():
        limit = LIMITS_PER_H[name]
        certain = one.per_h if one.minutes >= LONG_MINUTES else one.low
        if certain > limit:
            problems.append(
                f"{name} grows by {one.per_h:.2f} an hour ({one.low:.2f} to {one.high:.2f},"
                f" over {one.minutes} minutes from {one.first:.1f} to {one.last:.1f}); {limit:g} may be"
            )
    return problems


def _of_the_oldest_learner(life: Sequence[Sample]) -> list[Sample]:
    """Return the samples with the process of learners that lived longest, from when it was grown up."""
    lives: dict[int, list[Sample]] = {}
    for one in life:
        if one.learner:
            lives.setdefault(one.learner, []).append(one)
    if not lives:
        return []
    longest = max(lives.values(), key=len)
    return [one for one in longest if one.at_s >= longest[0].at_s + _GROWN_UP_S]


def _private_mb(pid: int) -> float:
    rows = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(row.split()[1]) for row in rows if row.startswith("Private_Dirty")) / 1024
