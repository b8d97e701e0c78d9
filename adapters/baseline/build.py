"""The commission: makes a `Commissioning` from what was seen of the clean line and what a person vouches for.

The threshold, and what may be claimed of it, by what a person said:

- *All parts were good* (`all_good`): the threshold is at least the tolerance limit of all of them
  (`adapters.baseline.claims`), so that the claim holds although both are of the same parts.
- *Some golden samples are good*: the threshold comes from the stream and from confirmed defects; the golden
  good samples have no say in it, so they bound its false rejects exactly.
- *Neither*: nothing is claimed. What the model calls good itself shows none of its false rejects.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from adapters.baseline.baseline import Commissioning, CommissioningError, ReferenceSamples
from adapters.baseline.claims import CONFIDENCE, FalseRejectClaim, held_out, of_all, tolerance_limit
from adapters.baseline.clean_share import clean_half
from adapters.baseline.reference_samples import NamedBy, first_seen
from adapters.baseline.testimony import Testimony
from adapters.baseline.threshold import separate
from adapters.core.measured_with import MeasuredWith
from adapters.core.observation import Observation
from adapters.core.protocol import Floats
from adapters.monitoring.degradation_fit import PictureStatistics
from adapters.monitoring.drift_baseline import DriftReference

KNOWN_PER_CLASS = 20
BESIDE_GOLDEN = 10
"""Pictures that the frozen model names surely, kept per class: without golden pictures, and beside them.

Few parts make a rough operating point; those that are sure on a clean line are as good as labelled.
"""
GOOD = 60
"""Good parts of the stream that are kept, beside the known ones: they fix the share of false rejects."""
SURE = 0.4
"""Share of ln C that the entropy of a picture must be below to be named by the model itself (as in EATA)."""


def commission(
    seen: Sequence[Observation],
    golden: ReferenceSamples | None,
    golden_scores: Floats | None,
    *,
    independent: NDArray[np.bool_] | None = None,
    station: str,
    weights: str,
    recipe: str,
    labels: Sequence[str],
    fails: NDArray[np.bool_],
    made_at: str,
    false_rejects: float = 0.01,
    all_good: bool = False,
    made_by: str = "",
    measured: MeasuredWith | None = None,
) -> Commissioning:
    """Fix what the clean line is like.

    Args:
        seen: of the clean line in the order of the parts, defects as they come.
        golden: parts that a person labelled; beside them the model's sure names are kept, as guesses.
        golden_scores: ``(K,)`` log-odds of a defect of each golden part by the frozen model.
        independent: ``(K,)`` golden parts that were chosen without the model, of which alone something can be
            claimed; None: all.
        false_rejects: at most this share of good parts is to be rejected.
        all_good: a person vouches for all of `seen`: these parts were good. Repetitions count once.
        made_by: who commissions.
        measured: what saw them.

    Raises:
        CommissioningError: too little was seen.
    """
    scores = np.array([one.score for one in seen], np.float32)
    pictures = np.stack([one.picture for one in seen])
    named = np.array([one.label for one in seen], np.int64)
    sure = np.array([one.entropy for one in seen]) < SURE * np.log(len(labels))
    by: Literal["golden", "model"] = "model" if golden is None else "golden"
    most = KNOWN_PER_CLASS if golden is None else BESIDE_GOLDEN
    rows = _own(named, sure & ~(fails[named] & all_good), len(labels), most)
    # Where there is one class that passes, to be good is to be of it.
    certain = all_good and int((~fails).sum()) == 1
    by_whom = np.full(len(rows), NamedBy.PERSON if certain else NamedBy.MODEL, np.uint8)
    known = ReferenceSamples(pictures[rows], named[rows], by_whom)
    defects, good_scores = np.zeros(0, np.float32), np.zeros(0, np.float32)
    if golden is not None and golden_scores is not None:
        known = golden.joined(known)
        defects = golden_scores[fails[golden.classes]]
        chosen = np.ones(len(golden_scores), bool) if independent is None else independent
        good_scores = golden_scores[~fails[golden.classes] & chosen]
    # Repetitions are not other parts: nobody can vouch for one part twice.
    good = np.sort(first_seen(pictures)) if all_good else np.flatnonzero(sure & ~fails[named])
    if len(good) < GOOD:
        what = "different ones" if all_good else "surely good"
        raise CommissioningError(
            f"station {station}: {len(good)} of {len(seen)} parts are {what}, {GOOD} are needed:"
            " is the line clean, and do the recipe's words fit its parts?"
        )
    spread = good[np.linspace(0, len(good) - 1, GOOD).astype(int)]
    usual = scores if all_good else scores[~fails[named]]
    claim: FalseRejectClaim | None
    if all_good:
        offset, claim = _claimed(scores[good], defects, false_rejects)
    else:
        offset = _measured(usual, defects, false_rejects)
        claim = held_out(good_scores, offset)
    return Commissioning(
        station=station,
        weights=weights,
        recipe=recipe,
        labels=tuple(labels),
        fails=fails,
        made_at=made_at,
        labelled_by=by,
        known=known,
        good=pictures[spread],
        statistics=PictureStatistics.of(clean_half(pictures, scores)),
        drift=DriftReference.calibrate(seen),
        offset=offset,
        numbers={
            "parts": float(len(seen)),
            "confirmed": float(known.vouched.sum()),
            "guessed": float((~known.vouched).sum()),
            "confirmed_defects": float(len(defects)),
            "rejects": float((scores >= offset).mean()),
            "missed": float((defects < offset).mean()) if len(defects) else -1.0,
            "good_score": float(np.median(usual)),
            "defect_score": float(np.median(defects)) if len(defects) else -1.0,
            # Parts that a person calls good and the model surely defective; nobody vouches for the others.
            **({"surely_bad": float((sure & fails[named]).sum())} if all_good else {}),
        },
        measured=measured,
        testimony=Testimony(made_by, all_good, claim),
    )


def _claimed(scores: Floats, defects: Floats, share: float) -> tuple[float, FalseRejectClaim]:
    """Return threshold and claim where a person vouches for all ``(N,)`` parts that were watched.

    A threshold that is higher, because confirmed defects ``(D,)`` leave room, rejects no good part more.
    """
    least, most = of_all(scores, share)
    offset = max(least, separate(scores, defects, share)) if len(defects) else least
    rejected = int((scores >= offset).sum())
    return offset, FalseRejectClaim(most, CONFIDENCE, len(scores), rejected, "all_good")


def _measured(usual: Floats, defects: Floats, share: float) -> float:
    """Return the threshold over ``(N,)`` parts that the model calls good, and below confirmed defects."""
    if len(defects):
        return separate(usual, defects, share)
    return tolerance_limit(usual, int(share * len(usual)))


def _own(named: NDArray[np.int64], sure: NDArray[np.bool_], classes: int, most: int) -> NDArray[np.intp]:
    """Return up to `most` of the surely named pictures of each class, spread over time."""
    rows = []
    for c in range(classes):
        candidates = np.flatnonzero(sure & (named == c))
        places = np.linspace(0, len(candidates) - 1, min(len(candidates), most))
        rows.append(candidates[places.astype(int)])
    return np.concatenate(rows).astype(np.intp)
