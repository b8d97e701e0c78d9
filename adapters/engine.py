"""The engine: CLIP as a function of (input, adapter). What every engine promises."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from adapters.adapter import Adapter

Floats = NDArray[np.float32]
Tokens = NDArray[np.int64]


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
        weights: ``sha256:...`` of the checkpoint, or of the bundle's manifest.
        logit_scale: factor on cosine similarities, already exponentiated.
        context_length: longest prompt in tokens, start and end included.
        provider: where it runs, such as ``torch:cpu`` or ``onnx:CPUExecutionProvider``.
    """

    name: str
    weights: str
    embed_dim: int
    logit_scale: float
    context_length: int
    preprocess: Preprocess
    provider: str


class Engine(Protocol):
    """CLIP without hidden state: the same input and adapter always give the same answer.

    Methods may be called from any thread, one at a time.
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
        """Return ``(B, D)`` features, not normalised, of ``(B, 3, S, S)`` images, each seen with its adapter."""

    def encode_text(self, tokens: Tokens, adapter: Adapter) -> Floats:
        """Return ``(N, D)`` features, not normalised, of ``(N, L)`` tokens."""
