"""A `Clip` whose image tower computes in 16 bits, but for its LayerNorms, which are what is learned."""

from __future__ import annotations

import copy
from dataclasses import replace
from functools import cache

import torch
from torch import Tensor, nn

from adapters.torch_model.clip import Clip


def lowered(clip: Clip, dtype: torch.dtype) -> Clip:
    """Return a model with a copy of the image tower, its weights cast once; the rest is shared.

    Cast once and not by autocast, which on a CPU casts frozen weights again with every call and is slower
    than fp32. The copy takes ``(B, 3, S, S)`` pictures of `dtype` and fp32 LayerNorm tensors.
    """
    model = copy.copy(clip.model)
    # A copied module shares its registry of parts with the original.
    model._modules = dict(clip.model._modules)
    model.visual = copy.deepcopy(clip.short.visual).to(dtype)
    for module in model.visual.modules():
        if isinstance(module, nn.LayerNorm):
            module.float()
            module.__class__ = _in_fp32(type(module))  # type: ignore[arg-type]  # a class is hashable
    # The same turn: both models lend out the same text tower.
    return replace(clip, model=model)


@cache
def _in_fp32(kind: type[nn.LayerNorm]) -> type[nn.LayerNorm]:
    def forward(self: nn.LayerNorm, x: Tensor) -> Tensor:
        return kind.forward(self, x.float()).to(x.dtype)

    return type(f"{kind.__name__}InFp32", (kind,), {"forward": forward})
