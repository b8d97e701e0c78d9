"""The picture of one part on the belt, and where its defect is."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from camera.core.frame import Image
from camera.simulation.defects import add_defect
from camera.simulation.flange import BOLT, BOLTS, BORE, SIZE_PX, Flange, Floats, Scene, drill, turned

__all__ = ["LABELS", "SIZE_PX", "render_part"]

LABELS: Final = ("ok", "scratch", "dent", "stain", "missing_hole", "chipped_edge")

_BELT_PX: Final = 1024
_BELT_TINT: Final = (0.97, 1.0, 1.02)
_GRAIN_PX: Final = 512
_VISIBLE: Final = 0.35
"""A pixel belongs to the defect if the defect changes it by more than this share."""


def render_part(label: str, rng: np.random.Generator) -> tuple[Image, NDArray[np.bool_]]:
    """Take a picture of one part.

    One state of the generator gives the same part, belt and light for every label: only the defect differs.

    Args:
        label: one of `LABELS`.
        rng: is advanced; how far depends on the label.

    Returns:
        ``(256, 256, 3)`` uint8 RGB and the defect's ``(256, 256)`` mask, all False for an ok part.

    Raises:
        KeyError: there is no such label.
    """
    flange = turned(Scene.draw(rng))
    shot = rng.random(7)
    metal = flange.outline < 0  # as it should be
    if label != "ok":
        add_defect(flange, label, rng)
    for index, (x, y) in enumerate(BOLTS):
        if index != flange.undrilled:
            drill(flange, x, y, BOLT)
    drill(flange, 0.0, 0.0, BORE)
    picture = _photograph(flange, shot)
    if flange.defect is None:
        return picture, np.zeros_like(metal)
    return picture, (flange.defect > _VISIBLE) & metal & (flange.drilled < 0.5)


def _photograph(flange: Flange, shot: NDArray[np.float64]) -> Image:
    """Lay the part on the belt and take its picture, with seven numbers of 0..1 for all that varies."""
    belt_x, belt_y, grain_x, grain_y, exposure, slant_x, slant_y = shot
    metal = np.clip(np.float32(0.5) - flange.outline, 0, 1)
    belt = _window(_belt(), belt_x, belt_y)
    ground = (1 - metal) * belt * _shadow(flange.scene, metal)
    lamp = np.linspace(-1, 1, SIZE_PX, dtype=np.float32)
    light = _vignette() * (np.float32(0.92 + 0.16 * exposure) + lamp * np.float32(0.16 * slant_x - 0.08))
    light *= 1 + (lamp * np.float32(0.16 * slant_y - 0.08))[:, None]
    metal *= flange.face
    stained = np.zeros_like(metal) if flange.stain is None else metal * flange.stain * (1 - flange.drilled)
    # Everything is grey until here: each of the three materials has one colour.
    layers = cv2.merge([(metal - stained) * light, stained * light, ground * light])
    tint = np.array(flange.scene.tint)
    colours = np.stack([tint, tint * flange.stain_colour, _BELT_TINT], axis=1)
    picture = cv2.GaussianBlur(cv2.transform(layers, colours), (3, 3), 0.55)
    picture = np.rint(picture + _window(_grain(), grain_x, grain_y))
    return np.asarray(np.clip(picture, 0, 255), dtype=np.uint8)


def _window(texture: Floats, x: float, y: float) -> Floats:
    """Cut one picture out of a larger texture, at a place given by two numbers of 0..1."""
    top, left = int(y * (texture.shape[0] - SIZE_PX)), int(x * (texture.shape[1] - SIZE_PX))
    return texture[top : top + SIZE_PX, left : left + SIZE_PX]


def _shadow(scene: Scene, metal: Floats) -> Floats:
    """Return how much light reaches the belt: the part stands a finger high and the lamp is large."""
    x, y = scene.light
    cos, sin = np.cos(scene.turn), np.sin(scene.turn)
    away = -2.6 * np.array([x * cos - y * sin, x * sin + y * cos])
    shift = np.array([[1.0, 0.0, away[0]], [0.0, 1.0, away[1]]])
    small = cv2.resize(metal, (64, 64), interpolation=cv2.INTER_AREA)
    soft = cv2.GaussianBlur(cv2.warpAffine(small, shift, (64, 64)), (0, 0), 1.6)
    return 1 - np.float32(0.72) * cv2.resize(soft, (SIZE_PX, SIZE_PX), interpolation=cv2.INTER_LINEAR)


@lru_cache(maxsize=1)
def _belt() -> Floats:
    """Return ``(1024, 1024)`` dark ribbed rubber, worn and dusty."""
    rng = np.random.default_rng(1)
    side = _BELT_PX
    wave = np.sin(np.arange(side, dtype=np.float32) * np.float32(2 * np.pi / 8))
    level = 41 + 6 * wave * wave[:, None] + rng.normal(0, 2.6, (side, side)).astype(np.float32)
    for cells, depth in ((8, 4.0), (48, 3.0)):
        grid = rng.standard_normal((cells, cells)).astype(np.float32)
        level += np.float32(depth) * cv2.resize(grid, (side, side), interpolation=cv2.INTER_CUBIC)
    for _ in range(900):
        centre = (int(rng.integers(side)), int(rng.integers(side)))
        cv2.circle(level, centre, int(rng.integers(1, 3)), rng.uniform(52, 82), -1, cv2.LINE_AA)
    return np.asarray(cv2.GaussianBlur(level, (0, 0), 0.8), dtype=np.float32)


@lru_cache(maxsize=1)
def _vignette() -> Floats:
    """Return ``(H, W)``: a lens gives its corners less light."""
    square = np.linspace(-1, 1, SIZE_PX, dtype=np.float32) ** 2
    return np.float32(1.04) - np.float32(0.12) * (square + square[:, None])


@lru_cache(maxsize=1)
def _grain() -> Floats:
    """Return ``(512, 512, 3)`` of the noise of a good sensor."""
    return np.random.default_rng(2).normal(0, 1.6, (_GRAIN_PX, _GRAIN_PX, 3)).astype(np.float32)
