"""Which pictures of a part are the best ones: those that show all of it, sharp and at rest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np

from camera.core.frame import Capture, Image, Shares
from camera.presence.small_picture import pixel_box
from camera.presence.track import Track

_CLEAR: Final = 0.2
"""Of the region's side: farther from an edge than this is no better."""
_LOOK_PX: Final = 256


@dataclass(frozen=True, slots=True, eq=False)
class Candidate:
    """A picture of a part, and how good it is.

    Attributes:
        capture: the whole picture.
        score: larger is better; comparable among pictures of one part alone.
        box: where the part is, in shares of the whole picture.
    """

    capture: Capture
    score: float
    box: Shares


def rate(image: Image, region: Shares, track: Track) -> float:
    """Return how good a picture of a part is that no edge cuts.

    Doubling the sharpness is worth as much as being a tenth of the region farther from its edges, up to a
    fifth, or as standing still after moving by a part's length in each picture.
    """
    height, width = track.blob.mask.shape
    left, top, right, bottom = track.blob.box
    # Of an edge that the part always reaches nothing can be said; the nearer one of the others counts.
    gaps = [gap for gap in (left / width, 1 - right / width, top / height, 1 - bottom / height) if gap > 0]
    clear = min(min(gaps, default=0.0), _CLEAR) / _CLEAR
    speed = min(1.0, float(np.hypot(*track.velocity)) / max(track.blob.size, 1.0))
    x0, y0, x1, y1 = pixel_box(region, *image.shape[:2])
    across, along = (x1 - x0) / width, (y1 - y0) / height
    cut = image[
        y0 + int(top * along) : y0 + int(bottom * along),
        x0 + int(left * across) : x0 + int(right * across),
        1,
    ]
    step = max(1, max(cut.shape) // _LOOK_PX)
    edges = cv2.Laplacian(np.ascontiguousarray(cut[::step, ::step]), cv2.CV_16S)
    sharp = float(cv2.meanStdDev(edges)[1][0, 0]) if edges is not None and edges.size else 0.0
    return float(np.log2(1.0 + sharp)) + 2.0 * clear - speed


def keep_best(kept: tuple[Candidate, ...], new: Candidate, most: int) -> tuple[Candidate, ...]:
    """Return the best `most` of some pictures and one more, in the order of capture."""
    if len(kept) < most:
        return (*kept, new)
    worst = min(kept, key=lambda one: one.score)
    if new.score <= worst.score:
        return kept
    return (*(one for one in kept if one is not worst), new)
