"""What goes wrong with a flange: five defects, each drawn at a random place, size and strength."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from camera.core.frame import Image
from camera.simulation.flange import BOLT, BOLTS, BORE, FLAT, RIM, SIZE_PX, Flange, Floats, distance, towards


def add_defect(flange: Flange, label: str, rng: np.random.Generator) -> None:
    """Spoil the flange, before its holes are drilled, and note where.

    Raises:
        KeyError: there is no such defect.
    """
    _DEFECTS[label](flange, rng)


def _scratch(flange: Flange, rng: np.random.Generator) -> None:
    """One to three fine lines: a burr that throws light, beside it the shadowed groove."""
    place = np.array(flange.scene.to_picture(*_place(rng, margin=2.0)))
    angle, bend = rng.uniform(0, np.pi), rng.uniform(-0.5, 0.5)
    along = np.array([np.cos(angle), np.sin(angle)])
    across = np.array([-along[1], along[0]])
    bright, dark = np.zeros((2, SIZE_PX, SIZE_PX), np.uint8)
    for stroke in range(int(rng.choice([1, 1, 2, 3]))):
        length = rng.uniform(34, 92)
        way = np.linspace(-0.5, 0.5, 13)[:, None] * length
        aside = stroke * rng.uniform(3.5, 6.0) + bend * way**2 / length + rng.normal(0, 0.15, way.shape)
        late = rng.uniform(-8, 8) if stroke else 0.0
        line = place + along * (way + late) + across * aside  # (13, 2)
        width = int(rng.choice([2, 2, 3]))  # one pixel is gone at the 128 that small models see
        _stroke(bright, line, width)
        _stroke(dark, line + across * (0.6 + 0.7 * width), width)
    strength = rng.uniform(0.8, 1.15) * rng.choice([1.0, 1.0, -0.8])
    burr, groove = (layer.astype(np.float32) / np.float32(255) for layer in (bright, dark))
    flange.face += np.float32(strength * 95) * burr - np.float32(strength * 80) * groove
    flange.defect = np.maximum(burr, groove)


def _dent(flange: Flange, rng: np.random.Generator) -> None:
    """A round or long dip with a raised lip: dark where it turns from the lamp, bright where it faces it."""
    size = rng.uniform(8.5, 13.0)
    u0, v0 = _place(rng, margin=6.0)
    angle, long = rng.uniform(0, np.pi), rng.uniform(1.0, 1.7)
    cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    u, v = flange.u - np.float32(u0), flange.v - np.float32(v0)
    p = (u * cos + v * sin) / np.float32(size * long)  # 1 at the lip
    q = (v * cos - u * sin) / np.float32(size)
    square = p * p + q * q
    slope = np.exp(-square * np.float32(1.6)) * (np.float32(1.75) - square)
    light_u, light_v = flange.scene.light
    facing = -slope * (p * (light_u * cos + light_v * sin) + q * (light_v * cos - light_u * sin))
    strength = np.float32(rng.uniform(120, 165))
    flange.face += strength * (facing - np.float32(0.32) * np.exp(-square * np.float32(1.6)))
    flange.face += strength * np.float32(1.1) * np.maximum(facing - np.float32(0.38), 0)  # the glint
    flange.defect = np.clip(np.float32(2.2) - square, 0, 1)


def _stain(flange: Flange, rng: np.random.Generator) -> None:
    """A dried drop of oil or coolant: translucent, brown to dark grey, darker along its edge."""
    size = rng.uniform(11.0, 22.0)
    u0, v0 = _place(rng, margin=5.0)
    u, v = flange.u - np.float32(u0), (flange.v - np.float32(v0)) * np.float32(rng.uniform(0.8, 1.25))
    inside = np.float32(1.0) - distance(u, v) / np.float32(size) + np.float32(0.26) * _rough(rng, 22)
    body = np.clip(inside * np.float32(4.5), 0, 1)
    edge = np.exp(-(((inside - np.float32(0.12)) / np.float32(0.10)) ** 2))
    opacity = np.float32(rng.uniform(0.5, 0.85)) * (np.float32(0.72) + np.float32(0.45) * edge)
    flange.stain = body * np.minimum(opacity, np.float32(0.95))
    oily = rng.uniform(0, 1)
    red, green, blue = (1 - oily) * np.array([0.66, 0.44, 0.20]) + oily * np.array([0.34, 0.31, 0.27])
    flange.stain_colour = (float(red), float(green), float(blue))
    flange.defect = body


def _missing_hole(flange: Flange, rng: np.random.Generator) -> None:
    """The drill broke: one bolt hole was never made."""
    flange.undrilled = int(rng.integers(len(BOLTS)))
    x, y = BOLTS[flange.undrilled]
    flange.defect = np.clip(BOLT + 2.5 - distance(flange.u - np.float32(x), flange.v - np.float32(y)), 0, 1)


def _chipped_edge(flange: Flange, rng: np.random.Generator) -> None:
    """A bite out of the outer edge, with the rough slope where the metal broke."""
    angle = rng.uniform(0, 2 * np.pi)
    size = rng.uniform(9.0, 19.0)
    edge = min(RIM, FLAT / max(1e-6, abs(np.sin(angle))))
    middle = edge + size * rng.uniform(-0.1, 0.35)
    u, v = flange.u - np.float32(middle * np.cos(angle)), flange.v - np.float32(middle * np.sin(angle))
    jagged = _rough(rng, 40)
    away = distance(u, v)
    bite = np.float32(size) - away + np.float32(2.0) * jagged  # above 0 the metal is gone
    slope = np.clip((bite + np.float32(rng.uniform(3.0, 6.0))) / np.float32(2.0), 0, 1)
    broken = np.float32(rng.uniform(90, 140)) + np.float32(42) * jagged
    broken -= np.float32(40) * towards(flange.scene.light, u, v, away)
    flange.face += slope * (broken - flange.face)
    flange.defect = slope
    flange.outline = np.maximum(flange.outline, bite)


_DEFECTS: Final[dict[str, Callable[[Flange, np.random.Generator], None]]] = {
    "scratch": _scratch,
    "dent": _dent,
    "stain": _stain,
    "missing_hole": _missing_hole,
    "chipped_edge": _chipped_edge,
}


def _place(rng: np.random.Generator, margin: float) -> tuple[float, float]:
    """Draw a place on the face that keeps clear of holes and edges."""
    while True:
        radius = rng.uniform(BORE + 4 + margin, RIM - 3 - margin)
        angle = rng.uniform(0, 2 * np.pi)
        u, v = float(radius * np.cos(angle)), float(radius * np.sin(angle))
        clear = min(np.hypot(x - u, y - v) for x, y in BOLTS)
        if clear > BOLT + margin and abs(v) < FLAT - 3 - margin:
            return u, v


def _stroke(layer: Image, line: NDArray[np.float64], width: int) -> None:
    points = np.rint(line * 16).astype(np.int32)  # sixteenths of a pixel
    cv2.polylines(layer, [points], isClosed=False, color=255, thickness=width, lineType=cv2.LINE_AA, shift=4)


def _rough(rng: np.random.Generator, cells: int) -> Floats:
    """Return ``(H, W)`` noise of unit variance with so many hills across."""
    grid = rng.standard_normal((cells, cells)).astype(np.float32)
    return np.asarray(cv2.resize(grid, (SIZE_PX, SIZE_PX), interpolation=cv2.INTER_LINEAR), dtype=np.float32)
