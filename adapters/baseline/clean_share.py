"""Which pictures of a set count as those of a line that is well, whatever else is among them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from adapters.core.observation import Bytes
from adapters.core.protocol import Floats

CLEAN_SHARE = 0.8
"""Share of a set of pictures, those with the lowest scores, whose statistics count: bursts of defects, false
rejects and foreign objects stay out."""


def clean_rows(scores: Floats) -> NDArray[np.intp]:
    """Return which are the `CLEAN_SHARE` with the lowest scores, the lowest first."""
    return np.argsort(scores, kind="stable")[: max(1, round(CLEAN_SHARE * len(scores)))]


def clean_half(pictures: Bytes, scores: Floats) -> Bytes:
    """Return the `CLEAN_SHARE` of the pictures that look least like a defect, in their order."""
    return pictures[np.sort(clean_rows(scores))]
