"""Counts of verdicts and of how long they took, since the agent's start: what stats and metrics show."""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from agent.base.codec import JSON
from agent.domain.verdict import NOT_FINITE, Verdict

BOUNDS_MS = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 2000.0, 5000.0)
"""Upper ends of the steps in which latency is counted; what took longer is in `count` alone."""


@dataclass(slots=True)
class _Latency:
    steps: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS_MS) + 1))
    sum_ms: float = 0.0

    def add(self, ms: float) -> None:
        self.steps[bisect_left(BOUNDS_MS, ms)] += 1
        self.sum_ms += ms

    def shown(self) -> JSON:
        within, below = {}, 0
        for bound, count in zip(BOUNDS_MS, self.steps, strict=False):
            below += count
            within[f"{bound:g}"] = below
        return {"count": sum(self.steps), "sum_ms": round(self.sum_ms, 2), "within_ms": within}


@dataclass(slots=True)
class _OfStation:
    verdicts: Counter[tuple[str, str]] = field(default_factory=Counter)
    wait: _Latency = field(default_factory=_Latency)
    infer: _Latency = field(default_factory=_Latency)
    not_finite: bool = False


class Counters:
    """Owns the counts; one thread adds, any may ask. A station is there from when it is first asked for."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._stations: defaultdict[str, _OfStation] = defaultdict(_OfStation)

    def add(self, verdicts: Iterable[Verdict]) -> None:
        """Count what was decided."""
        with self._lock:
            for verdict in verdicts:
                station = self._stations[verdict.station]
                station.verdicts[verdict.recipe, verdict.decision.verdict.value] += 1
                station.wait.add(verdict.wait_ms)
                station.infer.add(verdict.infer_ms)
                if verdict.quality.luma is not None:  # there was a picture
                    station.not_finite = verdict.decision.reason == NOT_FINITE

    def not_finite(self, station: str) -> bool:
        """Whether the model could say nothing of a station's newest picture."""
        with self._lock:
            return self._stations[station].not_finite

    def shown(self, station: str) -> JSON:
        """Return what the stats say of a station."""
        with self._lock:
            found = self._stations[station]
            verdicts: dict[str, dict[str, int]] = {}
            for (recipe, verdict), count in sorted(found.verdicts.items()):
                verdicts.setdefault(recipe, {})[verdict] = count
            return {
                "verdicts": verdicts,
                "latency": {"wait": found.wait.shown(), "infer": found.infer.shown()},
            }
