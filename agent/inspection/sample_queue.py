"""From the inspector to the learner: what the frozen model saw of each part, and what was said of it."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from adapters.core.observation import Bytes, Observation, log_odds
from adapters.core.protocol import Floats, ModelInfo

CAPACITY = 256
"""Parts that may wait: at ten a second, an update of 25 seconds."""


@dataclass(frozen=True, slots=True, eq=False)
class InspectedSample:
    """One inspected part.

    Attributes:
        seen: by the model as it was trained.
        rejected: whether what answers rejects it.
        rejected_frozen: whether the model as it was trained does, at the commissioned operating point.
        adapter: digest of what answered; None where whoever asks knows that it still does.
    """

    seen: Observation
    rejected: bool
    rejected_frozen: bool
    adapter: str | None = None


class SampleQueue:
    """When it is full, the oldest is lost first, and counted.

    Owns what waits. Who puts never waits; one thread takes.
    """

    def __init__(self, capacity: int = CAPACITY) -> None:
        self._changed = threading.Condition()
        self._waiting: deque[InspectedSample] = deque()
        self._capacity = capacity
        self._lost = 0

    @property
    def lost(self) -> int:
        """How many parts the learner never saw."""
        return self._lost

    def lose(self, count: int) -> None:
        """Count parts that were lost on the way here."""
        with self._changed:
            self._lost += count

    def put(self, witnessed: InspectedSample) -> None:
        """Leave one part."""
        with self._changed:
            if len(self._waiting) >= self._capacity:
                self._waiting.popleft()
                self._lost += 1
            self._waiting.append(witnessed)
            self._changed.notify()

    def take(self, limit: int, timeout_s: float) -> list[InspectedSample]:
        """Return up to `limit` parts, oldest first; wait for the first, none after `timeout_s`."""
        with self._changed:
            if not self._waiting:
                self._changed.wait(timeout_s)
            return [self._waiting.popleft() for _ in range(min(limit, len(self._waiting)))]


def as_inspected(
    feature: Floats,
    class_features: Floats,
    fails: NDArray[np.bool_],
    info: ModelInfo,
    picture: Bytes,
    number: int,
    at_s: float,
) -> Observation:
    """Return what the model as it was trained says about a picture.

    Args:
        feature: ``(D,)`` as it was encoded; of those for which `adapters.core.protocol.directions` is true.
        class_features: ``(C, D)`` unit-length.
        fails: ``(C,)``; at least one class fails and one does not.
        info: of the model.
        picture: ``(S, S, 3)``.
        number: of the frame.
        at_s: when it was captured.
    """
    unit = feature / np.float32(np.linalg.norm(feature))
    logits = (info.logit_scale * class_features @ unit).astype(np.float32)  # (C,)
    chances = np.exp(logits.astype(np.float64) - logits.max())
    chances /= chances.sum()
    return Observation(
        number=number,
        at_s=at_s,
        picture=picture,
        feature=unit,
        score=float(log_odds(logits[None], fails)[0]),
        label=int(logits.argmax()),
        entropy=float(-(chances * np.log(np.maximum(chances, 1e-12))).sum()),
    )
