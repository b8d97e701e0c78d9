"""Both towers as torch differentiates them by their LayerNorms."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

from adapters.core.norm_vector import NormVector
from adapters.torch_model.clip import Clip, Form

Precision = Literal["fp32", "bf16", "fp16"]

CHUNK = 64
"""Pictures per pass through the image tower, all in one graph: bounds what a layer needs at once.

Smaller ones are slower on a CPU, because every matrix product packs its weights anew.
"""


def encode(
    clip: Clip,
    norms: Mapping[str, Tensor],
    images: Tensor,
    tokens: Tensor | None,
    precision: Precision = "fp32",
) -> tuple[Tensor, Tensor | None]:
    """Return ``(B, D)`` and ``(N, D)`` features, fp32, differentiable by `norms` alone; see `forward`."""
    if not len(images):
        raise ValueError("a step needs at least one picture")
    form: Form = "short" if precision == "fp32" else precision
    # Weights that ask for a gradient would have torch keep what theirs needs: twice the memory.
    constants = {name: weight.detach() for name, weight in clip.model.named_parameters()}
    tensors = {**constants, **norms}
    chunks = [clip.encode_image(chunk, tensors, form) for chunk in torch.split(images, CHUNK)]
    encoded = None if tokens is None else clip.encode_text(tokens, tensors, form)
    return torch.cat(chunks), encoded


def named(norms: NormVector, vector: Tensor) -> dict[str, Tensor]:
    """Return views of ``(P,)`` by name, through which gradients reach it."""
    parts = zip(norms.names, torch.split(vector, norms.sizes), norms.shapes, strict=True)
    return {name: part.view(shape) for name, part, shape in parts}
