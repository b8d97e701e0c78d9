"""Parts through the model: their tiles together, and of each part the tile that decides."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from adapters.core.adapter import Adapter
from adapters.core.patches import TokenEngine
from adapters.core.protocol import Engine, Floats
from agent.config.recipes import CLIP
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
        patches: ``(T, h, w, P)`` of the part by the source model, to be compared with a reference; None where
            nobody compares them.
    """

    predictor: Predictor
    scores: Floats
    tile: int
    source: Floats | None
    source_tile: int
    feature: Floats | None
    patches: Floats | None = None


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
    wanted = [_wants_patches(plan, engine) for plan in plans]
    other = [row for row, is_same in enumerate(same) if not is_same and (shadowed[row] or wanted[row])]
    pixels = [*parts, *(parts[row] for row in other)]
    adapters = [predictor.adapter for predictor in predictors]
    adapters += [plans[row].frozen.adapter for row in other]
    # Of each part the patches come from the pass that the source model sees.
    patched = [want and is_same for want, is_same in zip(wanted, same, strict=True)]
    patched += [wanted[row] for row in other]
    seen = encode_patched(engine, pixels, adapters, patched, most)
    by_source: list[tuple[Floats, Floats | None] | None] = [
        one if is_same else None for one, is_same in zip(seen, same, strict=False)
    ]
    for row, one in zip(other, seen[len(plans) :], strict=True):
        by_source[row] = one
    scale = engine.info.logit_scale
    judged = []
    for row, (plan, predictor) in enumerate(zip(plans, predictors, strict=True)):
        before, patches = by_source[row] or (None, None)
        shown = before if same[row] or shadowed[row] else None
        said = _judged(plan, predictor, seen[row][0], shown, scale)
        judged.append(said if patches is None else replace(said, patches=patches))
    return judged


def _wants_patches(plan: StationPlan, engine: Engine) -> bool:
    """Whether a part of this plan is compared by what the same pass of the model gives."""
    reference = plan.reference
    return (
        reference is not None
        and reference.features == CLIP
        and isinstance(engine, TokenEngine)
        and reference.answering() is not None
    )


def encode_patched(
    engine: Engine,
    parts: Sequence[Floats],
    adapters: Sequence[Adapter],
    patched: Sequence[bool],
    most: int = MOST_PICTURES,
) -> list[tuple[Floats, Floats | None]]:
    """Return ``(T, D)`` features of each part, and ``(T, h, w, P)`` patches of those that are asked for them.

    Args:
        engine: encodes; a `TokenEngine` where patches are asked for.
        parts: ``(T, 3, S, S)`` each.
        adapters: of the parts.
        patched: which of them.
        most: pictures in one call; a part that has more goes alone.
    """
    found: list[tuple[Floats, Floats | None]] = [(np.empty(0, np.float32), None)] * len(parts)
    for with_patches in (False, True):
        rows = [row for row, one in enumerate(patched) if one is with_patches]
        chosen, theirs = [parts[row] for row in rows], [adapters[row] for row in rows]
        if rows and with_patches:
            assert isinstance(engine, TokenEngine)
            both = _chunked(engine.encode_with_patches, chosen, theirs, most)
            for row, features, patches in zip(rows, *both, strict=True):
                found[row] = features, patches
        else:
            for row, features in zip(rows, encode(engine, chosen, theirs, most), strict=True):
                found[row] = features, None
    return found


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

    def one_pass(pixels: Floats, together: Sequence[Adapter]) -> tuple[Floats]:
        return (engine.encode_image(pixels, together),)

    return _chunked(one_pass, parts, adapters, most)[0] if parts else []


_Pass = Callable[[Floats, Sequence[Adapter]], tuple[Floats, ...]]
"""Pictures, an adapter each -> what one call gives, one row for each picture."""


def _chunked(
    one_pass: _Pass, parts: Sequence[Floats], adapters: Sequence[Adapter], most: int
) -> list[list[Floats]]:
    """Return for each output of a pass its rows of each part."""
    found: list[list[Floats]] = []
    done = 0
    while done < len(parts):
        first = last = done
        count = 0
        while last < len(parts) and (last == first or count + len(parts[last]) <= most):
            count += len(parts[last])
            last += 1
        chosen = zip(parts[first:last], adapters[first:last], strict=True)
        together = [adapter for part, adapter in chosen for _ in part]
        outputs = one_pass(np.concatenate(parts[first:last]), together)  # (count, ...) each
        ends = np.cumsum([len(part) for part in parts[first:last]])[:-1]
        found = found or [[] for _ in outputs]
        for rows, output in zip(found, outputs, strict=True):
            rows += np.split(output, ends)
        done = last
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
