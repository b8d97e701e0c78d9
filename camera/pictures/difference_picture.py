"""Where a part differs from good ones, drawn over its picture in colours: blue a little, red far beyond."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from camera.core.frame import CameraError, Image, Shares
from camera.pictures.images import scaled_down
from camera.pictures.view import ViewName

_FAINT: Final = 0.75
"""Below it a place keeps its own colour; good parts have places up to 1."""
_FULL: Final = 2.0
"""From here on a place is as red as it gets."""
_OPAQUE: Final = 0.6
"""Of the colour at `_FULL`: the part stays visible under it."""

Scores = NDArray[np.float32]


def draw_difference(
    image: Image,
    maps: Scores,
    tiles: Sequence[Shares],
    view: ViewName,
    *,
    max_width_px: int,
) -> Image:
    """Return a picture with the places that differ in colour; what differs little keeps its own.

    Args:
        image: ``(H, W, 3)`` uint8 RGB, the region of interest.
        maps: ``(T, h, w)`` scores of the places of the squares that were looked at; 1 is as far from good
            parts as the farthest place of one.
        tiles: of the squares, in shares of the region.
        view: how each tile became its square.
        max_width_px: the picture is scaled down to this width where it is wider.
    """
    picture = scaled_down(image, max_width_px)
    height, width = picture.shape[:2]
    scores = np.zeros((height, width), np.float32)
    for one, (left, top, right, bottom) in zip(maps, tiles, strict=True):
        x, y = min(round(left * width), width - 1), min(round(top * height), height - 1)
        wide = max(1, min(round(right * width), width) - x)
        high = max(1, min(round(bottom * height), height) - y)
        place = scores[y : y + high, x : x + wide]
        np.maximum(place, over_tile(one, wide, high, view), out=place)
    far = np.nan_to_num(scores, nan=_FULL, posinf=_FULL)
    strength = np.clip((far - _FAINT) / (_FULL - _FAINT), 0, 1)
    colours = cv2.applyColorMap((255 * strength).astype(np.uint8), cv2.COLORMAP_TURBO)[:, :, ::-1]
    opacity = (_OPAQUE * strength)[:, :, np.newaxis]
    return np.asarray(picture * (1 - opacity) + colours * opacity, dtype=np.uint8)


def over_tile(scores: Scores, width: int, height: int, view: ViewName) -> Scores:
    """Return ``(height, width)`` scores of a tile, given ``(h, w)`` of the square that it became.

    What a cut left out has 0: nobody looked there.

    Args:
        scores: of the square.
        width: of the tile in pixels.
        height: of the tile in pixels.
        view: how the tile became the square.
    """
    if view == "fill":
        return _resized(scores, width, height)
    if view == "fit":
        side = max(width, height)
        top, left = (side - height) // 2, (side - width) // 2
        return _resized(scores, side, side)[top : top + height, left : left + width]
    side = min(width, height)
    top, left = (height - side) // 2, (width - side) // 2
    seen = np.zeros((height, width), np.float32)
    seen[top : top + side, left : left + side] = _resized(scores, side, side)
    return seen


def encode_png(image: Image) -> bytes:
    """Return ``(H, W, 3)`` uint8 RGB as a PNG.

    Raises:
        CameraError: OpenCV cannot.
    """
    done, encoded = cv2.imencode(".png", image[:, :, ::-1])
    if not done:
        raise CameraError("a map cannot be encoded as PNG")
    return encoded.tobytes()


def _resized(scores: Scores, width: int, height: int) -> Scores:
    return np.asarray(cv2.resize(scores, (width, height), interpolation=cv2.INTER_LINEAR), dtype=np.float32)
