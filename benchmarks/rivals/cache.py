"""A few pictures of each class that TDA remembers; when a class is full, its least sure picture is lost."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from adapters.core.protocol import Floats


@dataclass(frozen=True, eq=False)
class Cache:
    """Up to S pictures of each predicted class, the surest ones.

    Attributes:
        features: ``(C, S, D)`` of unit length; zero where a place is free.
        entropies: ``(C, S)`` ascending; infinite where a place is free.
        classes: ``(C, S, C)`` 1 for each class that a picture speaks about; zero where a place is free.
    """

    features: Floats
    entropies: Floats
    classes: Floats

    @classmethod
    def empty(cls, classes: int, capacity: int, width: int) -> Cache:
        """Return a cache for C classes, S pictures each, features of D numbers."""
        return cls(
            np.zeros((classes, capacity, width), np.float32),
            np.full((classes, capacity), np.inf, np.float32),
            np.zeros((classes, capacity, classes), np.float32),
        )

    def copy(self) -> Cache:
        """Return one that `offer` may change."""
        return Cache(self.features.copy(), self.entropies.copy(), self.classes.copy())

    def seal(self) -> None:
        """Refuse every change from now on."""
        for array in (self.features, self.entropies, self.classes):
            array.setflags(write=False)

    def offer(self, label: int, feature: Floats, uncertainty: np.float32, classes: Floats) -> None:
        """Keep the picture if its class has a free place or a less sure picture, which is then lost.

        Args:
            label: predicted class.
            feature: ``(D,)`` of unit length.
            uncertainty: entropy of the prediction.
            classes: ``(C,)`` 1 for each class that it speaks about.
        """
        entropies = self.entropies[label]
        if not uncertainty < entropies[-1]:
            return
        rows = (self.features[label], entropies, self.classes[label])
        for row, new in zip(rows, (feature, uncertainty, classes), strict=True):
            row[-1] = new
        order = entropies.argsort(kind="stable")
        for row in rows:
            row[:] = row[order]

    def evidence(self, feature: Floats, sharpness: float) -> Floats:
        """Return ``(C,)`` what the pictures say about each class, those near ``(D,)`` `feature` most."""
        count, capacity, width = self.features.shape
        affinity = self.features.reshape(count * capacity, width) @ feature  # (C * S,)
        weights = np.exp(sharpness * (affinity - 1))
        said: Floats = weights @ self.classes.reshape(count * capacity, count)
        return said

    def __len__(self) -> int:
        return int(np.isfinite(self.entropies).sum())
