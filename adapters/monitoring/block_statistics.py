"""One frame and one block of frames in numbers: what drift is measured on.

A block is summed up by those of its frames whose scores lie in the shortest interval that holds half of them
(the shorth of Andrews et al., "Robust Estimates of Location", Princeton 1972). A burst of defects moves a
mean, and even the lower half reaches further up when fewer parts are good; the shorth stays in the middle of
the good parts until half are bad, and from then to three quarters the good parts are the group below it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from adapters.core.observation import Bytes, Observation

Doubles = NDArray[np.float64]

SCALARS = ("score", "entropy", "luma", "red", "blue", "contrast", "sharpness", "direction", "noise")
"""What of a frame's row is one number each; the feature follows. All of the picture are logarithms."""

LEAST_ENTROPY = 0.01
"""In nats: how sure the model is below that is arithmetic."""

APART = 6.0
"""The lowest third of a block is a group of its own, and not the tail of another, from so many deviations on.

Of fifty frames of a normal distribution it is 2 away, and once in a hundred and fifty times more than 6.
"""


def measure(seen: Observation) -> Doubles:
    """Return a frame as one row ``(9 + D,)``: `SCALARS`, then the feature."""
    # Entropy has a long tail upwards: as it is, a few unsure frames would make a block's mean.
    entropy = np.log(seen.entropy + LEAST_ENTROPY)
    return np.concatenate([[seen.score, entropy], _look(seen.picture), seen.feature])


def looks(pictures: Bytes) -> Doubles:
    """Return ``(N, 7)``: what `measure` says of ``(N, S, S, 3)`` pictures themselves, light to noise."""
    return np.stack([_look(picture) for picture in pictures])


def summarise(rows: Doubles) -> Doubles:
    """Return the mean row ``(R,)`` of those of ``(B, R)`` rows that `middle` takes."""
    return np.asarray(middle(rows).mean(axis=0))


def middle(rows: Doubles) -> Doubles:
    """Return those of ``(B, R)`` rows that look like most good parts do: half, or fewer in a bad burst."""
    rows = rows[np.argsort(rows[:, 0], kind="stable")]
    scores, half = rows[:, 0], len(rows) // 2 + 1
    first = int(np.argmin(scores[half - 1 :] - scores[: len(rows) - half + 1]))
    shorth = rows[first : first + half]
    # Where most of a block is defective the shorth holds the defects, and the good parts are a group below.
    lowest = scores[: len(rows) // 3]
    good, most = float(np.median(lowest)), float(np.median(shorth[:, 0]))
    deviation = 1.4826 * float(np.median(np.abs(lowest - good)))
    apart = most - good > APART * deviation
    return np.asarray(rows[scores < (good + most) / 2] if apart else shorth)


def _look(picture: Bytes) -> Doubles:
    """Return the seven numbers of a ``(S, S, 3)`` picture: light, colour, contrast, blur, smear, noise."""
    colours = picture.astype(np.float32)
    red, green, blue = colours.mean(axis=(0, 1), dtype=np.float64) + 1
    grey = colours @ np.array([0.299, 0.587, 0.114], np.float32)
    right, down = np.diff(grey, axis=1), np.diff(grey, axis=0)
    across, along = float((right**2).mean()) + 0.1, float((down**2).mean()) + 0.1
    # A ramp has no second difference across the corner of a pixel: edges hardly count, noise does.
    rough = float(np.median(np.abs(np.diff(right, axis=0))))
    variance = float(grey.var(dtype=np.float64)) + 1
    return np.array(
        [
            np.log(float(grey.mean(dtype=np.float64)) + 1),
            np.log(red / green),
            np.log(blue / green),
            np.log(variance) / 2,
            np.log((across + along) / variance),
            np.log(across / along),
            np.log(rough + 0.5),
        ]
    )
