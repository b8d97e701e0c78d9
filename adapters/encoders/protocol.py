"""Both encoders as a function that can be differentiated by its LayerNorms: what every way to learn needs.

One forward pass, any loss of its features, one pass back. Where the loss is computed is nobody's business
here, so that a loss is written once, in numpy, and runs with every engine.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from adapters.core.adapter import Adapter
from adapters.core.protocol import Floats, ModelInfo, Tokens


@dataclass(frozen=True, slots=True, eq=False)
class Encoded:
    """One forward pass of both towers.

    Attributes:
        images: ``(B, D)`` features, not normalised.
        texts: ``(N, D)`` features, not normalised.
        backward: from the gradients by both, of their shapes, to the gradient by the LayerNorms, ``(P,)`` in
            the order of the vector that was passed in. At most once: it frees what the forward pass kept.
    """

    images: Floats
    texts: Floats
    backward: Callable[[Floats, Floats], Floats]


class Encoders(Protocol):
    """For one thread at a time."""

    @property
    def info(self) -> ModelInfo:
        """What the model is."""
        ...

    @property
    def source(self) -> Adapter:
        """The LayerNorms as they were trained; the order of its tensors is that of the vector."""
        ...

    def encode(self, vector: Floats, images: Floats, tokens: Tokens) -> Encoded:
        """Encode ``(B, 3, S, S)`` preprocessed pictures and ``(N, L)`` tokens with LayerNorms ``(P,)``."""
        ...
