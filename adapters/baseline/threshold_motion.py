"""When the decision threshold moves, how far, and why: it rests, and has a limit per hour.

Few samples leave a wide gap between good parts and defects, in which every threshold is as good as another;
where its middle is changes with every rendering and with every update. So a threshold that lies well inside
the gap stays where it is. It moves where it has come nearer than a quarter of the gap to one of its ends,
then to the middle, and never more than so many nats an hour while the pictures are of one condition.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from adapters.baseline.threshold import Band

HOUR_S = 3600.0

Why = Literal["rests", "moves", "limited", "bounded"]
"""Inside the band; to the middle of the band; not as far as that, by the limit per hour, or by the bound that
the commissioned threshold has."""


@dataclass(frozen=True, slots=True)
class ThresholdStep:
    """What becomes of a threshold.

    Attributes:
        offset: where it is to be, in nats.
        wanted: where it would be without limit and bound.
        why: in a word.
    """

    offset: float
    wanted: float
    why: Why


@dataclass(frozen=True, slots=True)
class ThresholdHistory:
    """Moves of a threshold under one condition.

    Attributes:
        moves: when, in seconds of a clock that only goes forward, and by how many nats; the oldest first.
    """

    moves: tuple[tuple[float, float], ...] = ()

    def used(self, now_s: float) -> float:
        """Return how many nats it has moved within the last hour, to and fro added up."""
        return sum(size for at_s, size in self.moves if now_s - at_s < HOUR_S)

    def left(self, now_s: float, per_hour: float) -> float:
        """Return how many nats it may move now, 0 or more."""
        return max(0.0, per_hour - self.used(now_s))

    def moved(self, now_s: float, nats: float) -> ThresholdHistory:
        """Return the history after a move; what is older than an hour is forgotten."""
        kept = tuple(one for one in self.moves if now_s - one[0] < HOUR_S)
        return ThresholdHistory((*kept, (now_s, abs(nats))) if nats else kept)


def settle(present: float, among: Band, least: float, left: float) -> ThresholdStep:
    """Return where a threshold is to be.

    Args:
        present: where it is, in nats.
        among: thresholds that are as good as each other now.
        least: smallest move that is worth one, in nats, 0 or more.
        left: nats that it may move; infinite for no limit.
    """
    wanted, gap = among.middle, among.high - among.low
    inside = among.low + gap / 4 <= present <= among.high - gap / 4
    if inside or abs(wanted - present) < least:
        return ThresholdStep(present, present, "rests")
    shift = max(-left, min(left, wanted - present))
    if shift == wanted - present:
        return ThresholdStep(wanted, wanted, "moves")
    # A rest of the hour's limit that is not worth a version is kept, not spent.
    return ThresholdStep(present + shift if abs(shift) >= least else present, wanted, "limited")


def words(step: ThresholdStep, before: float, per_hour: float) -> str:
    """Say for the record what becomes of a threshold, and why."""
    if step.why == "rests":
        return f"the threshold rests at {before:.2f}: it still tells samples apart as they look now"
    moved = f"the threshold follows the pictures from {before:.2f} to {step.offset:.2f}"
    if step.why == "limited":
        return f"{moved}, not to {step.wanted:.2f}: at most {per_hour:g} nats an hour"
    if step.why == "bounded":
        return f"{moved}, not to {step.wanted:.2f}: so far it may go from where it was commissioned"
    return f"{moved}, as samples look now"
