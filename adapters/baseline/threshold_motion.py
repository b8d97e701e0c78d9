"""When the decision threshold of an adapter moves, how far, and why: it rests, and has a limit per hour.

Few samples leave a wide gap between good parts and defects, in which every threshold is as good as another;
where its middle is changes with every rendering. So a threshold that lies well inside the gap stays where it
is. It moves where it has come nearer than a quarter of the gap to one of its ends, then to the middle. As far
as the stream's good parts have moved since, it may go with them; beyond that never more than so many nats an
hour.

All of this holds for one adapter. Another one has scores of its own, on which the number of a threshold of
before means nothing: it begins where it tells samples apart best (`begins`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from adapters.baseline.threshold import Band

HOUR_S = 3600.0

Why = Literal["rests", "moves", "limited", "bounded", "begins"]
"""Inside the band; to the middle of the band; not as far as that, by the limit per hour, or by the bound that
the commissioned threshold has; it is another adapter's."""


@dataclass(frozen=True, slots=True)
class ThresholdStep:
    """What becomes of a threshold.

    Attributes:
        offset: where it is to be, in nats.
        wanted: where it would be without limit and bound.
        why: in a word.
        counted: nats that count for the limit per hour, 0 or more.
    """

    offset: float
    wanted: float
    why: Why
    counted: float = 0.0


@dataclass(frozen=True, slots=True)
class ThresholdHistory:
    """What counts of a threshold's moves.

    Attributes:
        moves: when, in seconds of a clock that only goes forward, and how many nats count; the oldest first.
    """

    moves: tuple[tuple[float, float], ...] = ()

    def used(self, now_s: float) -> float:
        """Return how many nats it has moved within the last hour, to and fro added up."""
        return sum(size for at_s, size in self.moves if now_s - at_s < HOUR_S)

    def left(self, now_s: float, per_hour: float) -> float:
        """Return how many nats it may move now, 0 or more."""
        return max(0.0, per_hour - self.used(now_s))

    def moved(self, now_s: float, nats: float) -> ThresholdHistory:
        """Return the history after a move of which so many nats count; an hour later they are forgotten."""
        kept = tuple(one for one in self.moves if now_s - one[0] < HOUR_S)
        return ThresholdHistory((*kept, (now_s, abs(nats))) if nats else kept)


def settle(present: float, among: Band, least: float, left: float, followed: float = 0.0) -> ThresholdStep:
    """Return where a threshold is to be.

    Args:
        present: where it is, in nats.
        among: thresholds that are as good as each other now.
        least: smallest move that is worth one, in nats, 0 or more.
        left: nats that it may move within the hour; infinite for no limit.
        followed: how far the stream's good parts have moved since it is there, in nats.
    """
    wanted, gap = among.middle, among.high - among.low
    inside = among.low + gap / 4 <= present <= among.high - gap / 4
    if inside or abs(wanted - present) < least:
        return ThresholdStep(present, present, "rests")
    along = min(0.0, followed), max(0.0, followed)
    shift = max(along[0] - left, min(along[1] + left, wanted - present))
    counted = max(0.0, shift - along[1], along[0] - shift)
    if shift == wanted - present:
        return ThresholdStep(wanted, wanted, "moves", counted)
    # A rest of the hour's limit that is not worth a version is kept, not spent.
    if abs(shift) < least:
        return ThresholdStep(present, wanted, "limited")
    return ThresholdStep(present + shift, wanted, "limited", counted)


def begins(offset: float) -> ThresholdStep:
    """Return the threshold of another adapter than the one that answered."""
    return ThresholdStep(offset, offset, "begins")


def words(step: ThresholdStep, before: float, per_hour: float) -> str:
    """Say for the record what becomes of a threshold, and why."""
    if step.why == "rests":
        return f"the threshold rests at {before:.2f}: it still tells samples apart as they look now"
    if step.why == "begins":
        return f"its threshold is {step.offset:.2f}, that of the adapter before was {before:.2f}"
    moved = f"the threshold follows the pictures from {before:.2f} to {step.offset:.2f}"
    if step.why == "limited":
        return f"{moved}, not to {step.wanted:.2f}: beyond good parts at most {per_hour:g} nats an hour"
    if step.why == "bounded":
        return f"{moved}, not to {step.wanted:.2f}: so far it may go from where it was commissioned"
    return f"{moved}, as samples look now"
