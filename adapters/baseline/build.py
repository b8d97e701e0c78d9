"""The commission: makes a `Commissioning` from what was seen of the clean line and what a person labelled."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from adapters.baseline.baseline import Commissioning, CommissioningError, ReferenceSamples, clean_half
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
    station: str,
    weights: str,
    recipe: str,
    labels: Sequence[str],
    fails: NDArray[np.bool_],
    made_at: str,
    false_rejects: float = 0.01,
    measured: MeasuredWith | None = None,
) -> Commissioning:
    """Fix what the clean line is like.

    Args:
        seen: of the clean line in the order of the parts, defects as they come.
        golden: parts that a person labelled; without them the model's sure names are taken.
        golden_scores: ``(K,)`` log-odds of a defect of each golden part by the frozen model.
        false_rejects: at most this share of good parts is to be rejected.
        measured: what saw them.

    Raises:
        CommissioningError: too little was seen.
    """
    scores = np.array([one.score for one in seen], np.float32)
    pictures = np.stack([one.picture for one in seen])
    named = np.array([one.label for one in seen], np.int64)
    sure = np.array([one.entropy for one in seen]) < SURE * np.log(len(labels))
    by: Literal["golden", "model"] = "model" if golden is None else "golden"
    rows = _own(named, sure, len(labels), KNOWN_PER_CLASS if golden is None else BESIDE_GOLDEN)
    known, known_scores = ReferenceSamples(pictures[rows], named[rows]), scores[rows]
    if golden is not None and golden_scores is not None:
        both = np.concatenate([golden.pictures, known.pictures])
        known = ReferenceSamples(both, np.concatenate([golden.classes, known.classes]))
        known_scores = np.concatenate([golden_scores, known_scores])
    good = np.flatnonzero(sure & ~fails[named])
    if len(good) < GOOD:
        raise CommissioningError(
            f"station {station}: {len(good)} of {len(seen)} parts are surely good, {GOOD} are needed:"
            " is the line clean, and do the recipe's words fit its parts?"
        )
    spread = good[np.linspace(0, len(good) - 1, GOOD).astype(int)]
    defects = known_scores[fails[known.classes]]
    usual = scores[~fails[named]]
    if len(defects):
        offset = separate(usual, defects, false_rejects)
        missed = float((defects < offset).mean())
    else:
        offset, missed = float(np.quantile(usual, 1 - false_rejects)), float("nan")
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
            "known_parts": float(len(known.classes)),
            "known_defects": float(len(defects)),
            "false_rejects": float((usual >= offset).mean()),
            "rejects": float((scores >= offset).mean()),
            "missed": missed if len(defects) else -1.0,
            "good_score": float(np.median(usual)),
            "defect_score": float(np.median(defects)) if len(defects) else -1.0,
        },
        measured=measured,
    )


def _own(named: NDArray[np.int64], sure: NDArray[np.bool_], classes: int, most: int) -> NDArray[np.intp]:
    """Return up to `most` of the surely named pictures of each class, spread over time."""
    rows = []
    for c in range(classes):
        candidates = np.flatnonzero(sure & (named == c))
        places = np.linspace(0, len(candidates) - 1, min(len(candidates), most))
        rows.append(candidates[places.astype(int)])
    return np.concatenate(rows).astype(np.intp)
