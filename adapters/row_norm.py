"""LayerNorm whose gain and bias may differ from picture to picture: many adapters in one forward pass.

As servers of low-rank adapters batch requests of different tenants (Chen et al., "Punica", MLSys 2024,
https://arxiv.org/abs/2310.18547), each picture of a batch brings its own row of every LayerNorm; everything
else is shared, which is nearly all of the work.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import open_clip.transformer
import timm.layers.norm
import torch
from open_clip.transformer import AttentionalPooler
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.nn import functional as F

from adapters.engine import ModelError

_OVER_LAST = frozenset(
    kind.forward
    for kind in (
        nn.LayerNorm,
        open_clip.transformer.LayerNorm,
        open_clip.transformer.LayerNormFp32,
        timm.layers.norm.LayerNorm,
        timm.layers.norm.LayerNormFp32,
    )
)
"""What normalises the last dimension and does nothing else. Others turn the map, or have an activation."""


class RowNorm(nn.LayerNorm):
    """A LayerNorm over the last dimension; with ``(B, C)`` gain and bias, row b is for ``x[b]``."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalise ``(B, ..., C)``; with one gain and bias for all exactly as `nn.LayerNorm` does."""
        return super().forward(x) if self.weight.dim() == 1 else _by_rows(self, x)


class RowPooler(AttentionalPooler):  # type: ignore[misc]  # open_clip has no types
    """open_clip's attentional pooler; each picture has queries of its own, which its row normalises."""

    def forward(self, x: Tensor) -> Tensor:
        """Pool ``(B, L, D)`` to ``(B, Q, D)``; open_clip normalises the queries once for all pictures."""
        x = self.ln_k(x)
        queries = self.ln_q(self.query.unsqueeze(0).expand(x.shape[0], -1, -1))
        answer: Tensor = self.attn(queries, x, x, need_weights=False)[0]
        return answer


def allow_rows(model: nn.Module) -> None:
    """Let every LayerNorm of a model take rows, in place; with one gain for all, each stays what it was."""
    for module in model.modules():
        if type(module) is AttentionalPooler:
            module.__class__ = RowPooler
        if isinstance(module, nn.LayerNorm) and not isinstance(module, RowNorm):
            module.__class__ = _with_rows(type(module))  # type: ignore[arg-type]  # a class is hashable


@cache
def _with_rows(kind: type[nn.LayerNorm]) -> type[nn.LayerNorm]:
    # Libraries have LayerNorms of their own, which cast in their own way.
    rows = _by_rows if kind.forward in _OVER_LAST else _one_by_one

    def forward(self: nn.LayerNorm, x: Tensor) -> Tensor:
        one = self.weight is None or self.weight.dim() == 1
        return kind.forward(self, x) if one else rows(self, x)

    return type(f"{kind.__name__}WithRows", (kind,), {"forward": forward})


def _by_rows(norm: nn.LayerNorm, x: Tensor) -> Tensor:
    _require_batch(norm, x)
    shape = (len(x), *(1,) * (x.dim() - 2), -1)
    plain = F.layer_norm(x, norm.normalized_shape, None, None, norm.eps)
    gain = norm.weight.view(shape)
    return plain * gain if norm.bias is None else torch.addcmul(norm.bias.view(shape), plain, gain)


def _one_by_one(norm: nn.LayerNorm, x: Tensor) -> Tensor:
    """Do to each picture, with its row, what the norm does to a batch of one."""
    _require_batch(norm, x)
    named: dict[str, Tensor] = {"weight": norm.weight}
    if norm.bias is not None:
        named["bias"] = norm.bias

    def one(picture: Tensor, row: dict[str, Tensor]) -> Any:
        return functional_call(norm, row, (picture.unsqueeze(0),)).squeeze(0)

    answer: Tensor = vmap(one)(x, named)
    return answer


def _require_batch(norm: nn.LayerNorm, x: Tensor) -> None:
    if x.dim() < 2 or len(x) != len(norm.weight):
        raise ModelError(
            f"a {type(norm).__bases__[0].__name__} of the model works on {tuple(x.shape)}, not on one map for"
            f" each of {len(norm.weight)} pictures: pictures with different LayerNorms cannot share a batch"
        )
