"""LayerNorms as one vector: what a learner differentiates by and an optimiser moves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from adapters.core.adapter import Adapter
from adapters.core.protocol import Floats


class NormVector:
    """The order in which some LayerNorm tensors of a model stand in one vector of P numbers.

    One vector, because an optimiser then takes one step instead of one per tensor, and a gradient is finite
    or not in one question.
    """

    def __init__(self, source: Adapter, names: Sequence[str] | None = None) -> None:
        self.names = tuple(source.tensors if names is None else names)
        self.shapes = tuple(source.tensors[name].shape for name in self.names)
        self.sizes = [source.tensors[name].size for name in self.names]

    def read(self, adapter: Adapter) -> Floats:
        """Return ``(P,)`` fp32, a copy."""
        return self.join(adapter.tensors)

    def join(self, tensors: Mapping[str, Floats]) -> Floats:
        """Return ``(P,)`` of tensors by name."""
        return np.concatenate([tensors[name].ravel() for name in self.names])

    def named(self, vector: Floats) -> dict[str, Floats]:
        """Return views of `vector` by name."""
        parts = np.split(vector, np.cumsum(self.sizes)[:-1])
        return {
            name: part.reshape(shape)
            for name, part, shape in zip(self.names, parts, self.shapes, strict=True)
        }

    def write(self, vector: Floats, parent: Adapter) -> Adapter:
        """Return the adapter after `parent` with these numbers; what is not in the vector stays as it was."""
        return Adapter({**parent.tensors, **self.named(vector)}, parent.number + 1, parent.digest)
