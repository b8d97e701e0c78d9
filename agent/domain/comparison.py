"""How far one part is from a station's reference parts: values."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Box = tuple[float, float, float, float]
"""Left, top, right, bottom, as shares of the camera's picture, 0..1."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """What a reference says of one part.

    Attributes:
        score: how far the part is from the good ones, 0 or more.
        threshold: a part whose score is above it differs.
        box: of what differs most; None where no place stands out.
        digest: ``sha256:...`` of the reference.
        samples: good parts in its memory.
    """

    score: float
    threshold: float
    box: Box | None
    digest: str
    samples: int

    @property
    def finite(self) -> bool:
        """Whether it says anything: every comparison with NaN is false, and would pass the part."""
        return math.isfinite(self.score) and math.isfinite(self.threshold)

    @property
    def differs(self) -> bool:
        """Whether the part is an anomaly."""
        return self.score > self.threshold


@dataclass(frozen=True, slots=True, eq=False)
class DifferenceMap:
    """How far each place of a part's picture is from the good ones, to be drawn over it.

    Attributes:
        maps: ``(T, h, w)`` float32 scores of the places of the T squares that the backbone saw; 1 is as far
            as the farthest place of a good part.
        tiles: of the squares, in shares of the region of interest.
        view: how each tile became its square: fit, fill or crop.
    """

    maps: NDArray[np.float32]
    tiles: tuple[Box, ...]
    view: str
