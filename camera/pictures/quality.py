"""Is a picture fit to be judged? Black, saturated, blurred, frozen, stale: decided without any model."""

from __future__ import annotations

import cv2
import numpy as np

from camera.core.frame import Fault, Image, Quality
from camera.core.settings import QualityLimits
from camera.pictures.preprocess import MAX_ASPECT
from camera.pictures.region import Mask
from camera.pictures.view import spans

# Sharpness is measured on a picture of this size, so that it means the same for every camera.
GLANCE_PX = 320
MIN_SIDE_PX = 16
"""Of what is looked at: the model sees patches of about that size, less would be blown up to say anything."""
_NEIGHBOURS = np.ones((3, 3), dtype=np.uint8)


def assess(image: Image, limits: QualityLimits, seen: Mask | None = None) -> Quality:
    """Measure a picture and say whether it is black, saturated or blurred.

    Args:
        image: ``(H, W, 3)`` uint8 RGB.
        limits: None switches a check off.
        seen: where the picture is not masked; what is masked neither darkens nor sharpens it.
    """
    small, seen = _glance(image, seen)
    grey = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY)
    edges = cv2.Laplacian(grey, cv2.CV_32F)
    # Masked edges are the mask's, not the picture's: the middle of each 3 x 3 must be seen all around.
    inner = None if seen is None else cv2.erode(seen, _NEIGHBOURS)
    luma = float(cv2.mean(grey, seen)[0])
    sharpness = float(cv2.meanStdDev(edges, mask=inner)[1][0, 0]) ** 2
    return Quality(luma, sharpness, _fault(luma, sharpness, limits))


def too_small(image: Image, tiles: tuple[int, int] = (1, 1)) -> str:
    """Say why the shape of a picture makes it none of a part; empty where it may be judged.

    Args:
        image: the region.
        tiles: columns and rows that it is judged in.
    """
    height, width = image.shape[:2]
    return unfit_shape(width, height, tiles)


def unfit_shape(width: int, height: int, tiles: tuple[int, int] = (1, 1)) -> str:
    """Say the same of a region of which only the size in pixels is known."""
    if tiles != (1, 1):
        wide, high = spans(width, tiles[0])[0][1], spans(height, tiles[1])[0][1]
        if min(high, wide) < MIN_SIDE_PX or max(high, wide) > MAX_ASPECT * min(high, wide):
            return (
                f"tiles of {wide} x {high} pixels of {width} x {height}: at least {MIN_SIDE_PX} on each side"
                f" are needed, and none longer than {MAX_ASPECT} times the other: set fewer tiles"
            )
        return ""
    if min(height, width) < MIN_SIDE_PX:
        return f"{width} x {height} pixels are looked at: at least {MIN_SIDE_PX} on each side are needed"
    if max(height, width) > MAX_ASPECT * min(height, width):
        return f"{width} x {height} pixels are looked at: longer than {MAX_ASPECT} times its other side"
    return ""


def is_stale(captured_ns: int, now_ns: int, limits: QualityLimits) -> bool:
    """Say whether a picture is too old to be judged. Both times are ``time.monotonic_ns()``."""
    return limits.stale_s is not None and now_ns - captured_ns > limits.stale_s * 1e9


class FreezeWatch:
    """Notices that a live camera keeps sending the very same picture.

    Owns the last picture that differed from the one before. One thread.
    """

    def __init__(self, limits: QualityLimits) -> None:
        self._frozen_s = limits.frozen_s
        self._last: Image | None = None
        self._since_ns = 0

    def frozen(self, image: Image, captured_ns: int) -> bool:
        """Say whether every picture of the last `frozen_s` was equal to `image`, to the last bit."""
        if self._frozen_s is None:
            return False
        if self._last is None or not _equal(image, self._last):
            self._last = image
            self._since_ns = captured_ns
        return captured_ns - self._since_ns >= self._frozen_s * 1e9


def _glance(image: Image, seen: Mask | None) -> tuple[Image, Mask | None]:
    """Return both scaled down to at most `GLANCE_PX`, half-masked pixels counted as masked."""
    height, width = image.shape[:2]
    scale = GLANCE_PX / max(height, width)
    if scale >= 1:
        return image, seen
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
    if seen is None:
        return small, None
    partly = cv2.resize(seen, size, interpolation=cv2.INTER_AREA)
    return small, np.where(partly == 255, np.uint8(255), np.uint8(0))


def _fault(luma: float, sharpness: float, limits: QualityLimits) -> Fault | None:
    if limits.min_luma is not None and luma < limits.min_luma:
        return Fault.BLACK
    if limits.max_luma is not None and luma > limits.max_luma:
        return Fault.SATURATED
    if limits.min_sharpness is not None and sharpness < limits.min_sharpness:
        return Fault.BLURRED
    return None


def _equal(image: Image, other: Image) -> bool:
    # Every 16th pixel first: sensor noise tells two pictures of the same scene apart at once.
    return (
        image.shape == other.shape
        and np.array_equal(image[::16, ::16], other[::16, ::16])
        and np.array_equal(image, other)
    )
