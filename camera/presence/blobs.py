"""Things in one picture: connected places that are not the empty belt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from camera.core.presence_settings import Direction
from camera.presence.background import Mask

_JOIN: Final = np.ones((3, 3), np.uint8)
_SPECK: Final = np.ones((2, 2), np.uint8)
_NECK: Final = (0.45, 0.6, 0.75, 0.85)
"""Shares of the greatest depth at which a thing is tried to fall apart."""
_LEAST_PIECE: Final = 0.4
"""Of two parts that touch the smaller has at least this share of the area of an equal half."""


@dataclass(frozen=True, slots=True, eq=False)
class Blob:
    """One thing in one picture, in pixels of the small picture.

    Attributes:
        mask: where it is.
        area: pixels.
        centre: x, y.
        box: left, top, right, bottom, the last two exclusive.
        inside: no edge of the picture cuts it, as far as parts may come and go there.
    """

    mask: Mask
    area: int
    centre: tuple[float, float]
    box: tuple[int, int, int, int]
    inside: bool

    @property
    def size(self) -> float:
        """Its diagonal, px."""
        left, top, right, bottom = self.box
        return float(np.hypot(right - left, bottom - top))


def blob_of(mask: Mask, direction: Direction) -> Blob:
    """Return all that a mask holds as one thing.

    Args:
        mask: with at least one place.
        direction: where parts go; those that go left and right may well reach the upper and lower edges.
    """
    left, top, width, height = cv2.boundingRect(mask)
    moments = cv2.moments(mask, binaryImage=True)
    centre = moments["m10"] / moments["m00"], moments["m01"] / moments["m00"]
    right, bottom = left + width, top + height
    across = left > 0 and right < mask.shape[1]
    along = top > 0 and bottom < mask.shape[0]
    inside = {"any": across and along, "left": across, "right": across}.get(direction, along)
    return Blob(mask, int(moments["m00"]), centre, (left, top, right, bottom), inside)


def find_blobs(differs: Mask, least: float, direction: Direction) -> list[Blob]:
    """Return the things of at least `least` pixels, the largest first."""
    whole = cv2.morphologyEx(differs, cv2.MORPH_OPEN, _SPECK)
    # Beyond the edge there is nothing: without a border of our own a part near it would be joined to it.
    whole = cv2.copyMakeBorder(whole, 4, 4, 4, 4, cv2.BORDER_CONSTANT, value=0)
    whole = cv2.morphologyEx(whole, cv2.MORPH_CLOSE, _JOIN)[4:-4, 4:-4]
    # A bore through which the belt is seen belongs to the part.
    outlines, _tree = cv2.findContours(whole, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    whole = cv2.drawContours(np.zeros_like(whole), outlines, -1, 1, cv2.FILLED)
    _count, labels, stats, _centres = cv2.connectedComponentsWithStats(whole, connectivity=8)
    found = [n for n in range(1, len(stats)) if stats[n, cv2.CC_STAT_AREA] >= least]
    found.sort(key=lambda n: -int(stats[n, cv2.CC_STAT_AREA]))
    return [blob_of((labels == number).astype(np.uint8), direction) for number in found]


def divide(blob: Blob, centres: Sequence[tuple[float, float]], direction: Direction) -> list[Blob | None]:
    """Return the piece of a thing that is nearest to each of several centres; None where nothing is left."""
    ys, xs = np.nonzero(blob.mask)
    nearest = np.argmin([(xs - x) ** 2 + (ys - y) ** 2 for x, y in centres], axis=0)
    return [_piece(blob.mask.shape, ys, xs, nearest == n, direction) for n in range(len(centres))]


def fall_apart(blob: Blob, parts: int, direction: Direction) -> list[Blob]:
    """Return the parts that a thing is made of which touch each other: it is divided at its necks.

    Args:
        parts: at most so many.

    Returns:
        The thing itself where it has no neck, or the pieces would be of very different sizes.
    """
    depth = cv2.distanceTransform(
        cv2.copyMakeBorder(blob.mask, 1, 1, 1, 1, cv2.BORDER_REPLICATE), cv2.DIST_L2, 3
    )
    depth = depth[1:-1, 1:-1]
    for share in _NECK:
        cores = (depth > share * float(depth.max())).astype(np.uint8)
        count, _labels, stats, centres = cv2.connectedComponentsWithStats(cores)
        kept = [n for n in range(1, count) if stats[n, cv2.CC_STAT_AREA] >= 3]
        if not 2 <= len(kept) <= parts:
            continue
        pieces = divide(blob, [(float(centres[n][0]), float(centres[n][1])) for n in kept], direction)
        whole = [piece for piece in pieces if piece is not None]
        if min(piece.area for piece in whole) * len(whole) >= _LEAST_PIECE * blob.area:
            return whole
    return [blob]


def _piece(
    shape: tuple[int, ...],
    ys: NDArray[np.intp],
    xs: NDArray[np.intp],
    where: NDArray[np.bool_],
    direction: Direction,
) -> Blob | None:
    if not where.any():
        return None
    mask = np.zeros(shape, np.uint8)
    mask[ys[where], xs[where]] = 1
    return blob_of(mask, direction)
