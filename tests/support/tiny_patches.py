"""A backbone without weights: the pixels of each place; and pictures that it tells apart."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from adapters.core.patches import PatchInfo
from adapters.core.protocol import Floats, Preprocess

_SIDE, _GRID = 32, 8


class PixelPatches:
    """``(N, 3, 32, 32)`` to ``(N, 8, 8, 48)``."""

    info = PatchInfo(
        name="pixels",
        digest="sha256:" + 64 * "1",
        preprocess=Preprocess(_SIDE, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), "bilinear", "squash"),
        grid=(_GRID, _GRID),
        channels=48,
    )

    def patches(self, pixels: Floats) -> Floats:
        step = _SIDE // _GRID
        places = pixels.reshape(-1, 3, _GRID, step, _GRID, step).transpose(0, 2, 4, 1, 3, 5)
        return np.ascontiguousarray(places.reshape(-1, _GRID, _GRID, 3 * step * step))


def part(number: int, spot: bool = False, side: int = 64) -> np.ndarray:
    """Return a grey part with some noise of its own, with or without a dark spot."""
    rng = np.random.default_rng(number)
    picture = np.clip(rng.normal(128, 12, (side, side, 3)), 0, 255).astype(np.uint8)
    if spot:
        picture[side // 4 : side // 2, side // 4 : side // 2] //= 4
    return picture


def write_parts(folder: Path, numbers: range, spot: bool = False) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for number in numbers:
        Image.fromarray(part(number, spot)).save(folder / f"{number:03}.png")
    return folder
