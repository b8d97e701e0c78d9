"""The adapter: every LayerNorm gain and bias of both towers, as one frozen value with a digest."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

Tensor = NDArray[np.float32]


class AdapterError(Exception):
    """Root of everything that adapters/ raises on purpose."""


@dataclass(frozen=True, eq=False)
class Adapter:
    """LayerNorm gains and biases by parameter name, both towers, read-only.

    Attributes:
        tensors: name in the model's ``state_dict`` -> float32 array. Copied and frozen at birth.
        number: 0 is the source model; a learner counts up.
        parent: digest of the adapter this one came from, None for the source.
    """

    tensors: Mapping[str, Tensor]
    number: int = 0
    parent: str | None = None

    def __post_init__(self) -> None:
        frozen = {}
        for name in sorted(self.tensors):
            array = np.array(self.tensors[name], dtype=np.float32, order="C")
            if not np.isfinite(array).all():
                raise AdapterError(f"adapter {self.number}: {name} holds a number that is not finite")
            array.setflags(write=False)
            frozen[name] = array
        object.__setattr__(self, "tensors", MappingProxyType(frozen))

    @cached_property
    def digest(self) -> str:
        """``sha256:...`` of names, shapes and numbers; equal digests give equal answers."""
        sha = hashlib.sha256()
        for name, array in self.tensors.items():
            sha.update(f"{name}{array.shape}".encode())
            sha.update(array.tobytes())
        return f"sha256:{sha.hexdigest()}"
