"""Patch features: what a backbone makes of a picture, one vector for each place of a grid."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from adapters.core.protocol import Floats, Preprocess


@dataclass(frozen=True, slots=True)
class PatchInfo:
    """What a reference needs to know about what makes its features.

    Attributes:
        name: of the backbone, such as ``efficientnet-lite0``.
        digest: ``sha256:...`` of all that makes a feature: weights, cut, size of the input, precision. A
            reference fits the features of this digest alone.
        preprocess: how a picture becomes its input.
        grid: rows and columns of the patches of one picture.
        channels: length of each vector.
        layers: how the channels divide into the layers that they come from, in order; empty: they are one.
    """

    name: str
    digest: str
    preprocess: Preprocess
    grid: tuple[int, int]
    channels: int
    layers: tuple[int, ...] = ()


class PatchExtractor(Protocol):
    """A backbone without hidden state: the same picture always has the same features.

    Methods may be called from any thread; calls that meet take turns.
    """

    @property
    def info(self) -> PatchInfo:
        """What it is."""

    def patches(self, pixels: Floats) -> Floats:
        """Return ``(N, h, w, D)`` float32 features of ``(N, 3, S, S)`` pictures.

        Raises:
            ValueError: pictures of another size.
        """
