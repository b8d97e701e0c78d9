"""The empty belt as it is learned, in whatever light there is now."""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from camera.presence.small_picture import Small

Mask = NDArray[np.uint8]
"""``(h, w)`` uint8: 1 where something is, 0 elsewhere."""

LEARN_S: Final = 20.0
"""In this time most of a slow change of one place is taken over."""
_FIRST_S: Final = 1.0
"""So long after the beginning it is learned fast: the mean of what was seen."""
_LEAST: Final = 14.0
"""Grey levels, of 255, by which a part differs at least from the belt, in one colour."""
_NOISES: Final = 5.0
"""And by how many times what a place usually differs by."""
_DARK: Final = 12.0
_KERNEL: Final = np.ones((3, 3), np.uint8)


class BeltBackground:
    """A running mean of the empty belt and of how much it varies, place by place.

    Light that changes everywhere alike, fast or slowly, is divided out before places are compared: the gain
    of each colour is the median over the picture, which parts on less than half of it do not move. What
    differs counts only where no neighbour of a place had been like it: belts and cameras shake by a pixel.

    Owned by the `PresenceWatch` of its station.

    Args:
        first: the belt, without parts where possible; parts on it leave a hole, see `is_hole`.
    """

    def __init__(self, first: Small) -> None:
        self._mean: Small = first.copy()
        self._varies: NDArray[np.float32] = np.full(first.shape[:2], 2.0, np.float32)
        self._age_s = 0.0

    @property
    def shape(self) -> tuple[int, ...]:
        """``(h, w, 3)``."""
        return self._mean.shape

    def follow_light(self, small: Small, known: Mask | None) -> float:
        """Make the background as bright as a picture is.

        Args:
            known: where parts were; these say nothing about the light.

        Returns:
            By how much that changed it: 0 not at all, 0.1 by a tenth.
        """
        seen, mean = small[::3, ::3].reshape(-1, 3), self._mean[::3, ::3].reshape(-1, 3)
        if known is not None:
            free = known[::3, ::3].reshape(-1) == 0
            if free.sum() >= 30:  # else the parts hide all of it
                seen, mean = seen[free], mean[free]
        gains = np.ones(3, np.float32)
        for colour in range(3):
            bright = (mean[:, colour] > _DARK) & (seen[:, colour] < 250)
            if bright.sum() >= 30:
                gains[colour] = np.median(seen[bright, colour] / mean[bright, colour])
        gains = np.clip(gains, 0.2, 5.0)
        change = float(np.abs(np.log(gains)).max())
        if change > 0.004:
            self._mean = np.minimum(self._mean * gains, 255.0).astype(np.float32)
        return change

    def differs(self, small: Small) -> Mask:
        """Return where a picture is not the empty belt."""
        above = small - cv2.dilate(self._mean, _KERNEL)
        below = cv2.erode(self._mean, _KERNEL) - small
        by = _greatest(np.maximum(above, below))
        seen: Mask = (by > np.maximum(_LEAST, _NOISES * self._varies)).astype(np.uint8)
        return seen

    def learn(self, small: Small, known: Mask, dt_s: float) -> None:
        """Take over how a picture is, but where something lies.

        Args:
            known: where parts and other things are; nothing is learned there, however long they stay.
            dt_s: since the last picture.
        """
        self._age_s += dt_s
        # Past the first second as a low pass, until then as a mean of what has been.
        rate = np.float32(dt_s / (self._age_s if self._age_s < _FIRST_S else LEARN_S))
        free = (cv2.dilate(known, _KERNEL) == 0).astype(np.float32) * min(rate, np.float32(0.5))
        by = small - self._mean
        self._mean += by * free[:, :, None]
        self._varies += (_greatest(np.abs(by)) - self._varies) * free

    def take_over(self, small: Small, where: Mask) -> None:
        """Let what is seen at these places be the belt from now on."""
        self._mean = np.where(where[:, :, None] > 0, small, self._mean).astype(np.float32)

    def is_hole(self, small: Small, where: Mask) -> bool:
        """Whether it is the background that shows a thing at a place, not the picture: it was taken away.

        Edges around the place are then stronger in the background than in the picture.
        """
        rim = np.asarray(cv2.dilate(where, _KERNEL, iterations=2) - cv2.erode(where, _KERNEL), np.uint8)
        seen, learned = _edges(small, rim), _edges(self._mean, rim)
        return learned > 1.5 * seen


def _greatest(by: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the greatest of the three colours, place by place; numpy's takes ten times as long."""
    one, two, three = cv2.split(by)
    return np.asarray(cv2.max(cv2.max(one, two), three), np.float32)


def _edges(small: Small, where: Mask) -> float:
    grey = small.mean(axis=2)
    across, along = cv2.Sobel(grey, cv2.CV_32F, 1, 0), cv2.Sobel(grey, cv2.CV_32F, 0, 1)
    return float((np.abs(across) + np.abs(along))[where > 0].mean())
