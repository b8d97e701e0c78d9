"""What waits to be told to Sparkplug hosts: results, and how each station learns."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from agent.domain.verdict import Outcome, Verdict
from agent.sparkplug.metrics import Readings, of_learning, of_result

CAPACITY = 1000
"""Results that may wait for a host; the durable way for all of them is ``S/result``."""


@dataclass(frozen=True, slots=True)
class LearningEvent:
    """What is so of a station at one moment.

    Attributes:
        result: it is an inspection's; each of these is told, of the rest what is newest.
    """

    station: str
    readings: Readings
    result: bool


class Book:
    """When 1000 results wait the oldest is lost, and counted; of a station's learning the newest wins.

    Owns what waits and the counts since the start. Any thread adds and never waits; the session's takes.

    Args:
        wake: called when there is something new.

    Attributes:
        lost: results that were pushed out.
    """

    def __init__(self, wake: Callable[[], None]) -> None:
        self.lost = 0
        self._wake = wake
        self._lock = threading.Lock()
        self._counts: dict[str, Counter[Outcome]] = {}
        self._results: deque[LearningEvent] = deque()
        self._learning: dict[tuple[str, str], LearningEvent] = {}

    def stored(self, verdicts: Sequence[Verdict], last_seq: Callable[[str], int]) -> None:
        """Take over verdicts that are on disk.

        Args:
            verdicts: in order.
            last_seq: station -> number of its last one.
        """
        after = Counter(verdict.station for verdict in verdicts)
        with self._lock:
            for verdict in verdicts:
                station = verdict.station
                after[station] -= 1
                counts = self._counts.setdefault(station, Counter())
                counts[verdict.decision.verdict] += 1
                if len(self._results) >= CAPACITY:
                    self._results.popleft()
                    self.lost += 1
                seq = last_seq(station) - after[station]
                self._results.append(LearningEvent(station, of_result(verdict, seq, counts), result=True))
        if verdicts:
            self._wake()

    def learned(self, station: str, name: str, payload: Mapping[str, Any]) -> None:
        """Take over what is shown as ``S/name``; only ``drift`` and ``adapter`` are told."""
        if readings := of_learning(name, payload, time.time_ns() // 1_000_000):
            with self._lock:
                self._learning[station, name] = LearningEvent(station, readings, result=False)
            self._wake()

    def take(self, most: int) -> list[LearningEvent]:
        """Return what waits, older results first, at most so many of these; then what was learned."""
        with self._lock:
            results = [self._results.popleft() for _ in range(min(most, len(self._results)))]
            learned, self._learning = list(self._learning.values()), {}
        return [*results, *learned]
