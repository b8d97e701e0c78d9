"""Patch features: what a backbone makes of a picture, one vector for each place of a grid."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol, runtime_checkable

from adapters.core.adapter import Adapter
from adapters.core.protocol import Floats, ModelInfo, Preprocess


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


def features_digest(made_of: Mapping[str, Any]) -> str:
    """Return ``sha256:...`` of all that makes a feature, JSON by name."""
    text = json.dumps(dict(made_of), sort_keys=True, allow_nan=False)
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


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


@runtime_checkable
class TokenEngine(Protocol):
    """What an `Engine` can do besides, where its model has patches: words and patches in one pass."""

    def patch_info(self) -> PatchInfo:
        """Return what its patches are; opens what it needs for them at the first call.

        Raises:
            ModelError: it has none; the message says what to do.
        """

    def encode_with_patches(self, images: Floats, adapters: Sequence[Adapter]) -> tuple[Floats, Floats]:
        """Return what `Engine.encode_image` does, and ``(B, h, w, P)`` patches, each seen with its adapter.

        A reference compares patches that were seen with the source adapter.

        Raises:
            AdapterMismatch: an adapter belongs to another model.
            ModelError: as for `patch_info`.
        """


_FORM = "mekiki.patches.v1"
"""Which layers of a model are read and how they are joined: `adapters.torch_model.patch_tokens`."""


def model_patches(info: ModelInfo, grid: tuple[int, int], layers: tuple[int, ...]) -> PatchInfo:
    """Return what the patches of a model are: of the same weights they are alike on every engine.

    Args:
        info: of the model.
        grid: rows and columns of the patches.
        layers: channels of each layer.
    """
    made_of = {
        "form": _FORM,
        "weights": info.weights,
        "precision": info.precision,
        "preprocess": asdict(info.preprocess),
        "grid": grid,
        "layers": layers,
    }
    return PatchInfo(info.name, features_digest(made_of), info.preprocess, grid, sum(layers), layers)
