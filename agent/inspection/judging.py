"""Parts through the model: their tiles together, and of each part the tile that decides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from adapters.core.adapter import Adapter
from adapters.core.protocol import Engine, Floats
from agent.inspection.predictor import Predictor
from agent.inspection.station_plan import StationPlan

MOST_PICTURES = 128
"""That go through the model in one call, unless more parts without tiles may: what one part of 8 x 8 tiles
takes that the source model sees too. More at once are no faster per picture, and take memory accordingly."""


@dataclass(frozen=True, slots=True, eq=False)
class JudgedPart:
    """One part through the model.

    Attributes:
        predictor: what answers.
        scores: ``(C,)`` what it says of the tile that decides.
        tile: which of the part's pictures that is, from 0.
        source: ``(C,)`` what the source model says at the commissioned operating point of the tile that would
            decide by it; None where it did not see the part.
        source_tile: which one that is.
        feature: ``(D,)`` of that by the source model, or None.
    """

    predictor: Predictor
    scores: Floats
    tile: int
    source: Floats | None
    source_tile: int
    feature: Floats | None


def judge_parts(
    engine: Engine,
    parts: Sequence[Floats],
    plans: Sequence[StationPlan],
    shadowed: Sequence[bool],
    most: int = MOST_PICTURES,
) -> list[JudgedPart]:
    """Judge parts, each by its own station's recipe and adapter; one `JudgedPart` each, in order.

    What answers and the source model each have a tile of their own that decides. Drift and learner get the
    source model's: their baseline was measured with it, and what is learned must not choose what is measured.

    Args:
        engine: encodes.
        parts: ``(T, 3, S, S)`` as the model takes them.
        plans: of their stations.
        shadowed: which of them the source model sees too, where it is not the one that answers.
        most: pictures that may go through the model in one call.
    """
    # One look at what answers per station: no part of the batch gets a mixture of two versions.
    now = {id(plan): plan.answering() for plan in plans}
    predictors = [now[id(plan)] for plan in plans]
    same = [
        predictor.adapter.digest == plan.frozen.adapter.digest
        for plan, predictor in zip(plans, predictors, strict=True)
    ]
    other = [row for row, is_same in enumerate(same) if shadowed[row] and not is_same]
    pixels = [*parts, *(parts[row] for row in other)]
    adapters = [predictor.adapter for predictor in predictors]
    adapters += [plans[row].frozen.adapter for row in other]
    features = encode(engine, pixels, adapters, most)
    frozen: list[Floats | None] = [
        feature if is_same else None for feature, is_same in zip(features, same, strict=False)
    ]
    for row, feature in zip(other, features[len(plans) :], strict=True):
        frozen[row] = feature
    scale = engine.info.logit_scale
    return [
        _judged(plan, predictor, feature, before, scale)
        for plan, predictor, feature, before in zip(plans, predictors, features, frozen, strict=False)
    ]


def encode(
    engine: Engine, parts: Sequence[Floats], adapters: Sequence[Adapter], most: int = MOST_PICTURES
) -> list[Floats]:
    """Return ``(T, D)`` features of each part, not normalised; the pictures of a part are never divided.

    Args:
        engine: encodes.
        parts: ``(T, 3, S, S)`` each.
        adapters: of the parts.
        most: pictures in one call; a part that has more goes alone.
    """
    found: list[Floats] = []
    while len(found) < len(parts):
        first = last = len(found)
        count = 0
        while last < len(parts) and (last == first or count + len(parts[last]) <= most):
            count += len(parts[last])
            last += 1
        chosen = zip(parts[first:last], adapters[first:last], strict=True)
        together = [adapter for part, adapter in chosen for _ in part]
        features = engine.encode_image(np.concatenate(parts[first:last]), together)  # (count, D)
        ends = np.cumsum([len(part) for part in parts[first:last]])[:-1]
        found += np.split(features, ends)
    return found


def decided_by(predictor: Predictor, features: Floats, logit_scale: float) -> tuple[int, Floats]:
    """Return which picture of a part decides, and ``(C,)`` what is said of it.

    Args:
        predictor: what answers.
        features: ``(T, D)`` of the part's pictures, not normalised.
        logit_scale: of the model.
    """
    scores = [predictor.probabilities(feature, logit_scale) for feature in features]
    tile = worst(np.stack(scores), predictor.fails)
    return tile, scores[tile]


def worst(scores: Floats, fails: NDArray[np.bool_]) -> int:
    """Return which of a part's pictures decides: the one most likely to show a defect; the first of equals.

    A picture of which the model says nothing finite decides before all others: the part is not inspected.
    Where all classes fail, or none does, the picture decides that the model is surest of.

    Args:
        scores: ``(T, C)`` probabilities.
        fails: ``(C,)`` which classes are defects.
    """
    if len(scores) == 1:
        return 0
    wide = scores.astype(np.float64)
    if fails.all() or not fails.any():
        return int(wide.max(axis=1).argmax())  # the largest of NaN is NaN, and NaN is the largest
    bad, good = wide[:, fails].sum(axis=1), wide[:, ~fails].sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        # Odds: near 1 the sums are equal in float32, while what is left to the others is not.
        return int((bad / good).argmax())


def _judged(
    plan: StationPlan, predictor: Predictor, features: Floats, frozen: Floats | None, scale: float
) -> JudgedPart:
    tile, scores = decided_by(predictor, features, scale)
    if frozen is None:
        return JudgedPart(predictor, scores, tile, None, tile, None)
    if predictor.answers_like(plan.frozen):
        return JudgedPart(predictor, scores, tile, scores, tile, frozen[tile])
    place, source = decided_by(plan.frozen, frozen, scale)
    return JudgedPart(predictor, scores, tile, source, place, frozen[place])
