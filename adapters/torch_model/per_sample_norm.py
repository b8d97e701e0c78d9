"""LayerNorm whose gain and bias may differ from picture to picture: many adapters in one forward pass.

As servers of low-rank adapters batch requests of different tenants (Chen et al., "Punica", MLSys 2024,
https://arxiv.org/abs/2310.18547), each picture of a batch brings its own row of every LayerNorm; everything
else is shared, which is nearly all of the work.
"""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class RowNorm(nn.LayerNorm):
    """A LayerNorm over the last dimension; with ``(B, C)`` gain and bias, row b is for ``x[b]``."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalise ``(B, ..., C)``; with one gain and bias for all exactly as `nn.LayerNorm` does."""
        return super().forward(x) if self.weight.dim() == 1 else _by_rows(self, x)


def allow_rows(model: nn.Module) -> None:
    """Let every LayerNorm of a model take rows, in place; with one gain for all, each stays what it was."""
    for module in model.modules():
        if isinstance(module, nn.LayerNorm) and not isinstance(module, RowNorm):
            module.__class__ = _with_rows(type(module))  # type: ignore[arg-type]  # a class is hashable


@cache
def _with_rows(kind: type[nn.LayerNorm]) -> type[nn.LayerNorm]:
    # Libraries have LayerNorms of their own, which cast in their own way.
    def forward(self: nn.LayerNorm, x: Tensor) -> Tensor:
        one = self.weight is None or self.weight.dim() == 1
        return kind.forward(self, x) if one else _by_rows(self, x)

    return type(f"{kind.__name__}WithRows", (kind,), {"forward": forward})


def _by_rows(norm: nn.LayerNorm, x: Tensor) -> Tensor:
    shape = (len(x), *(1,) * (x.dim() - 2), -1)
    plain = F.layer_norm(x, norm.normalized_shape, None, None, norm.eps)
    return torch.addcmul(norm.bias.view(shape), plain, norm.weight.view(shape))
