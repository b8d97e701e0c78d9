"""The small CLIP of the photo benchmark, which open_clip builds from its JSON config; DiffCLIP differs in attention.

A stem of convolutions makes 64 patches of a 32x32 photo and learns from few of them; three transformer blocks
and a class token follow. Every norm is an `nn.LayerNorm`, because those are what adapts.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import open_clip
import timm.models
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.nn import functional as F

from adapters.torch_model.diffclip import LambdaInit, differentiate
from adapters.torch_model.line_encoder import ConvBlock

NAME = "photo-clip"
CONFIG = Path(__file__).parent / "model_configs" / f"{NAME}.json"
WEIGHTS = Path(__file__).parent / "weights"
KINDS: dict[str, LambdaInit | None] = {"clip": None, "diffclip": LambdaInit(0.8)}
"""Kind -> `lambda_init` of its attention; none is ordinary attention."""

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
TEMPLATES = ("a photo of a {}.",)
"""What BATCLIP adapts with; training draws from more."""

WIDTH = 128
LAYERS = 3
HEADS = 4


def register() -> None:
    """Make the tower known to timm and the model known to open_clip; again is as good as once."""
    if not timm.models.is_model(mekiki_photo_tower.__name__):
        timm.models.register_model(mekiki_photo_tower)
    if NAME not in open_clip.list_models():
        open_clip.add_model_config(CONFIG)


def build(kind: str) -> Any:
    """Return a fresh model of one of `KINDS`."""
    register()
    model = open_clip.create_model(NAME, load_weights=False)
    lambda_init = KINDS[kind]
    if lambda_init is not None:
        differentiate(model, lambda_init)
    return model


def weights(kind: str, seed: int = 0) -> Path:
    """Return where `train_clip` leaves the weights of a kind."""
    return WEIGHTS / f"photo-{kind}-{seed}.safetensors"


def mekiki_photo_tower(pretrained: bool = False, **_: Any) -> VisionTransformer:
    """Build the tower under the name that the JSON config gives to timm."""
    tower = VisionTransformer(
        img_size=32,
        patch_size=4,
        embed_dim=WIDTH,
        depth=LAYERS,
        num_heads=HEADS,
        num_classes=0,
        embed_layer=ConvStem,
        norm_layer=nn.LayerNorm,
    )
    tower.default_cfg = {}  # open_clip looks there for the size of a feature map; a ViT has none
    return tower


class ConvStem(nn.Module):
    """Convolutions to 8x8 patches, ``(B, 3, 32, 32)`` to ``(B, 64, width)``, in the place of timm's PatchEmbed."""

    num_patches = 64

    def __init__(self, embed_dim: int, **_: Any) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, embed_dim // 4, 3, padding=1)
        self.conv2 = nn.Conv2d(embed_dim // 4, embed_dim // 2, 3, stride=2, padding=1)
        self.block = ConvBlock(embed_dim // 2)
        self.conv3 = nn.Conv2d(embed_dim // 2, embed_dim, 3, stride=2, padding=1)

    def forward(self, images: Tensor) -> Tensor:
        """Return the patches row by row from the upper left."""
        x = self.block(self.conv2(F.gelu(self.conv1(images))))
        patches: Tensor = self.conv3(F.gelu(x)).flatten(2).transpose(1, 2)
        return patches
