"""Patch features of a CLIP's image tower: what it has computed for each place before it answers.

A vision transformer's are the tokens that go into two of its blocks, of which the last is one: what comes out
of that block is computed for the class token alone. A tower of convolutions has maps of strides 4 to 16.
Layers become features as those of the backbone do (`adapters.backbone.efficientnet_lite0`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import timm.models
import torch
from open_clip.transformer import VisionTransformer
from torch import Tensor, nn
from torch.nn import functional as F

from adapters.core.protocol import ModelError
from adapters.torch_model.line_encoder import LineTower

_STRIDES = (4, 8, 16)
_LEAST_RMS = 1e-6


@dataclass(frozen=True, slots=True)
class PatchTap:
    """Where patches are read.

    Attributes:
        module: name in the model; what goes into it is read if these are tokens, what comes out if a map.
        grid: rows and columns of the tokens; None for a map ``(B, C, h, w)``.
    """

    module: str
    grid: tuple[int, int] | None = None


def taps_of(name: str, model: Any) -> tuple[PatchTap, ...]:
    """Return where the patches of a model are read.

    Args:
        name: of the model, for the message.
        model: open_clip's module.

    Raises:
        ModelError: its image tower is none that we know.
    """
    visual = model.visual
    trunk = getattr(visual, "trunk", None)
    if isinstance(visual, VisionTransformer) and visual.transformer.batch_first:
        blocks, prefix, grid = visual.transformer.resblocks, "visual.transformer.resblocks", visual.grid_size
        return _of_blocks(prefix, len(blocks), tuple(grid))
    if isinstance(trunk, timm.models.VisionTransformer):
        side = math.isqrt(trunk.patch_embed.num_patches)
        grid = getattr(trunk.patch_embed, "grid_size", (side, side))
        return _of_blocks("visual.trunk.blocks", len(trunk.blocks), tuple(grid))
    if isinstance(trunk, LineTower):
        return tuple(PatchTap(f"visual.trunk.{module}") for module in trunk.maps)
    stages = [one for one in getattr(trunk, "feature_info", ()) if one.get("reduction") in _STRIDES]
    modules = {part for part, _ in trunk.named_modules()} if isinstance(trunk, nn.Module) else set()
    if not stages or not all(one["module"] in modules for one in stages):
        raise ModelError(
            f"{name}: where its image tower has patches is not known: build it without --patches, and use the"
            " features backbone"
        )
    return tuple(PatchTap(f"visual.trunk.{one['module']}") for one in stages)


class PatchTower(nn.Module):
    """The image tower with a second answer, so that torch can call it with other tensors and export it."""

    def __init__(self, clip: Any, taps: tuple[PatchTap, ...]) -> None:
        super().__init__()
        self.clip = clip
        self._taps = taps

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return ``(B, D)`` features, not normalised, and ``(B, h, w, P)`` patches."""
        features, layers = self._encoded(images)
        return features, joined(layers)

    def layers(self, images: Tensor) -> list[Tensor]:
        """Return ``(B, C, h, w)`` of each layer, before they are joined."""
        return self._encoded(images)[1]

    def _encoded(self, images: Tensor) -> tuple[Tensor, list[Tensor]]:
        caught: list[Tensor] = []
        with _caught(self.clip, self._taps, caught.append):
            features: Tensor = self.clip.encode_image(images, normalize=False)
        return features, [_map(one, tap) for one, tap in zip(caught, self._taps, strict=True)]


def joined(layers: list[Tensor]) -> Tensor:
    """Return ``(B, h, w, P)`` patches of ``(B, C, h, w)`` layers, on the grid of the one in the middle."""
    grid = layers[len(layers) // 2].shape[-2:]
    return torch.cat([_scaled(_on(layer, grid)) for layer in layers], 1).permute(0, 2, 3, 1)


def _of_blocks(prefix: str, count: int, grid: tuple[int, ...]) -> tuple[PatchTap, ...]:
    height, width = grid
    numbers = sorted({count // 2, count - 1})
    return tuple(PatchTap(f"{prefix}.{number}", (height, width)) for number in numbers)


@contextmanager
def _caught(model: nn.Module, taps: tuple[PatchTap, ...], keep: Callable[[Tensor], None]) -> Iterator[None]:
    """Hand on what goes through the taps, in their order."""
    parts = dict(model.named_modules())
    handles = []
    for tap in taps:
        part = parts[tap.module]
        if tap.grid is None:
            handles.append(part.register_forward_hook(lambda _module, _inputs, output: keep(output)))
        else:
            handles.append(part.register_forward_pre_hook(lambda _module, inputs: keep(inputs[0])))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _map(value: Tensor, tap: PatchTap) -> Tensor:
    """Return a layer as ``(B, C, h, w)``; a map is averaged over 3x3 places, tokens have seen each other."""
    if tap.grid is None:
        return F.avg_pool2d(value, 3, 1, 1, count_include_pad=False)
    height, width = tap.grid
    places = value[:, value.shape[1] - height * width :]  # class and register tokens stand before
    # Not len(): an export would take the length of its example for that of every batch.
    return places.transpose(1, 2).reshape(value.shape[0], -1, height, width)


def _on(layer: Tensor, grid: Any) -> Tensor:
    side, wanted = layer.shape[-1], grid[-1]
    if side > wanted:
        return F.avg_pool2d(layer, round(side / wanted), ceil_mode=True)
    return layer if side == wanted else F.interpolate(layer, size=tuple(grid), mode="bilinear")


def _scaled(layer: Tensor) -> Tensor:
    power = layer.pow(2).mean((1, 2, 3), keepdim=True)
    return layer / power.sqrt().clamp(min=_LEAST_RMS)
