"""LayerNorms as one vector: what a learner differentiates by and an optimiser moves."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from adapters.adapter import Adapter


class NormVector:
    """The order in which some LayerNorm tensors of a model stand in one vector of P numbers.

    One vector, because an optimiser then takes one step instead of one per tensor, and a gradient is finite
    or not in one question.
    """

    def __init__(self, source: Adapter, names: Sequence[str]) -> None:
        self.names = tuple(names)
        self._shapes = [source.tensors[name].shape for name in self.names]
        self._sizes = [source.tensors[name].size for name in self.names]

    def read(self, adapter: Adapter, device: torch.device) -> Tensor:
        """Return ``(P,)`` fp32, a copy."""
        flat = np.concatenate([adapter.tensors[name].ravel() for name in self.names])
        return torch.from_numpy(flat).to(device)

    def named(self, vector: Tensor) -> dict[str, Tensor]:
        """Return views of `vector` by name, through which gradients reach it."""
        parts = zip(self.names, torch.split(vector, self._sizes), self._shapes, strict=True)
        return {name: part.view(shape) for name, part, shape in parts}

    def write(self, vector: Tensor, parent: Adapter) -> Adapter:
        """Return the adapter after `parent` with these numbers; what is not in the vector stays as it was."""
        arrays = {name: part.numpy() for name, part in self.named(vector.detach().float().cpu()).items()}
        return Adapter({**parent.tensors, **arrays}, parent.number + 1, parent.digest)
