"""Parts beside good ones: through the backbone together, each judged by the reference of its product."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np

from adapters.core.patches import PatchExtractor
from adapters.core.protocol import Floats
from adapters.reference.reference import Anomaly, Reference
from agent.domain.comparison import Box, Comparison, DifferenceMap
from agent.inspection.reference_plan import ReferencePlan
from camera.core.frame import Frame
from camera.pictures.framing import in_picture, in_tile
from camera.pictures.view import ViewName

MOST_AT_ONCE = 16
"""Pictures that go through a backbone in one call, unless one part has more tiles: beyond that none is faster
per picture, and memory grows with them."""


@dataclass(frozen=True, slots=True, eq=False)
class ComparedPart:
    """One part beside the good ones.

    Attributes:
        reference: that it was compared with.
        comparison: what that says.
        tile: which of the part's pictures differs most, from 0.
        difference: of each place.
    """

    reference: Reference
    comparison: Comparison
    tile: int
    difference: DifferenceMap


def compare_parts(
    frames: Sequence[Frame],
    plans: Sequence[ReferencePlan | None],
    seen: Sequence[Floats | None] | None = None,
    most: int = MOST_AT_ONCE,
) -> list[ComparedPart | None]:
    """Compare parts, each with the reference of its own product; None where there is none in force.

    Args:
        frames: with a picture to judge.
        plans: of their products.
        seen: ``(T, h, w, D)`` patches of the parts of which the model gave them already, None of the others.
        most: pictures that may go through a backbone in one call.
    """
    found: list[ComparedPart | None] = [None] * len(frames)
    answering: dict[int, Reference | None] = {
        id(plan): plan.answering() for plan in plans if plan is not None
    }
    asked: dict[int, list[int]] = {}
    for row, plan in enumerate(plans):
        reference = None if plan is None else answering[id(plan)]
        patches = None if seen is None else seen[row]
        if plan is None or reference is None:
            continue
        if patches is not None:
            found[row] = _of_frame(frames[row], plan, patches, reference)
        elif plan.pixels(frames[row]) is not None:
            asked.setdefault(id(plan.extractor), []).append(row)
    for rows in asked.values():
        chosen = [(row, cast(ReferencePlan, plans[row])) for row in rows]
        pixels = [cast(Floats, plan.pixels(frames[row])) for row, plan in chosen]
        made = patches_of(chosen[0][1].extractor, pixels, most)
        for (row, one), features in zip(chosen, made, strict=True):
            found[row] = _of_frame(frames[row], one, features, cast(Reference, answering[id(one)]))
    return found


def patches_of(extractor: PatchExtractor, parts: Sequence[Floats], most: int = MOST_AT_ONCE) -> list[Floats]:
    """Return ``(T, h, w, D)`` features of each part of ``(T, 3, R, R)``; a part is never divided.

    Args:
        extractor: makes them.
        parts: at least one.
        most: pictures in one call; a part that has more goes alone.
    """
    found: list[Floats] = []
    while len(found) < len(parts):
        first = last = len(found)
        count = 0
        while last < len(parts) and (last == first or count + len(parts[last]) <= most):
            count += len(parts[last])
            last += 1
        features = extractor.patches(np.concatenate(parts[first:last]))
        found += np.split(features, np.cumsum([len(part) for part in parts[first:last]])[:-1])
    return found


def compared(
    patches: Floats,
    reference: Reference,
    *,
    size: tuple[int, int],
    tiles: tuple[Box, ...],
    crop: Box,
    view: ViewName,
) -> ComparedPart:
    """Return what a reference says of one part, its place in the camera's whole picture.

    Args:
        patches: ``(T, h, w, D)`` of its tiles.
        reference: of its product.
        size: width and height of the region in pixels.
        tiles: in shares of the region.
        crop: of the region, in shares of the picture.
        view: how the tiles became what the backbone saw.
    """
    with np.errstate(invalid="ignore", over="ignore"):  # what is no number is told by the score
        anomaly = reference.judge(patches)
    comparison = Comparison(
        anomaly.score,
        reference.threshold,
        place(anomaly, size, tiles, crop, view),
        reference.digest,
        reference.samples,
    )
    difference = DifferenceMap(anomaly.maps, tiles, view)
    return ComparedPart(reference, comparison, anomaly.tile, difference)


def place(
    anomaly: Anomaly, size: tuple[int, int], tiles: Sequence[Box], crop: Box, view: ViewName
) -> Box | None:
    """Return what differs most, in shares of the camera's picture; None where no place stands out.

    Args:
        anomaly: whose box is in shares of a square that the backbone saw.
        size: width and height of the region in pixels.
        tiles: in shares of the region.
        crop: of the region, in shares of the picture.
        view: how the tiles became squares.
    """
    if anomaly.box is None:
        return None
    left, top, right, bottom = tile = tiles[anomaly.tile]
    width, height = round((right - left) * size[0]), round((bottom - top) * size[1])
    return in_picture(in_picture(in_tile(anomaly.box, width, height, view), tile), crop)


def _of_frame(frame: Frame, plan: ReferencePlan, patches: Floats, reference: Reference) -> ComparedPart:
    """Return what a reference says of a frame."""
    height, width = (1, 1) if frame.image is None else frame.image.shape[:2]
    return compared(
        patches,
        reference,
        size=(width, height),
        tiles=_in_region(frame),
        crop=frame.roi.crop,
        view=cast(ViewName, plan.view(frame)),
    )


def _in_region(frame: Frame) -> tuple[Box, ...]:
    """Return the tiles of a frame in shares of its region."""
    if not frame.tiles:
        return ((0.0, 0.0, 1.0, 1.0),)
    left, top, right, bottom = frame.roi.crop
    wide, high = right - left, bottom - top
    return tuple(
        ((one[0] - left) / wide, (one[1] - top) / high, (one[2] - left) / wide, (one[3] - top) / high)
        for one in frame.tiles
    )
