"""The engine: CLIP as a function of (input, adapter). What every engine promises, and what engines share."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from adapters.core.adapter import Adapter, AdapterError

Floats = NDArray[np.float32]
Tokens = NDArray[np.int64]

Precision = Literal["fp32", "bf16", "fp16", "int8"]
"""What an image tower computes in. Texts are few and encoded once: theirs is fp32 always."""

_LOWERED: tuple[Precision, ...] = ("bf16", "fp16", "int8")

LEAST_LENGTH = 1e-12
"""Of a feature; below it a direction is noise. It is where torch's `normalize` stops to divide."""

LEAST_LOGIT_SCALE, MOST_LOGIT_SCALE = 1.0, 1e4
"""CLIP is trained with at most 100. Far beyond that, cosines that differ by a rounding make a verdict, and
products overflow float32. Below 1, all classes are about as likely as each other."""

NO_INT8 = "{}: has no {}: build it with --int8, or set another precision"
NO_PATCHES = "{}: has no {}: build it again with --patches, or set features: backbone in recipe.reference"
GET_AGAIN = "fetch the checkpoint, or fetch or build the bundle, again"


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
        provider: where it runs, such as ``torch:cpu`` or ``onnx:CPUExecutionProvider``, and the precision
            unless it is fp32: ``openvino:CPU:bf16``.
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

    def __post_init__(self) -> None:
        where = f"model {self.name}, weights {self.weights[:19]}"
        if not LEAST_LOGIT_SCALE <= self.logit_scale <= MOST_LOGIT_SCALE:  # NaN is not less than anything
            raise ModelError(
                f"{where}: its logit scale is {self.logit_scale}, it must be between"
                f" {LEAST_LOGIT_SCALE:.0f} and {MOST_LOGIT_SCALE:.0f}: {GET_AGAIN}"
            )
        spec = self.preprocess
        if not all(math.isfinite(number) for number in (*spec.mean, *spec.std)) or min(spec.std) <= 0:
            raise ModelError(
                f"{where}: pictures cannot be normalised with mean {spec.mean} and deviation {spec.std}:"
                f" {GET_AGAIN}"
            )

    @property
    def precision(self) -> Precision:
        """What the image tower computes in."""
        last = self.provider.rpartition(":")[2]
        return next((one for one in _LOWERED if one == last), "fp32")


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


def require_batch(images: Floats, adapters: Sequence[Adapter], info: ModelInfo) -> None:
    """Raise ValueError unless there are ``(B, 3, S, S)`` images and B adapters."""
    side = info.preprocess.size
    if images.shape[1:] != (3, side, side) or len(images) != len(adapters):
        raise ValueError(f"{images.shape} and {len(adapters)} adapters, not (B, 3, {side}, {side}) and B")


def directions(features: Floats) -> NDArray[np.bool_]:
    """Return ``(N,)`` which of ``(N, D)`` features have a direction: a length that is finite and not zero.

    Only of these a cosine is a number. The length is that of float32, in which it overflows beyond 1e19.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        lengths = np.linalg.norm(features, axis=-1)
    return np.asarray(np.isfinite(lengths) & (lengths > LEAST_LENGTH))


def place(where: str, precision: Precision) -> str:
    """Return `ModelInfo.provider` of an engine that runs somewhere at a precision."""
    return where if precision == "fp32" else f"{where}:{precision}"


def rows(adapters: Sequence[Adapter], shapes: Mapping[str, Sequence[int]]) -> dict[str, Floats]:
    """Return the LayerNorms of a batch: one row of each for all pictures, or where adapters differ one each.

    Args:
        adapters: of the pictures, in their order.
        shapes: of each tensor for one picture, such as ``(1, 1, C)`` for one over ``(B, L, C)``.
    """
    chosen = adapters[:1] if len({adapter.digest for adapter in adapters}) == 1 else adapters
    return {
        name: np.concatenate([adapter.tensors[name] for adapter in chosen]).reshape(-1, *shape[1:])
        for name, shape in shapes.items()
    }
