"""The adapter: every LayerNorm gain and bias of both towers, as one frozen value with a digest and a file."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import MappingProxyType

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray

from adapters.files.atomic_file import write_durably
from adapters.files.formats import mismatch
from adapters.files.tensors import read_tensors

FORMAT = "mekiki.adapter.v1"

_KEYS = frozenset({"format", "number", "parent", "weights", "digest"})

Tensor = NDArray[np.float32]


class AdapterError(Exception):
    """Root of everything that adapters/ raises on purpose."""


class AdapterMismatch(AdapterError):
    """An adapter belongs to another model than the one it is used with."""


class NotFinite(AdapterError):
    """A number of a model, or what it computes, is not finite, or a feature has no direction."""


class AdapterFileError(AdapterError):
    """An adapter's file is missing, damaged or of another model."""


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
                raise NotFinite(f"adapter {self.number}: {name} holds a number that is not finite")
            array.setflags(write=False)
            frozen[name] = array
        object.__setattr__(self, "tensors", MappingProxyType(frozen))

    def __reduce__(self) -> tuple[type[Adapter], tuple[dict[str, Tensor], int, str | None]]:
        return Adapter, (dict(self.tensors), self.number, self.parent)

    @cached_property
    def digest(self) -> str:
        """``sha256:...`` of names, shapes and numbers; equal digests give equal answers."""
        sha = hashlib.sha256()
        for name, array in self.tensors.items():
            sha.update(f"{name}{array.shape}".encode())
            sha.update(array.tobytes())
        return f"sha256:{sha.hexdigest()}"

    @cached_property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of each tensor by name."""
        return {name: array.shape for name, array in self.tensors.items()}

    def require_shapes_of(self, source: Adapter) -> None:
        """Raise AdapterMismatch unless names and shapes are those of the model's source adapter."""
        if self.shapes == source.shapes:
            return
        different = sorted(set(self.shapes.items()) ^ set(source.shapes.items()))
        raise AdapterMismatch(
            f"adapter {self.number} is of another model: {different[0][0]} differs"
            f" ({len(self.shapes)} LayerNorm tensors, the model has {len(source.shapes)})"
        )


def save_adapter(adapter: Adapter, path: Path, weights: str, more: Mapping[str, str] | None = None) -> None:
    """Write the adapter as safetensors; after a power cut the file is the old one or the new one, complete.

    Args:
        adapter: what to write.
        path: file to make or replace.
        weights: `ModelInfo.weights` of the model that the adapter belongs to.
        more: facts to keep in the same file under the same seal; `read_adapter` returns them.

    Raises:
        OSError: the disk is full or the folder cannot be written; an old file is as it was.
    """
    facts = {
        "format": FORMAT,
        "number": str(adapter.number),
        "parent": adapter.parent or "",
        "weights": weights,
        "digest": adapter.digest,
        **(more or {}),
    }
    content = safetensors.numpy.save(dict(adapter.tensors), {**facts, "seal": _seal(facts)})
    write_durably(path, content)


def load_adapter(path: Path, source: Adapter, weights: str) -> Adapter:
    """Read and verify what `save_adapter` wrote.

    Args:
        path: the file.
        source: the source adapter of the model that will use it.
        weights: `ModelInfo.weights` of that model.

    Raises:
        AdapterFileError: the file is missing, altered, truncated, a link, or of another model.
    """
    return read_adapter(path, source, weights)[0]


def read_adapter(path: Path, source: Adapter, weights: str) -> tuple[Adapter, dict[str, str]]:
    """Read and verify as `load_adapter` does, and return all facts that stand beside the tensors.

    Raises:
        AdapterFileError: the file is missing, altered, truncated, a link, or of another model.
    """
    if path.is_symlink():
        raise AdapterFileError(f"{path}: a link, not an adapter; copy the file itself")
    try:
        # A flipped bit passes this; it does not pass the digest below.
        facts, tensors = read_tensors(path)
    except (OSError, ValueError) as error:
        raise AdapterFileError(f"{path}: not a readable adapter file: {error}") from error

    if (found := facts.get("format")) != FORMAT:
        what = mismatch(found, FORMAT, facts.get("release"), "altered, or no adapter of an agent; roll back")
        raise AdapterFileError(f"{path}: {what}")
    seal = facts.pop("seal", "")
    if seal != _seal(facts) or not facts.keys() >= _KEYS:
        raise AdapterFileError(f"{path}: altered since it was written; roll back")
    if facts["weights"] != weights:
        raise AdapterFileError(f"{path}: made for weights {facts['weights']}, the model has {weights}")
    if any(array.dtype != np.float32 for array in tensors.values()):
        raise AdapterFileError(f"{path}: altered since it was written: not float32 throughout")
    try:
        adapter = Adapter(tensors, number=int(facts["number"]), parent=facts["parent"] or None)
        adapter.require_shapes_of(source)
    except (AdapterError, ValueError) as error:  # a seal is no secret: a stranger may seal nonsense
        raise AdapterFileError(f"{path}: {error}") from error
    if adapter.digest != facts["digest"]:
        raise AdapterFileError(f"{path}: altered since it was written: digest differs; roll back")
    return adapter, facts


def _seal(facts: Mapping[str, str]) -> str:
    """Hash the metadata, which the adapter's own digest does not cover."""
    return hashlib.sha256(repr(sorted(facts.items())).encode()).hexdigest()
