"""Is the world in front of the camera another one than at commissioning? Asked block by block.

Everything is measured on the frozen model and on the pictures, never on what learns. Two questions:

``gradual`` adds up evidence: the Shiryaev-Roberts e-detector of Shin, Ramdas and Rinaldo, "E-detectors: a
nonparametric framework for sequential change detection", New England Journal of Statistics in Data Science
2023, https://arxiv.org/abs/2203.03532. With blocks as exchangeable as at commissioning the mean time between
false alarms is at least its threshold, in blocks. A test on single frames fires on every correlated line.

``abrupt`` compares two blocks with the ones before: a lamp that breaks, a lens that has been wiped.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np

from adapters.core.observation import Observation
from adapters.monitoring.block_statistics import Doubles, measure, summarise
from adapters.monitoring.drift_baseline import DEPARTURES, LEVEL_BLOCKS, DriftReference

FRAMES_PER_FALSE_ALARM: Final = 360_000
"""One in 100 hours at 3600 parts an hour."""

MOST_PER_BLOCK: Final = 20.0
"""No block multiplies the evidence by more: it takes four to be sure."""

JUMP: Final = 4.0
"""A jump is abrupt from so many times on that one clean block in a hundred reaches,"""

STEPS: Final = 6.0
"""and from so many times the largest step between the blocks before: a ramp is no jump."""

NORMAL_BLOCKS: Final = 4
NORMAL_DISTANCE: Final = 1.0

_TOLD: Final = 3


@dataclass(frozen=True, slots=True)
class DriftReport:
    """What a station publishes after each block.

    Attributes:
        block: how many there have been; 0 before the first is full.
        frame: number of the block's last frame; -1 before the first block.
        at_s: when that was captured.
        drifting: the world is another one. Stays until it is `normal` again.
        abrupt: in this block it was found to have changed at once; the block before was the first after.
        normal: the last four blocks were as near to commissioning as clean ones are.
        distance: from commissioning; 1 is as far as one clean block in a hundred.
        gradual: evidence added up, 1 and more is drift.
        jump: how far the last two blocks are from the ones before, 1 and more is abrupt.
        moved: name and size of what departs most from commissioning, in units of its usual spread.
    """

    block: int = 0
    frame: int = -1
    at_s: float = 0.0
    drifting: bool = False
    abrupt: bool = False
    normal: bool = False
    distance: float = 0.0
    gradual: float = 0.0
    jump: float = 0.0
    moved: tuple[tuple[str, float], ...] = ()

    @property
    def warming(self) -> bool:
        """No block is full yet: nothing is known."""
        return self.block == 0

    def numbers(self) -> dict[str, float]:
        """Return what is published and kept in the audit trail, rounded."""
        return {
            "block": self.block,
            "drifting": float(self.drifting),
            "abrupt": float(self.abrupt),
            "normal": float(self.normal),
            "distance": round(self.distance, 4),
            "gradual": round(self.gradual, 4),
            "jump": round(self.jump, 4),
            **{f"moved_{name.replace(' ', '_')}": round(size, 3) for name, size in self.moved},
        }


@dataclass(frozen=True, slots=True, eq=False)
class Drift:
    """What is known of drift so far.

    Attributes:
        report: after the last block.
        evidence: Shiryaev-Roberts statistic.
        calm: how many blocks in a row were near to commissioning.
        before: the last blocks, oldest first, that a jump is measured from; none before the last jump.
    """

    report: DriftReport = DriftReport()
    evidence: float = 0.0
    calm: int = 0
    before: tuple[Doubles, ...] = ()


def update(
    drift: Drift, reference: DriftReference, block: Doubles, frame: int = -1, at_s: float = 0.0
) -> Drift:
    """Return what is known after one more block.

    Args:
        drift: what was known before.
        reference: from commissioning.
        block: ``(R,)`` as `summarise` returns it.
        frame: number of its last frame.
        at_s: time of its last frame.
    """
    limit = threshold(reference)
    departures = reference.departures(block)
    distance = reference.distance(block)
    # Far above the threshold there is nothing to add, and what is added would have to be lost again.
    evidence = min((1 + drift.evidence) * bet(reference.chance(distance)), limit * MOST_PER_BLOCK)
    calm = drift.calm + 1 if distance <= NORMAL_DISTANCE else 0
    # Before the first block the level is commissioning's.
    known = drift.before if drift.report.block else (reference.centre,) * LEVEL_BLOCKS
    before = (*known, block)[-LEVEL_BLOCKS - 3 :]
    jump = _jump(reference, before)
    abrupt = jump >= 1
    normal = calm >= NORMAL_BLOCKS
    if normal:
        evidence = min(evidence, 1.0)
    if abrupt:
        before = before[-1:]
    drifting = not normal and (
        drift.report.drifting or evidence >= limit or (abrupt and distance > NORMAL_DISTANCE)
    )
    report = DriftReport(
        block=drift.report.block + 1,
        frame=frame,
        at_s=at_s,
        drifting=drifting,
        abrupt=abrupt,
        normal=normal,
        distance=distance,
        gradual=float(np.log1p(evidence) / np.log1p(limit)),
        jump=jump,
        moved=_moved(departures),
    )
    return Drift(report, evidence, calm, before)


def threshold(reference: DriftReference) -> float:
    """Return the evidence that is drift: mean time between false alarms in blocks."""
    return FRAMES_PER_FALSE_ALARM / reference.block_frames


def bet(chance: float) -> float:
    """Return the e-value of a p-value: the mean of k p^(k-1) over k in 0..1 (Vovk), at most `MOST_PER_BLOCK`.

    Its mean is at most 1 when the p-value is uniform or larger.
    """
    if chance >= 1 - 1e-6:
        return 0.5
    log = float(np.log(max(chance, 1e-12)))
    return min((1 - chance + chance * log) / (max(chance, 1e-12) * log**2), MOST_PER_BLOCK)


class DriftMonitor:
    """Owns a station's drift and the block that is being filled. For one thread.

    Keeps no pictures: of each frame one row of numbers, and at most one block of them.
    """

    def __init__(self, reference: DriftReference) -> None:
        self.reference = reference
        self._drift = Drift()
        self._rows: list[Doubles] = []

    @property
    def report(self) -> DriftReport:
        """What is known after the last full block."""
        return self._drift.report

    def add(self, seen: Observation) -> DriftReport | None:
        """Take one frame that was fit to be judged; return a report when it fills a block."""
        return self.add_row(measure(seen), seen.number, seen.at_s)

    def add_row(self, row: Doubles, number: int, at_s: float) -> DriftReport | None:
        """Take a frame that was measured elsewhere, ``(R,)``; as `add`.

        Raises:
            ValueError: it holds a number that is not finite: the model does not work.
        """
        if not np.isfinite(row).all():
            raise ValueError(f"frame {number}: the frozen model's answer is not finite")
        self._rows.append(row)
        if len(self._rows) < self.reference.block_frames:
            return None
        block = summarise(np.stack(self._rows))
        self._rows.clear()
        self._drift = update(self._drift, self.reference, block, number, at_s)
        return self._drift.report


def _jump(reference: DriftReference, blocks: tuple[Doubles, ...]) -> float:
    """Return how far the last two blocks both are from the level before them; 1 and more is abrupt.

    Two: one block may be a handful of foreign parts. The block before these two is left out: the change may
    lie in the middle of it. Far is by the clean blocks of commissioning, and by the steps that the blocks
    before took anyway: neither a ramp nor a restless world is one jump after another.
    """
    level, latest = blocks[:-3], blocks[-2:]
    if len(level) < LEVEL_BLOCKS - 1:
        return 0.0
    step = max(reference.jump(one, other) for other, one in pairwise(level))
    away = min(reference.jump(block, np.median(level, axis=0)) for block in latest)
    return away / max(JUMP, STEPS * step)


def _moved(departures: Doubles) -> tuple[tuple[str, float], ...]:
    most = np.argsort(-np.abs(departures), kind="stable")[:_TOLD]
    return tuple((DEPARTURES[i], float(departures[i])) for i in most if departures[i])
