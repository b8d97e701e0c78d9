"""A recipe seen through an engine: what any adapter says about pictures that are kept as bytes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from adapters.core.adapter import Adapter, NotFinite
from adapters.core.observation import Bytes, as_pixels, log_odds
from adapters.core.prompts import Prompts, TextCache
from adapters.core.protocol import Engine, Floats, directions

CHUNK = 16
"""Pictures per call, so that an engine that others wait for is never taken for long."""


@dataclass(frozen=True, slots=True, eq=False)
class Scores:
    """What was seen.

    Attributes:
        features: ``(N, D)`` unit-length.
        logits: ``(N, C)``.
        scores: ``(N,)`` log-odds of a defect.
    """

    features: Floats
    logits: Floats
    scores: Floats


class Scorer:
    """For one thread.

    Args:
        engine: encodes.
        prompts: the recipe's words.
        fails: ``(C,)`` which of its classes are defects.
        texts: class features that others use too; None: a cache of its own.
    """

    def __init__(
        self, engine: Engine, prompts: Prompts, fails: NDArray[np.bool_], texts: TextCache | None = None
    ) -> None:
        self.engine = engine
        self.prompts = prompts
        self.fails = fails
        self._texts = texts or TextCache(engine)

    @property
    def source(self) -> Adapter:
        """The model as it was trained."""
        return self.engine.source

    def look(self, pictures: Bytes, adapter: Adapter) -> Scores:
        """Return what an adapter sees in ``(N, S, S, 3)`` uint8 pictures.

        Raises:
            AdapterMismatch: the adapter belongs to another model.
            NotFinite: see `view`.
        """
        parts = [
            self.engine.encode_image(
                as_pixels(pictures[start : start + CHUNK], self.engine.info.preprocess),
                [adapter] * len(pictures[start : start + CHUNK]),
            )
            for start in range(0, len(pictures), CHUNK)
        ]
        return self.view(np.concatenate(parts), adapter)

    def view(self, features: Floats, adapter: Adapter) -> Scores:
        """Return the same for ``(N, D)`` features that were encoded already.

        Raises:
            NotFinite: a feature, or that of a class, cannot be compared with others.
        """
        if not directions(features).all():
            info = self.engine.info
            raise NotFinite(
                f"model {info.name}, weights {info.weights[:19]}, adapter {adapter.number}: the features of a"
                " picture are not finite numbers"
            )
        unit = features / np.linalg.norm(features, axis=1, keepdims=True)
        logits = self.engine.info.logit_scale * unit @ self._texts.features(self.prompts, adapter).T
        return Scores(unit, logits, log_odds(logits, self.fails))
