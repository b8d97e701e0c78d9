"""What of a picture is looked at: the crop, and the masks that nobody sees behind."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from camera.core.frame import CameraError, Image
from camera.core.kept_region import KeptRegion
from camera.core.settings import RegionOfInterest

Mask = NDArray[np.uint8]
"""``(H, W)``, 255 where the picture is looked at, 0 where it is masked."""

_SHIFT = 4  # fractional bits of cv2's polygon corners


class OtherRegion(CameraError):
    """A kept picture shows another region than the one that is looked at now."""


class Region:
    """Cuts the region of interest out of pictures of any size.

    Owns the mask for the size of the last picture. One thread.
    """

    def __init__(self, roi: RegionOfInterest) -> None:
        self._roi = roi
        self._size = (0, 0)
        self._seen: Mask | None = None

    def cut(self, image: Image, kept: KeptRegion | None = None) -> tuple[Image, Mask | None]:
        """Return the crop of `image` with its masks burnt to black, and where it is not masked.

        Without masks the second is None; without a crop the first is `image` itself. A picture that was kept
        of this very region is cut already.

        Args:
            image: of the camera, or one that was kept.
            kept: what it shows, where it says so.

        Raises:
            OtherRegion: it was kept of another region.
        """
        if kept is not None and not kept.whole:
            return self._cut_before(image, kept)
        height, width = image.shape[:2]
        left, top, right, bottom = _box(self._roi, height, width)
        crop = image[top:bottom, left:right]
        if not self._roi.masks:
            # A copy, so that a small crop does not keep a large picture in memory.
            return (image if crop.shape == image.shape else _frozen(crop.copy())), None
        if self._size != (height, width):
            self._seen = _seen(self._roi, height, width)[top:bottom, left:right].copy()
            self._size = (height, width)
        return _frozen(np.asarray(cv2.bitwise_and(crop, crop, mask=self._seen), dtype=np.uint8)), self._seen

    def _cut_before(self, image: Image, kept: KeptRegion) -> tuple[Image, Mask | None]:
        if not kept.shows(self._roi):
            raise OtherRegion(
                f"station {kept.station} kept it when crop and masks were others"
                f" (its crop was {list(kept.crop)}): take the camera's whole picture"
            )
        if not self._roi.masks:
            return image, None
        height, width = image.shape[:2]
        seen = _seen(self._roi, height, width, self._roi.crop)
        # Burnt in again: JPEG has smeared their edges.
        return _frozen(np.asarray(cv2.bitwise_and(image, image, mask=seen), dtype=np.uint8)), seen


def region_size(roi: RegionOfInterest, width: int, height: int) -> tuple[int, int]:
    """Return width and height in pixels of the region of a picture of this size."""
    left, top, right, bottom = _box(roi, height, width)
    return right - left, bottom - top


def _box(roi: RegionOfInterest, height: int, width: int) -> tuple[int, int, int, int]:
    """Return left, top, right, bottom in pixels, at least one pixel wide and high."""
    left = min(round(roi.crop[0] * width), width - 1)
    top = min(round(roi.crop[1] * height), height - 1)
    right = max(round(roi.crop[2] * width), left + 1)
    bottom = max(round(roi.crop[3] * height), top + 1)
    return left, top, right, bottom


def _seen(
    roi: RegionOfInterest, height: int, width: int, crop: tuple[float, float, float, float] = (0, 0, 1, 1)
) -> Mask:
    """Return the mask of a picture that shows `crop` of the camera's."""
    left, top, right, bottom = crop
    seen = np.full((height, width), 255, dtype=np.uint8)
    for polygon in roi.masks.values():
        # A share of the width is a place between pixels; cv2 counts from the middle of the first one.
        shares = (np.array(polygon) - (left, top)) / (right - left, bottom - top)
        corners = shares * (width, height) - 0.5
        fixed = np.round(corners * (1 << _SHIFT)).astype(np.int32)
        # One at a time: cv2 uncovers what two polygons of one call both cover.
        cv2.fillPoly(seen, [fixed], color=0, shift=_SHIFT)
    return seen


def _frozen(image: Image) -> Image:
    image.setflags(write=False)
    return image
