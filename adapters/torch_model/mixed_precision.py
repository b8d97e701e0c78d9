"""Matrix products and convolutions in 16 bits, everything between them in fp32: precision to learn with.

What a block adds to the map, its LayerNorms and the way back through both keep 24 bits, so that rounding
does not pile up from block to block: the gradient's cosine to fp32 is 0.9999, where with torch's autocast,
which lets the map itself be bf16, it is 0.990 to 0.997 (benchmarks/results/step_time.md). Weights are cast
once, not per call.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from adapters.torch_model.attention import FoldedAttention
from adapters.torch_model.model_copy import same_tensors

WEIGHT, BIAS = "low_weight", "low_bias"


class LowLinear(nn.Linear):
    """`nn.Linear`, fp32 outside and 16 bits inside."""

    low_weight: Tensor
    low_bias: Tensor | None

    def forward(self, x: Tensor) -> Tensor:
        """Return fp32."""
        return F.linear(x.to(self.low_weight.dtype), self.low_weight, self.low_bias).float()


class LowConv2d(nn.Conv2d):
    """`nn.Conv2d`, fp32 outside and 16 bits inside."""

    low_weight: Tensor
    low_bias: Tensor | None

    def forward(self, x: Tensor) -> Tensor:
        """Return fp32."""
        answer: Tensor = self._conv_forward(x.to(self.low_weight.dtype), self.low_weight, self.low_bias)
        return answer.float()


class LowAttention(FoldedAttention):
    """`FoldedAttention` whose projections are 16 bits inside; the attention itself is fp32."""

    low_weight: Tensor
    low_bias: Tensor | None

    def project(self, x: Tensor, rows: slice) -> Tensor:
        """Return fp32."""
        bias = None if self.low_bias is None else self.low_bias[rows]
        return F.linear(x.to(self.low_weight.dtype), self.low_weight[rows], bias).float()


def use_mixed_precision(model: Any, dtype: torch.dtype) -> Any:
    """Return a model of the same fp32 tensors, and copies of weights in `dtype` for its products."""
    copied = same_tensors(model)
    for module in copied.modules():
        if isinstance(module, FoldedAttention):
            _lower(module, LowAttention, module.in_proj_weight, module.in_proj_bias, dtype)
        elif isinstance(module, nn.Linear):
            _lower(module, LowLinear, module.weight, module.bias, dtype)
        elif isinstance(module, nn.Conv2d):
            _lower(module, LowConv2d, module.weight, module.bias, dtype)
    return copied


def _lower(module: nn.Module, kind: type, weight: Tensor, bias: Tensor | None, dtype: torch.dtype) -> None:
    module.__class__ = kind
    # Beside the fp32 ones and not in their place: open_clip asks those what the map is to be.
    module.register_buffer(WEIGHT, weight.detach().to(dtype), persistent=False)
    module.register_buffer(BIAS, None if bias is None else bias.detach().to(dtype), persistent=False)
