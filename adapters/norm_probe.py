"""Whether each picture of a batch can have LayerNorms of its own: one look at what a model's are given."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from adapters.clip import Clip
from adapters.engine import ModelError
from adapters.export_failure import explained

PICTURES = 3
"""A size that no map of a model has by itself."""


def require_picture_norms(clip: Clip) -> None:
    """Run both towers there and back once, and see what arrives at every LayerNorm.

    Raises:
        ModelError: open_clip itself cannot run the model, a LayerNorm is not used, or one of the image tower
            works on anything but one map per picture.
    """
    name, side = clip.info.name, clip.info.preprocess.size
    shapes: dict[str, tuple[int, ...]] = {}
    norms = {norm.rpartition(".")[0] for norm in clip.source.tensors}
    hooks = [_watched(shapes, one, module) for one, module in clip.model.named_modules() if one in norms]
    leaves = {norm: torch.tensor(tensor).requires_grad_() for norm, tensor in clip.source.tensors.items()}
    try:
        with explained(name, "open_clip itself cannot run it"):
            features = clip.encode_image(torch.zeros(PICTURES, 3, side, side), leaves)
            texts = clip.encode_text(
                torch.ones(PICTURES, clip.info.context_length, dtype=torch.int64), leaves
            )
            gradients = torch.autograd.grad(
                [features.sum(), texts.sum()], list(leaves.values()), allow_unused=True
            )
    finally:
        for hook in hooks:
            hook.remove()
    for norm, gradient in zip(leaves, gradients, strict=True):
        if gradient is None:
            raise ModelError(
                f"{name}: no feature depends on its LayerNorm tensor {norm}: there is nothing to learn for"
                " it; take another model"
            )
    for norm, shape in shapes.items():
        if norm.startswith("visual.") and (len(shape) < 2 or shape[0] != PICTURES):
            raise ModelError(
                f"{name}: its LayerNorm {norm} works on {shape} for {PICTURES} pictures, not on one map for"
                " each: pictures with different LayerNorms could not share a batch; take another model"
            )


def _watched(shapes: dict[str, tuple[int, ...]], name: str, module: nn.Module) -> Any:
    def see(_: nn.Module, arguments: tuple[Any, ...]) -> None:
        shapes[name] = tuple(arguments[0].shape)

    return module.register_forward_pre_hook(see)
