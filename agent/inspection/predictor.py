"""What a picture is judged with: one adapter at one operating point, complete before the first picture."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from adapters.core.adapter import Adapter
from adapters.core.prompts import probabilities
from adapters.core.protocol import Floats


@dataclass(frozen=True, slots=True, eq=False)
class Predictor:
    """From a picture's features to the probabilities of its classes.

    Attributes:
        number: of the version; 0 is the model as it was trained.
        adapter: its LayerNorms; the features are to be made with them.
        class_features: ``(C, D)`` unit-length, made with them too.
        fails: ``(C,)`` which classes are defects.
        offset: operating point, on the log-odds of a defect; 0 where nobody has fixed one.
    """

    number: int
    adapter: Adapter
    class_features: Floats
    fails: NDArray[np.bool_]
    offset: float = 0.0

    def probabilities(self, feature: Floats, logit_scale: float) -> Floats:
        """Return ``(C,)`` of a picture's ``(D,)`` feature, not normalised.

        The logits of the defects are lowered by the offset: their summed probability reaches a threshold t
        exactly where the log-odds of a defect reach offset + logit(t).
        """
        shift = np.where(self.fails, -self.offset, 0.0)
        return np.asarray(probabilities(feature[None], self.class_features, logit_scale, shift)[0])

    def answers_like(self, other: Predictor) -> bool:
        """Whether both give the same answers."""
        return self.adapter.digest == other.adapter.digest and self.offset == other.offset
