"""Figures of one run of one stream, and their intervals over seeds.

Accuracy is no figure here: with 97 % ok parts a model that finds no defect has 97 %. A false reject is an ok
part that fails, a miss a defective one that passes; balanced accuracy is one minus the mean of their shares.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.eval_line import auroc
from benchmarks.stream_frames import Frames
from benchmarks.stream_run import Run
from benchmarks.streams import UNKNOWN, Stream

WINDOW = 500
STRIDE = 50
TOLERANCE = 0.03
"""No window may be further below the frozen model than this, in shares of balanced accuracy."""

ALPHA = 0.05
"""Chance that a stream in which every window is below by just the tolerance is blamed for any."""

RECENT = 250
"""Frames that recovery is judged on, at least `FEWEST`."""

FEWEST = 100
WORTH_RECOVERING = 0.03
LEARNING = ("update", "promotion")

_T975 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086)  # fmt: skip
"""Student's t at 97.5 % for 1, 2, ... degrees of freedom."""

_SPLITS = 25
"""In how many ways a drop is divided between false rejects and misses."""

Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Truth:
    """What was right, frame by frame.

    Attributes:
        defective: ``(N,)``.
        counted: ``(N,)`` False for what has no right verdict: black, foreign objects, another product.
        segments: ``(N,)`` index of the segment.
        stream: the definition.
    """

    defective: Bools
    counted: Bools
    segments: NDArray[np.int64]
    stream: Stream

    @classmethod
    def of(cls, stream: Stream, frames: Frames, fails: Bools) -> Truth:
        """Take it from a stream as it was drawn."""
        known = frames.labels != UNKNOWN
        return cls(fails[frames.labels] & known, frames.usable & known, frames.segments, stream)

    def named(self, name: str) -> Bools:
        """Return ``(N,)`` which frames are in segments of this name."""
        mine = np.array([segment.name == name for segment in self.stream.segments])
        return np.asarray(mine[self.segments])


@dataclass(frozen=True, slots=True)
class Rates:
    """At the operating point, in shares; None where there is no part of the kind.

    Attributes:
        false_rejects: of ok parts.
        missed: of defective parts.
        balanced: mean of what is right of both, or of the one that occurs.
    """

    false_rejects: float | None
    missed: float | None
    balanced: float | None


def rates(failed: Bools, truth: Truth, rows: Bools | slice = slice(None)) -> Rates:
    """Return the rates of ``(N,)`` verdicts over some frames."""
    counted, bad, failed = truth.counted[rows], truth.defective[rows], failed[rows]
    good = failed[counted & ~bad]
    defects = ~failed[counted & bad]
    false_rejects = float(good.mean()) if len(good) else None
    missed = float(defects.mean()) if len(defects) else None
    wrong = [share for share in (false_rejects, missed) if share is not None]
    return Rates(false_rejects, missed, 1 - float(np.mean(wrong)) if wrong else None)


def ranking(raw: NDArray[np.float32], truth: Truth, rows: Bools) -> float | None:
    """Return the AUROC of ok against defect over some frames; None unless there are both."""
    rows = rows & truth.counted
    bad = truth.defective[rows]
    return auroc(raw[rows].astype(np.float64), bad) if bad.any() and not bad.all() else None


def judge(made: Run, frozen: Run, oracle: Run | None, truth: Truth) -> dict[str, Any]:
    """Return the figures of one run as plain values; shares, not percent.

    Args:
        made: the run.
        frozen: of the frozen model on the same stream.
        oracle: of the oracle on the same stream, if it has run.
        truth: of that stream.
    """
    failed, frozen_failed = made.scores >= 0, frozen.scores >= 0
    best = oracle.scores >= 0 if oracle is not None else None
    everything = np.ones(len(failed), bool)
    segments: dict[str, dict[str, Any]] = {}
    for name in dict.fromkeys(segment.name for segment in truth.stream.segments):
        segments[name] = _of_rows(made, frozen_failed, best, truth, truth.named(name))
    sizes = {name: (truth.named(name) & truth.counted).sum() for name in segments}
    ranked = {name: of["auroc"] for name, of in segments.items() if of["auroc"] is not None}
    clean = np.array([segment.clean for segment in truth.stream.segments])
    learned = [event for event in made.events if event["event"] in LEARNING]
    different = (failed != frozen_failed) & truth.counted
    overall = _of_rows(made, frozen_failed, best, truth, everything)
    # Scores of different conditions are not comparable: the mean of the segments' own rankings.
    shares = [sizes[name] for name in ranked]
    overall["auroc"] = float(np.average(list(ranked.values()), weights=shares)) if ranked else None
    return {
        "overall": overall,
        "segments": segments,
        "window": worst_window(failed, frozen_failed, truth),
        "recovery": recovery(failed, frozen_failed, best, truth) if best is not None else {},
        "updates": len(learned),
        "promotions": sum(event["event"] == "promotion" for event in made.events),
        "rollbacks": sum(event["event"] == "rollback" for event in made.events),
        "learned_on_clean": sum(bool(clean[truth.segments[int(event["frame"])]]) for event in learned),
        "flips": int(different.sum()),
        "harmful_flips": int((different & (frozen_failed == truth.defective)).sum()),
        "labels": len(made.told),
        "cpu_ms": made.cpu_ms,
    }


def _of_rows(made: Run, frozen: Bools, best: Bools | None, truth: Truth, rows: Bools) -> dict[str, Any]:
    mine, yardstick = rates(made.scores >= 0, truth, rows), rates(frozen, truth, rows)
    figures: dict[str, Any] = {
        "false_rejects": mine.false_rejects,
        "missed": mine.missed,
        "balanced": mine.balanced,
        "against_frozen": _difference(mine.balanced, yardstick.balanced),
        "auroc": ranking(made.raw, truth, rows),
        "gap": None,
    }
    if best is not None:
        figures["gap"] = _difference(rates(best, truth, rows).balanced, yardstick.balanced)
    return figures


def worst_window(failed: Bools, frozen: Bools, truth: Truth) -> dict[str, Any]:
    """Compare every window of `WINDOW` frames with the frozen model.

    Returns:
        ``against_frozen`` and ``first`` of the worst one, in shares of balanced accuracy; ``below``, how many
        are below by more than the tolerance; ``p``, the smallest chance among these of being so far below if
        the truth were just the tolerance; ``beyond_chance``, whether that times the number of separate
        windows is less than `ALPHA`.
    """
    worst, first, below, smallest = 0.0, 0, 0, 1.0
    count = len(failed)
    for start in range(0, max(1, count - WINDOW + 1), STRIDE):
        rows = slice(start, start + WINDOW)
        counted, bad = truth.counted[rows], truth.defective[rows]
        gain, loss = _changes(failed[rows], frozen[rows], bad)
        kinds = [Kind.of(gain, loss, counted & kind) for kind in (~bad, bad)]
        kinds = [kind for kind in kinds if kind.count]
        if not kinds:
            continue
        difference = float(np.mean([(kind.gains - kind.losses) / kind.count for kind in kinds]))
        if difference < worst:
            worst, first = difference, start
        if difference < -TOLERANCE:
            below += 1
            smallest = min(smallest, chance(kinds))
    separate = max(1, count // WINDOW)
    beyond = smallest * separate < ALPHA
    return {"against_frozen": worst, "first": first, "below": below, "p": smallest, "beyond_chance": beyond}


@dataclass(frozen=True, slots=True)
class Kind:
    """Ok or defective parts of a window: how many, and on how many the verdict got right or wrong."""

    count: int
    gains: int
    losses: int

    @classmethod
    def of(cls, gain: Bools, loss: Bools, rows: Bools) -> Kind:
        """Count some rows."""
        return cls(int(rows.sum()), int((gain & rows).sum()), int((loss & rows).sum()))


def chance(kinds: Sequence[Kind], tolerance: float = TOLERANCE) -> float:
    """Return how likely so large a loss against the frozen model is if the true one were the tolerance.

    Only parts on which the two disagree say anything. The true drop may fall on ok parts, on defects or on both,
    and a rise that was seen of one may excuse more of the other. Under each such split the net gain of each kind
    has an exact law, a sum of +1, -1 and 0, and the two tails are combined by R. A. Fisher's method ("Statistical
    Methods for Research Workers", 1932, section 21.1); the split under which the loss is most likely counts.
    """
    if len(kinds) == 1:
        return _tail(kinds[0], tolerance)
    best = 0.0
    first, second = (min(0.0, (kind.losses - kind.gains) / kind.count) for kind in kinds)
    for drop in np.linspace(second, 2 * tolerance - first, _SPLITS):
        both = _tail(kinds[0], 2 * tolerance - drop) * _tail(kinds[1], drop)
        best = max(best, both * (1 - math.log(both)) if both > 0 else 0.0)
    return best


def _tail(kind: Kind, drop: float) -> float:
    """Return the chance of so small a net gain, if the share that is right falls by `drop`."""
    # As many as were seen to change both ways do so under the hypothesis, too; a drop below 0 is a rise.
    churn = min(kind.gains, kind.losses) / kind.count
    gain, loss = churn + max(-drop, 0.0), churn + max(drop, 0.0)
    if gain + loss > 1:
        gain, loss = gain / (gain + loss), loss / (gain + loss)
    # The law of the sum by its Fourier transform, from -n to n.
    turn = np.exp(2j * np.pi * np.arange(2 * kind.count + 1) / (2 * kind.count + 1))
    law = np.fft.fft((gain * turn + loss / turn + 1 - gain - loss) ** kind.count).real / len(turn)
    net = kind.gains - kind.losses + kind.count
    return float(np.clip(np.roll(law, kind.count)[: net + 1].sum(), 0.0, 1.0))


def recovery(failed: Bools, frozen: Bools, best: Bools, truth: Truth) -> dict[str, float | None]:
    """Return by segment name how many frames it took to close half of the gap to the oracle, for good.

    The last `RECENT` frames since the segment began have to reach that level, and so has the rest of the segment.
    None where that never happened. Ramps, and segments whose gap is not worth closing, are left out; of several
    segments with one name the mean of those that succeeded counts.
    """
    found: dict[str, list[float | None]] = {}
    for first, segment in zip(truth.stream.starts, truth.stream.segments, strict=True):
        last = first + segment.frames
        low, high = (rates(of, truth, slice(first, last)).balanced for of in (frozen, best))
        if not segment.steady or low is None or high is None or high - low < WORTH_RECOVERING:
            continue
        reached = None
        for stop in range(first + min(FEWEST, segment.frames), last + 1, 10):
            spans = [slice(max(first, stop - RECENT), stop), slice(stop, last)][: 2 if stop < last else 1]
            levels = [rates(failed, truth, span).balanced for span in spans]
            if all(level is None or level >= (low + high) / 2 for level in levels):
                reached = float(stop - first)
                break
        found.setdefault(segment.name, []).append(reached)
    means: dict[str, float | None] = {}
    for name, times in found.items():
        done = [time for time in times if time is not None]
        means[name] = float(np.mean(done)) if done else None
    return means


def rolling(wrong: Bools, rows: Bools, width: int = RECENT) -> NDArray[np.float64]:
    """Return ``(N,)`` the share that is wrong of those rows among the last `width` frames; NaN without any."""
    of = np.cumsum(np.concatenate([[0], rows]))
    hits = np.cumsum(np.concatenate([[0], rows & wrong]))
    stops = np.arange(1, len(rows) + 1)
    starts = np.maximum(0, stops - width)
    count = of[stops] - of[starts]
    with np.errstate(invalid="ignore"):
        return np.asarray((hits[stops] - hits[starts]) / np.where(count, count, np.nan))


def over_seeds(values: Sequence[float | None]) -> list[float] | None:
    """Return mean, lower and upper end of the 95 % interval (Student's t), and how many seeds have a value."""
    known = np.array([value for value in values if value is not None], np.float64)
    if not len(known):
        return None
    half = math.nan
    if len(known) > 1:
        t = _T975[min(len(known) - 1, len(_T975)) - 1]
        half = t * float(known.std(ddof=1)) / math.sqrt(len(known))
    mean = float(known.mean())
    return [mean, mean - half, mean + half, float(len(known))]


def _changes(failed: Bools, frozen: Bools, bad: Bools) -> tuple[Bools, Bools]:
    """Return which verdicts got right and which got wrong against the frozen model."""
    mine, its = failed == bad, frozen == bad
    return mine & ~its, its & ~mine


def _difference(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else one - other
