"""Self-attention for the backward pass: torch's own, without a detour that costs a CPU much of its time."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F


class FoldedAttention(nn.MultiheadAttention):
    """`nn.MultiheadAttention`, whose projections are one matrix product each where a gradient is recorded.

    torch turns a batch to ``(L, B, D)`` there, which is not contiguous, and then multiplies L times with
    frozen weights: 1.1 to 1.7 times slower on a CPU. Without a gradient this is torch's own forward pass, to
    the last bit.
    """

    def forward(self, query: Tensor, key: Tensor, value: Tensor, *args: Any, **kwargs: Any) -> Any:
        """Attend as `nn.MultiheadAttention` does; see there."""
        itself = query is key and key is value and self.batch_first and query.dim() == 3
        plain = (
            not args and set(kwargs) <= {"need_weights", "attn_mask"} and kwargs.get("need_weights") is False
        )
        if not (query.requires_grad and itself and plain):
            return super().forward(query, key, value, *args, **kwargs)
        batch, length, width = query.shape
        packed = F.linear(query, self.in_proj_weight, self.in_proj_bias)  # (B, L, 3 D)
        q, k, v = packed.view(batch, length, 3, self.num_heads, -1).permute(2, 0, 3, 1, 4)  # (B, heads, L, d)
        seen = F.scaled_dot_product_attention(q, k, v, attn_mask=kwargs.get("attn_mask"))
        return self.out_proj(seen.transpose(1, 2).reshape(batch, length, width)), None


def fold_attention(model: nn.Module) -> None:
    """Let every self-attention of a model be a `FoldedAttention`, in place; parameters and names stay."""
    for module in model.modules():
        # torch's quantised and other variants are classes of their own and stay what they are.
        if type(module) is nn.MultiheadAttention and module.in_proj_weight is not None:
            module.__class__ = FoldedAttention
