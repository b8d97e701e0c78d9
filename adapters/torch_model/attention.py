"""Self-attention for the backward pass: torch's own, without a detour that costs a CPU much of its time."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F


class FoldedAttention(nn.MultiheadAttention):
    """`nn.MultiheadAttention`, whose projections are one matrix product each where a gradient is recorded.

    torch turns a batch to ``(L, B, D)`` there, which is not contiguous, and then multiplies with frozen
    weights once per position, which a CPU does slowly. Without a gradient, and with anything that CLIP's
    towers do not ask for, this is torch's own forward pass, to the last bit.
    """

    def forward(self, query: Tensor, key: Tensor, value: Tensor, *args: Any, **kwargs: Any) -> Any:
        """Attend as `nn.MultiheadAttention` does; see there."""
        mask = kwargs.get("attn_mask")
        known = (
            query.requires_grad
            and query is key
            and key is value
            and query.dim() == 3
            and not args
            and set(kwargs) <= {"need_weights", "attn_mask"}
            and kwargs.get("need_weights") is False
            # To torch a boolean mask means the opposite here and there; one of three dimensions is per head.
            and (mask is None or (mask.dim() == 2 and mask.is_floating_point()))
        )
        if not known or not self.plain:
            return super().forward(query, key, value, *args, **kwargs)
        batch, length, width = query.shape
        packed = self.project(query, slice(None))  # (B, L, 3 D)
        q, k, v = packed.view(batch, length, 3, self.num_heads, -1).permute(2, 0, 3, 1, 4)  # (B, heads, L, d)
        seen = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return self.out_proj(seen.transpose(1, 2).reshape(batch, length, width)), None

    def project(self, x: Tensor, rows: slice) -> Tensor:
        """Return queries, keys and values side by side, as far as they are in `rows` of 3 D."""
        bias = None if self.in_proj_bias is None else self.in_proj_bias[rows]
        return F.linear(x, self.in_proj_weight[rows], bias)

    @property
    def plain(self) -> bool:
        """Whether there is nothing in the module but one packed projection each way."""
        extras = self.bias_k is not None or self.add_zero_attn or (self.training and self.dropout > 0)
        return self.batch_first and not extras


def fold_attention(model: nn.Module) -> None:
    """Let every self-attention of a model be a `FoldedAttention`, in place; parameters and names stay."""
    for module in model.modules():
        # Variants of torch's, such as the quantised one, are classes of their own and stay what they are.
        if type(module) is nn.MultiheadAttention and module.in_proj_weight is not None:
            module.__class__ = FoldedAttention
