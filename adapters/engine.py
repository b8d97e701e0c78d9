"""The engine: CLIP as a function of (input, adapter). What every engine promises, and what engines share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from adapters.adapter import Adapter, AdapterError

Floats = NDArray[np.float32]
Tokens = NDArray[np.int64]


class ModelError(AdapterError):
    """A model cannot be opened: its file is missing, damaged, unsafe, or nothing here can run it."""


class PromptError(AdapterError):
    """A recipe's words cannot be turned into class features."""


class PromptTooLong(PromptError):
    """A text has more tokens than the model's context holds."""


@dataclass(frozen=True, slots=True)
class Preprocess:
    """How a picture becomes the model's input: open_clip's `PreprocessCfg` as far as inference needs it."""

    size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    interpolation: Literal["bicubic", "bilinear"]
    resize_mode: Literal["shortest", "squash", "longest"]
    fill: int = 0


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """What a result's provenance and the camera need to know about a model.

    Attributes:
        weights: ``sha256:...`` of the checkpoint's file. A bundle keeps the digest of the checkpoint it was
            built from, so that an adapter fits both engines.
        logit_scale: factor on cosine similarities, already exponentiated.
        context_length: longest prompt in tokens, start and end included.
        provider: where it runs, such as ``torch:cpu`` or ``onnx:CPUExecutionProvider``.
        bundle: ``sha256:...`` of the bundle's manifest; None without a bundle.
    """

    name: str
    weights: str
    embed_dim: int
    logit_scale: float
    context_length: int
    preprocess: Preprocess
    provider: str
    bundle: str | None = None


class Engine(Protocol):
    """CLIP without hidden state: the same input and adapter always give the same answer.

    Methods may be called from any thread; calls that meet take turns.
    """

    @property
    def info(self) -> ModelInfo:
        """What the model is."""

    @property
    def source(self) -> Adapter:
        """The LayerNorms as they were trained, number 0."""

    def tokenize(self, texts: Sequence[str]) -> Tokens:
        """Return ``(N, L)`` token ids, L the length that the longest text needs where attention is causal.

        Raises:
            PromptTooLong: a text does not fit into the model's context.
        """

    def encode_image(self, images: Floats, adapters: Sequence[Adapter]) -> Floats:
        """Return ``(B, D)`` features, not normalised, of ``(B, 3, S, S)`` images, each seen with its adapter.

        Raises:
            AdapterMismatch: an adapter belongs to another model.
        """

    def encode_text(self, tokens: Tokens, adapter: Adapter) -> Floats:
        """Return ``(N, D)`` features, not normalised, of ``(N, L)`` tokens.

        Raises:
            AdapterMismatch: the adapter belongs to another model.
        """


def encode_in_groups(
    images: Floats, adapters: Sequence[Adapter], encode: Callable[[Floats, Adapter], Floats], info: ModelInfo
) -> Floats:
    """Encode a batch with one call per distinct adapter and put the rows back in order.

    Args:
        images: ``(B, 3, S, S)``.
        adapters: B adapters, one per image; equal digests share a call.
        encode: images of one adapter to their features.
        info: of the engine, for shapes.

    Returns:
        ``(B, D)`` features.
    """
    side = info.preprocess.size
    if images.shape[1:] != (3, side, side) or len(images) != len(adapters):
        raise ValueError(f"{images.shape} and {len(adapters)} adapters, not (B, 3, {side}, {side}) and B")
    groups: dict[str, list[int]] = {}
    for row, adapter in enumerate(adapters):
        groups.setdefault(adapter.digest, []).append(row)
    features = np.empty((len(images), info.embed_dim), np.float32)  # (B, D)
    for rows in groups.values():
        # The usual batch has one adapter: no copy then, and the very batch that a caller measured.
        part = images if len(groups) == 1 else images[rows]
        features[rows] = encode(np.ascontiguousarray(part, dtype=np.float32), adapters[rows[0]])
    return features
