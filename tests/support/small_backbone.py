"""A backbone of a few numbers: means and slopes of the blocks of a picture; and references made of it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adapters.core.patches import PatchInfo
from adapters.core.protocol import Floats, Preprocess
from adapters.reference.reference import Reference
from agent.inspection.feed_factory import input_spec
from camera.pictures.framing import Framing
from camera.pictures.view import ViewSetting

SIDE, GRID = 32, 8
SPEC = Preprocess(SIDE, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), "bilinear", "squash")
INFO = PatchInfo("blocks", "sha256:" + "b" * 64, SPEC, (GRID, GRID), 9)

Image = NDArray[np.uint8]


class SmallBackbone:
    """A `PatchExtractor`: of each block of 4 x 4 pixels the mean and both slopes of its three colours.

    Attributes:
        calls: pictures of each call.
    """

    def __init__(self, info: PatchInfo = INFO) -> None:
        self.info, self.calls = info, list[int]()

    def patches(self, pixels: Floats) -> Floats:
        self.calls.append(len(pixels))
        step = SIDE // GRID
        blocks = pixels.reshape(len(pixels), 3, GRID, step, GRID, step).transpose(0, 2, 4, 1, 3, 5)
        half = step // 2
        across = blocks[..., half:].mean(axis=(-1, -2)) - blocks[..., :half].mean(axis=(-1, -2))
        down = blocks[..., half:, :].mean(axis=(-1, -2)) - blocks[..., :half, :].mean(axis=(-1, -2))
        features = np.concatenate([blocks.mean(axis=(-1, -2)), across, down], axis=-1)
        return np.ascontiguousarray(features, dtype=np.float32)


def part(seed: int, *, width: int = 64, height: int = 48, spot: tuple[int, int] | None = None) -> Image:
    """Return a grey part; `spot`: left and top of a white square of 10 pixels on it."""
    rng = np.random.default_rng(seed)
    drawn = rng.normal(110, 4, (height, width, 3)) + np.linspace(0, 40, width)[None, :, None]
    if spot is not None:
        left, top = spot
        drawn[top : top + 10, left : left + 10] = 250
    return np.clip(drawn, 0, 255).astype(np.uint8)


def features_of(
    images: list[Image], tiles: tuple[int, int] = (1, 1), view: ViewSetting = "auto", backbone: Any = None
) -> Floats:
    """Return ``(K, T, h, w, D)`` of whole pictures, made as a station would."""
    backbone = backbone or SmallBackbone()
    framing = Framing(input_spec(backbone.info.preprocess), view, tiles)
    return np.stack([backbone.patches(framing.inputs(image).pixels) for image in images])


def a_reference(
    path: Path | None = None,
    *,
    seed: int = 0,
    count: int = 8,
    tiles: tuple[int, int] = (1, 1),
    view: ViewSetting = "auto",
    info: PatchInfo = INFO,
    facts: Mapping[str, Any] | None = None,
) -> Reference:
    """Return a reference of good parts, written to `path` where there is one."""
    good = features_of([part(100 * seed + n) for n in range(count)], tiles, view)
    made = Reference.build(good, info, facts=facts or {})
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        made.save(path)
    return made
