"""A camera's picture as parts are looked for in it: the region alone, a few thousand pixels."""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from camera.core.frame import Image, Shares

LONG_SIDE: Final = 192
"""Pixels of the longer side of the small picture; a part of 0.5 % of the region still has 100 pixels."""

Small = NDArray[np.float32]
"""``(h, w, 3)`` float32, 0..255: the region at most `LONG_SIDE` px long, slightly blurred."""


def pixel_box(region: Shares, height: int, width: int) -> tuple[int, int, int, int]:
    """Return left, top, right, bottom in pixels of a region given in shares; at least one pixel each way."""
    left, top = int(region[0] * width), int(region[1] * height)
    right, bottom = round(region[2] * width), round(region[3] * height)
    return left, top, max(right, left + 1), max(bottom, top + 1)


def small_picture(image: Image, region: Shares) -> Small:
    """Return the region of a picture, made small.

    Args:
        image: ``(H, W, 3)`` uint8.
        region: left, top, right, bottom in shares of it.
    """
    left, top, right, bottom = pixel_box(region, *image.shape[:2])
    cut = image[top:bottom, left:right]
    height, width = cut.shape[:2]
    scale = min(1.0, LONG_SIDE / max(height, width))
    # Averaging over every pixel of a 1080p picture takes longer than all that follows; over every second one
    # or third, at least twice as many as are wanted, it removes the noise just as well.
    step = max(1, int(0.5 / scale))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    small = cv2.resize(np.ascontiguousarray(cut[::step, ::step]), size, interpolation=cv2.INTER_AREA)
    return cv2.GaussianBlur(small, (3, 3), 0).astype(np.float32)
