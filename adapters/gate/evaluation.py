"""A trial: known parts shown as the pictures are now, on which adapters are held against each other.

Everything that is compared at one moment is compared here, on the same pictures: the frozen model, the
adapter that answers, those that are stored, and a proposal. The parts of a trial are never learned from.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from adapters.baseline.baseline import Commissioning
from adapters.baseline.clean_share import clean_half, clean_rows
from adapters.baseline.threshold import Band, OperatingPoint, band, soft_error, tracked
from adapters.baseline.threshold_motion import ThresholdStep, settle
from adapters.core.adapter import Adapter, NotFinite
from adapters.core.observation import Bytes, Observation
from adapters.core.protocol import Floats
from adapters.core.scorer import Scorer, Scores
from adapters.gate.promotion_gate import Evidence
from adapters.monitoring.degradation import Degradation
from adapters.monitoring.degradation_fit import PictureStatistics, estimate

SURE = 2.0
"""Nats from the operating point beyond which the frozen model is sure."""
LEAST_SURE = 10
"""Pictures below which nothing is said about agreement."""
STREAM = 48
"""Newest pictures of the stream that an adapter is tried on."""


@dataclass(frozen=True, slots=True, eq=False)
class Assessment:
    """What one adapter makes of a trial.

    Attributes:
        point: the operating point that it would get.
        errors: ``(J,)`` soft error of each known part.
        error: their mean, good and defective parts weighing the same.
        missed, rejected: shares of the known defects missed and good parts rejected.
        named: ``(J,)`` class of each known part.
        stream: ``(P,)`` scores of the stream's pictures.
        margin: from the median of the stream's clean share up to the operating point, in nats.
        scores: ``(J,)`` of the known parts, moved to where the stream's good parts lie.
        band: operating points that are as good as each other; None where the point does not follow.
        finite: all scores are numbers; without them it is wrong about every part.
    """

    point: OperatingPoint
    errors: Floats
    error: float
    missed: float
    rejected: float
    named: NDArray[np.intp]
    stream: Floats
    margin: float
    scores: Floats
    band: Band | None
    finite: bool = True

    @property
    def usual(self) -> float:
        """What the stream's good parts score, in nats."""
        return self.point.offset - self.margin


@dataclass(frozen=True, eq=False)
class Evaluation:
    """The known parts of a commissioning under the condition of now.

    Attributes:
        condition: what was estimated.
        pictures: ``(J, S, S, 3)`` known parts, shown under it.
        fails: ``(J,)`` which of them are defective.
        stream: ``(P, S, S, 3)`` newest pictures of the stream.
        frozen: what the model as it was trained makes of it.
        explained: share of the change in its features that the condition explains; 1 where there is none.
        margin: from good parts up to the commissioned operating point, on the clean line, in nats.
    """

    scorer: Scorer
    offset: float
    bound: float
    condition: Degradation
    pictures: Bytes
    fails: NDArray[np.bool_]
    stream: Bytes
    frozen: Assessment
    explained: float
    margin: float

    @classmethod
    def hold(
        cls, scorer: Scorer, clean: Commissioning, recent: Sequence[Observation], bound: float, seed: int
    ) -> Evaluation:
        """Estimate the condition of the recent pictures and show the known parts under it.

        Args:
            scorer: scores with the recipe of the baseline.
            clean: the station's commissioning.
            recent: pictures of one condition, in order; `adapters.monitoring.degradation_fit.LEAST` or more.
            bound: how far the operating point may move from the commissioned one, in nats.
            seed: of the rendered noise.
        """
        pictures = np.stack([one.picture for one in recent])
        scores = np.array([one.score for one in recent], np.float32)
        condition = estimate(clean.statistics, PictureStatistics.of(clean_half(pictures, scores)))
        judged, fails = _judged(clean)
        shown = condition.render(judged, seed)
        view = scorer.look(shown, scorer.source)
        now = np.stack([recent[row].feature for row in clean_rows(scores)]).mean(axis=0)
        before = scorer.look(judged[~fails], scorer.source)
        margin = clean.offset - float(np.median(_lowest(before.scores)))
        explained = _explained(before.features, view.features[~fails].mean(axis=0), now)
        newest = recent[-STREAM:]
        frozen = _assess(view, fails, scores[-STREAM:], clean.offset, bound, margin)
        return cls(
            scorer, clean.offset, bound, condition, shown, fails,
            np.stack([one.picture for one in newest]), frozen, explained, margin,
        )  # fmt: skip

    @classmethod
    def clean(cls, scorer: Scorer, clean: Commissioning) -> Assessment:
        """Return what the frozen model makes of the known parts on the clean line."""
        judged, fails = _judged(clean)
        view = scorer.look(judged, scorer.source)
        return _assess(view, fails, view.scores[~fails], clean.offset, 0.0, 0.0)

    def assess(self, adapter: Adapter) -> Assessment:
        """Return what an adapter makes of it."""
        if adapter.digest == self.scorer.source.digest:
            return self.frozen
        try:
            stream = self.scorer.look(self.stream, adapter).scores
            view = self.scorer.look(self.pictures, adapter)
        except NotFinite:
            return self._hopeless()
        return _assess(view, self.fails, stream, self.offset, self.bound, self.margin)

    def settled(
        self, found: Assessment, present: float, usual: float | None, least: float, left: float
    ) -> tuple[Assessment, ThresholdStep]:
        """Return the answering adapter at the operating point that is to be, and what becomes of that.

        Args:
            found: of the adapter that answers.
            present: its operating point now.
            usual: what the stream's good parts scored when it was set; None where that is not known.
            least, left: see `adapters.baseline.threshold_motion.settle`.
        """
        if found.band is None or not found.finite:
            return found, ThresholdStep(found.point.offset, found.point.offset, "moves")
        step = settle(present, found.band, least, left, 0.0 if usual is None else found.usual - usual)
        point = tracked(step.offset, self.offset, self.bound)
        there = found.point.at_bound and point.offset == found.point.offset
        point = replace(point, at_bound=point.at_bound or there)
        why = step.why if point.offset == step.offset else "bounded"
        step = replace(step, offset=point.offset, why=why)
        if point.offset == found.point.offset:
            return replace(found, point=point), step
        return _placed(found, self.fails, point), step

    @property
    def usual(self) -> float:
        """What good parts scored by the source model when it was commissioned, in nats."""
        return self.offset - self.margin

    def evidence(
        self, before: Assessment, after: Assessment, distance: float, finite: bool = True
    ) -> Evidence:
        """Return what is known about going from one adapter to another."""
        gains = before.errors - after.errors
        good, bad = gains[~self.fails], gains[self.fails]
        spread = np.sqrt(sum(one.var() / len(one) for one in (good, bad) if len(one))) / 2
        sure = np.abs(self.frozen.stream - self.frozen.point.offset) > SURE
        same = (after.stream >= after.point.offset) == (self.frozen.stream >= self.frozen.point.offset)
        often = np.bincount(self.frozen.named, minlength=len(self.scorer.fails)) >= 3
        return Evidence(
            gain=_balanced(gains, self.fails),
            gain_error=float(spread),
            source_error=self.frozen.error,
            error=after.error,
            missed=after.missed,
            missed_before=before.missed,
            dead=int((often & (np.bincount(after.named, minlength=len(often)) == 0)).sum()),
            agreement=float(same[sure].mean()) if sure.sum() >= LEAST_SURE else 1.0,
            share=float((after.stream >= after.point.offset).mean()),
            share_frozen=float((self.frozen.stream >= self.frozen.point.offset).mean()),
            distance=distance,
            explained=self.explained,
            finite=finite and before.finite and after.finite,
        )

    def _hopeless(self) -> Assessment:
        """Return what is said of an adapter that gives no numbers: no other is worse."""
        ones = np.ones(len(self.pictures), np.float32)
        return replace(
            self.frozen, errors=ones, error=1.0, missed=1.0, rejected=1.0, margin=-np.inf, finite=False
        )


def distance(adapter: Adapter, source: Adapter) -> float:
    """Return how far an adapter is from the source, in lengths of the source."""
    pairs = [(adapter.tensors[name], tensor) for name, tensor in source.tensors.items()]
    moved = sum(float(((now - then).astype(np.float64) ** 2).sum()) for now, then in pairs)
    return float(np.sqrt(moved / sum(float((then.astype(np.float64) ** 2).sum()) for _, then in pairs)))


def _judged(clean: Commissioning) -> tuple[Bytes, NDArray[np.bool_]]:
    """Return the parts that are judged by and which fail: half of the usable samples, and the good parts.

    Where a person vouches for enough good parts, those alone are good: the model's own names show no false
    reject.
    """
    known, good = clean.usable.half(1), clean.good
    if clean.sight.false_rejects:
        known = known.some(clean.fails[known.classes] | known.vouched)
        good = good if clean.testimony.all_good else good[:0]
    pictures = np.concatenate([known.pictures, good])
    return pictures, np.concatenate([clean.fails[known.classes], np.zeros(len(good), bool)])


def _assess(
    view: Scores, fails: NDArray[np.bool_], stream: Floats, offset: float, bound: float, margin: float
) -> Assessment:
    # Rendered parts are not quite the stream's: the stream says where good parts lie, the known parts how far
    # from there the defects are.
    usual = float(np.median(_lowest(stream)))
    scores = view.scores + (usual - float(np.median(_lowest(view.scores[~fails]))))
    finite = bool(np.isfinite(scores).all() and np.isfinite(stream).all())
    # Scores that are no numbers have no operating point: the errors say so, and the guard refuses them.
    among = None
    if bound and finite:
        good = scores[~fails]
        among = band(good, scores[fails]) if fails.any() else Band.over(good, usual, margin, offset)
        point = tracked(among.middle, offset, bound)
    else:
        point, scores = OperatingPoint(offset), view.scores
    errors = np.full(len(fails), np.nan, np.float32)
    found = Assessment(
        point, errors, np.nan, np.nan, np.nan, view.logits.argmax(axis=1), stream, point.offset - usual,
        scores, among, finite,
    )  # fmt: skip
    return _placed(found, fails, point)


def _placed(found: Assessment, fails: NDArray[np.bool_], point: OperatingPoint) -> Assessment:
    """Return an assessment at another operating point."""
    scores, finite = found.scores, found.finite
    errors = soft_error(scores, fails, point.offset) if finite else np.full(len(fails), np.nan, np.float32)
    return replace(
        found,
        point=point,
        errors=errors,
        error=_balanced(errors, fails),
        missed=float((scores[fails] < point.offset).mean()) if fails.any() else 0.0,
        rejected=float((scores[~fails] >= point.offset).mean()),
        margin=found.margin + point.offset - found.point.offset,
    )


def _balanced(numbers: Floats, fails: NDArray[np.bool_]) -> float:
    """Return the mean over good and defective parts, of equal weight; over one kind if there is no other."""
    means = [float(some.mean()) for some in (numbers[~fails], numbers[fails]) if len(some)]
    return sum(means) / len(means)


def _lowest(scores: Floats) -> Floats:
    return scores[clean_rows(scores)]


def _explained(before: Floats, shown: Floats, now: Floats) -> float:
    """Compare means ``(D,)`` of good parts as shown and as seen now, ``(N, D)`` being theirs before."""
    usual = before.mean(axis=0)
    # Parts differ: a change below what they differ by is nothing that needs an explanation.
    spread = float(((before - usual) ** 2).sum(axis=1).mean())
    moved = float(((now - usual) ** 2).sum()) + spread
    # Where all pictures are one and the same, nothing has moved by more than rounding.
    return 1 - float(((now - shown) ** 2).sum()) / max(moved, 1e-9)
