"""A vision transformer whose last block computes only what is read of it: the class token.

CLIP's ViTs answer with the class token of the last block. The others serve there as keys and values; their
queries, output projections and MLP, 7 % of a ViT-B-32, reach no answer and no gradient.
"""

from __future__ import annotations

from typing import Any

from open_clip.transformer import ResidualAttentionBlock, VisionTransformer
from torch import Tensor, nn
from torch.nn import functional as F

from adapters.torch_model.attention import FoldedAttention
from adapters.torch_model.model_copy import same_tensors


class ClassTokenBlock(ResidualAttentionBlock):  # type: ignore[misc]  # open_clip has no types
    """A block of open_clip's that gives ``(B, 1, D)`` for ``(B, L, D)``: what the whole block has first."""

    def forward(self, q_x: Tensor, attn_mask: None = None) -> Tensor:
        """Let the first token see all of them, then think."""
        normal = self.ln_1(q_x)
        attention = self.attn
        batch, length, width = q_x.shape
        heads = attention.num_heads
        query = attention.project(normal[:, :1], slice(width))
        packed = attention.project(normal, slice(width, None))  # (B, L, 2 D)
        q = query.view(batch, 1, heads, -1).transpose(1, 2)  # (B, heads, 1, d)
        k, v = packed.view(batch, length, 2, heads, -1).permute(2, 0, 3, 1, 4)  # (B, heads, L, d)
        seen = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(batch, 1, width)
        x: Tensor = q_x[:, :1] + self.ls_1(attention.out_proj(seen))
        thought: Tensor = self.ls_2(self.mlp(self.ln_2(x)))
        return x + thought


def read_class_token(model: Any) -> Any:
    """Return a model of the same tensors and names with the short last block; `model` if it reads more."""
    visual = model.visual
    if not _reads_class_token(visual):
        return model
    copied = same_tensors(model)
    copied.visual.transformer.resblocks[-1].__class__ = ClassTokenBlock
    return copied


def _reads_class_token(visual: nn.Module) -> bool:
    if type(visual) is not VisionTransformer or visual.attn_pool is not None or visual.output_tokens:
        return False
    last = visual.transformer.resblocks[-1] if visual.transformer.batch_first else None
    return bool(
        visual.pool_type == "tok"
        and type(last) is ResidualAttentionBlock
        and isinstance(last.attn, FoldedAttention)
        and last.attn.plain
    )
