"""The image tower of `mekiki-line`, the embedded default model, as open_clip builds it from its JSON config.

Convolutions see small marks and learn from few pictures; three attention blocks on the 8x8 patch map relate
them; attention pooling picks the patch that matters. Every norm is an `nn.LayerNorm`, because LayerNorms are
what the product adapts, and a BatchNorm would mix the pictures of a batch.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import open_clip
import timm.models
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from adapters.torch_model.per_sample_norm import RowNorm

MODEL_NAME = "mekiki-line"
CONFIG = Path(__file__).parent / "model_configs" / f"{MODEL_NAME}.json"

PREPROCESS: dict[str, Any] = {"resize_mode": "squash"}
"""What `mekiki-line` needs beyond open_clip's defaults, for `create_model(force_preprocess_cfg=...)`.

open_clip's model configs have no key for it. Squashed, because a cropped border could hide the defect.
"""

WIDTHS = (48, 96, 192)
BLOCKS = (1, 2, 1)
ATTENTION_BLOCKS = 3
HEADS = 4
PATCHES = 64
"""Patches of the last map: 8x8 at 128 pixels."""


def register() -> None:
    """Make the tower known to timm and `mekiki-line` known to open_clip; again is as good as once."""
    if not timm.models.is_model(mekiki_line_tower.__name__):
        timm.models.register_model(mekiki_line_tower)
    if MODEL_NAME not in open_clip.list_models():
        open_clip.add_model_config(CONFIG)


def preprocess_overrides(name: str) -> dict[str, Any]:
    """Return what `create_model(name, force_preprocess_cfg=...)` needs; nothing for any other model."""
    return dict(PREPROCESS) if name == MODEL_NAME else {}


def mekiki_line_tower(pretrained: bool = False, **_: Any) -> LineTower:
    """Build the tower under the name that the JSON config gives to timm.

    open_clip asks every timm tower for pretrained weights and timm passes options of its own; the tower has
    neither: its weights come with the whole model's checkpoint.
    """
    return LineTower()


class LineTower(nn.Module):
    """A picture to 192 numbers, ``(B, 3, 128, 128)`` to ``(B, 192)``; open_clip adds the projection."""

    num_features = WIDTHS[-1]
    maps = ("stages.2", "stages.6", "stages.9")
    """What ends each stage: maps of strides 4, 8 and 16."""
    default_cfg: dict[str, Any] = {}  # noqa: RUF012 - the name timm and open_clip look for

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, WIDTHS[0] // 2, 5, stride=2, padding=2)
        stages: list[nn.Module] = []
        width_before = WIDTHS[0] // 2
        for width, blocks in zip(WIDTHS, BLOCKS, strict=True):
            stages.append(nn.GELU())
            stages.append(nn.Conv2d(width_before, width, 3, stride=2, padding=1))
            stages.extend(ConvBlock(width) for _ in range(blocks))
            width_before = width
        self.stages = nn.Sequential(*stages)
        self.position = nn.Parameter(0.02 * torch.randn(1, PATCHES, WIDTHS[-1]))
        self.blocks = nn.Sequential(*(AttentionBlock(WIDTHS[-1]) for _ in range(ATTENTION_BLOCKS)))
        self.norm = nn.LayerNorm(WIDTHS[-1])
        self.attention = nn.Linear(WIDTHS[-1], HEADS)

    def reset_classifier(self, num_classes: int, global_pool: str = "") -> None:
        """Have no classifier to reset; open_clip calls this before it adds its projection."""

    def forward_features(self, images: Tensor) -> Tensor:
        """Return the patches before pooling, ``(B, 64, 192)``, row by row from the upper left."""
        x = self.stages(self.stem(images))
        x = x.flatten(2).transpose(1, 2) + self.position  # (B, 64, 192)
        patches: Tensor = self.norm(self.blocks(x))
        return patches

    def pool(self, patches: Tensor) -> Tensor:
        """Return the mean over patches, each head with its own weights, ``(B, 192)``."""
        batch, count, width = patches.shape
        weights = self.attention(patches).softmax(dim=1)  # (B, 64, heads)
        heads = patches.view(batch, count, HEADS, width // HEADS)
        pooled: Tensor = (heads * weights.unsqueeze(-1)).sum(dim=1)
        return pooled.flatten(1)

    def forward(self, images: Tensor) -> Tensor:
        """Return ``(B, 192)`` of ``(B, 3, 128, 128)`` normalised pictures."""
        return self.pool(self.forward_features(images))


class ChannelNorm(RowNorm):
    """LayerNorm over the channels of a ``(B, C, H, W)`` map."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalise each position on its own."""
        normal: Tensor = super().forward(x.permute(0, 2, 3, 1))
        return normal.permute(0, 3, 1, 2)


class ConvBlock(nn.Module):
    """A residual step: norm, 3x3, GELU, 3x3."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = ChannelNorm(width)
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Add what the two convolutions see to `x`."""
        residual: Tensor = self.conv2(F.gelu(self.conv1(self.norm(x))))
        return x + residual


class AttentionBlock(nn.Module):
    """A pre-norm transformer block on ``(B, 64, width)``."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        """Let the patches see each other, then think."""
        batch, count, width = x.shape
        packed = self.qkv(self.norm1(x)).view(batch, count, 3, HEADS, width // HEADS).permute(2, 0, 3, 1, 4)
        # Unbound: the way back is then one concatenation instead of three sums.
        query, key, value = packed.unbind(0)
        seen = F.scaled_dot_product_attention(query, key, value)  # (B, heads, 64, width / heads)
        x = x + self.out(seen.transpose(1, 2).reshape(batch, count, width))
        thought: Tensor = self.mlp(self.norm2(x))
        return x + thought
