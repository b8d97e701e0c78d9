"""A backbone without weights: the mean colour of each place; and pictures that it tells apart."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from adapters.core.patches import PatchInfo
from adapters.core.protocol import Floats, Preprocess

_SIDE, _GRID = 32, 8


class MeanColours:
    """``(N, 3, 32, 32)`` to ``(N, 8, 8, 3)``."""

    info = PatchInfo(
        name="mean-colours",
        digest="sha256:" + 64 * "1",
        preprocess=Preprocess(_SIDE, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), "bilinear", "squash"),
        grid=(_GRID, _GRID),
        channels=3,
    )

    def patches(self, pixels: Floats) -> Floats:
        step = _SIDE // _GRID
        return pixels.reshape(-1, 3, _GRID, step, _GRID, step).mean(axis=(3, 5)).transpose(0, 2, 3, 1)


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
