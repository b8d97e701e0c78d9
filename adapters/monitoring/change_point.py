"""What a few pictures show: that they are others abruptly, and whether their like was met before.

Blocks of drift have a stated rate of false alarms, and are slow for it: two of them pass until a change is
confirmed, and meanwhile what answers was learned for other pictures. A glance decides less, so it may be
quick: it chooses among the model as it was trained and what the guard has kept, and says when to look.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from adapters.core.protocol import Floats
from adapters.monitoring.block_statistics import SCALARS, Doubles
from adapters.monitoring.drift_baseline import DriftReference

NEWEST: Final = 4
"""Pictures that show a turn: their middle stays where it was until two of them are others."""
WINDOW: Final = 8
"""Pictures that are held against places: their middle stays with good parts until half of them are bad."""
LEVEL: Final = 48
"""Pictures before the newest that a turn is measured from, at most;"""
LEAST_LEVEL: Final = 24
"""and at least."""
APART: Final = 3.0
"""Usual errors of a median up to which two sets of pictures are alike, and above which they have turned.

No clean line of 300 000 pictures turns, and every change of severity 1.5 but dirt does
(benchmarks/results/glance_calibration.md).
"""
_DRAWS = 2000
_RATHER = 1.5
"""Where parts differ so much that draws of them seem to turn, it takes so many times the most of that."""

_LOOK = slice(2, len(SCALARS))
_FEATURE = slice(len(SCALARS), None)


@dataclass(frozen=True, slots=True, eq=False)
class DomainMark:
    """What pictures of one condition are like.

    Attributes:
        row: ``(R,)`` their middle, as `adapters.monitoring.block_statistics.measure` has it.
        rough: length by which the middle of `WINDOW` features is usually off.
    """

    row: Doubles
    rough: float

    @classmethod
    def of(cls, rows: Doubles) -> DomainMark:
        """Measure ``(N, R)`` rows of one condition."""
        return cls(np.median(rows, axis=0), _rough(rows[:, _FEATURE]))


class ChangePointDetector:
    """Owns the rows of the newest pictures; for one thread.

    Args:
        reference: of the station.
        looks: ``(G, 7)`` of good parts of the clean line, as `block_statistics.looks` has them.
        features: ``(G, D)`` of them, by the model as it was trained.

    Attributes:
        home: what pictures of the clean line are like.
    """

    def __init__(self, reference: DriftReference, looks: Doubles, features: Floats) -> None:
        self._variance = _deviations(looks) ** 2
        self._between, self._tolerance = reference.scale[_LOOK], reference.tolerance[_LOOK]
        self.home = DomainMark(reference.centre, _rough(features))
        self._rows: deque[Doubles] = deque(maxlen=LEVEL + NEWEST)
        self._limit = max(APART, _RATHER * self._most(looks))

    def add(self, row: Doubles) -> None:
        """Take one picture, ``(R,)``."""
        self._rows.append(row)

    def forget(self) -> None:
        """Begin anew: what was seen so far is of another condition."""
        self._rows.clear()

    @property
    def count(self) -> int:
        """How many pictures it remembers; it takes `WINDOW` to say where they belong."""
        return len(self._rows)

    @property
    def turned(self) -> bool:
        """Whether the newest pictures are others than those before them, abruptly."""
        if len(self._rows) < NEWEST + LEAST_LEVEL:
            return False
        rows = np.stack(self._rows)[:, _LOOK]
        return self._apart(rows[-NEWEST:], rows[:-NEWEST]) > self._limit

    @property
    def place(self) -> DomainMark:
        """What the newest pictures are like; there is one at least."""
        return DomainMark.of(np.stack(self._rows))

    def near(self, place: DomainMark) -> bool:
        """Whether the newest pictures, and what the model makes of them, are as those of a place."""
        return self._alike(np.stack(self._rows)[-WINDOW:], place)

    def looks_like(self, place: DomainMark) -> bool:
        """Whether light, contrast, sharpness and noise are as those of a place, whatever the parts are."""
        return self._apart(np.stack(self._rows)[-WINDOW:, _LOOK], place.row[None, _LOOK]) <= APART

    def moved(self, place: DomainMark) -> bool:
        """Whether the pictures crept away from a place; seen on more of them than a turn, and so finer."""
        return len(self._rows) >= LEVEL and not self._alike(np.stack(self._rows), place)

    def _alike(self, rows: Doubles, place: DomainMark) -> bool:
        away = float(np.linalg.norm((np.median(rows, axis=0) - place.row)[_FEATURE]))
        rough = place.rough * np.sqrt((1 / len(rows) + 1 / LEVEL) / (1 / WINDOW + 1 / LEVEL))
        return bool(away <= APART * rough) and self._apart(rows[:, _LOOK], place.row[None, _LOOK]) <= APART

    def _apart(self, some: Doubles, others: Doubles) -> float:
        """Return how far the middles of ``(N, 7)`` and ``(M, 7)`` numbers are apart, in usual errors."""
        shift = np.abs(np.median(some, axis=0) - np.median(others, axis=0)) - self._tolerance
        # A median of n is off by sqrt(pi / 2n) deviations, and what changes slowly by what blocks differ.
        usual = self._variance * np.pi / 2 * (1 / len(some) + 1 / LEVEL) + self._between**2
        return float(np.sqrt((np.maximum(0, shift) ** 2 / usual).mean()))

    def _most(self, looks: Doubles) -> float:
        """Return the largest turn in draws of parts that are all of one condition."""
        rng = np.random.default_rng(0)
        draws = rng.integers(len(looks), size=(_DRAWS, NEWEST + LEVEL))
        return max(self._apart(looks[draw[:NEWEST]], looks[draw[NEWEST:]]) for draw in draws)


def _deviations(rows: NDArray[np.floating[Any]]) -> Doubles:
    return np.asarray(1.4826 * np.median(np.abs(rows - np.median(rows, axis=0)), axis=0), dtype=np.float64)


def _rough(features: NDArray[np.floating[Any]]) -> float:
    variance = float((_deviations(features) ** 2).sum())
    return float(np.sqrt(variance * np.pi / 2 * (1 / WINDOW + 1 / LEVEL)))
