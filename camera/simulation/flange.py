"""The part that the simulated line makes: a turned flange with bore and bolt holes, under a lamp.

A turned part is its profile: a height and a finish for each radius. Three tables over the radius therefore
shade the whole face, ``level(r) - slope(r) cos(angle to the lamp) + polish(r) gloss``. Holes are drilled into
that face with the same light. Lengths are pixels, angles are measured from the part.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

SIZE_PX: Final = 256

BORE: Final = 25.0
HUB: Final = 46.0
RIM: Final = 100.0
FLAT: Final = 89.0
"""Radii from the axis outwards; two flats are milled off the rim at this distance."""

BOLT: Final = 9.0
BOLTS: Final = tuple((74.0 * np.cos(k * np.pi / 3), 74.0 * np.sin(k * np.pi / 3)) for k in range(6))
"""Radius and centres of the bolt holes."""

_FOOT: Final = 51.0
_GROOVE: Final = 57.0
_CHAMFER: Final = 3.5
_STEPS: Final = 8
"""Entries per pixel of the tables over the radius: so many that none needs interpolation."""

_RADII: Final = np.arange(160 * _STEPS, dtype=np.float32) / _STEPS
_MARKS: Final = np.arange(0, 160, 0.5)
"""Radii of the table entries, and of the turning marks."""


@dataclass(frozen=True, slots=True)
class Scene:
    """How one part lies, is finished and is lit: everything but its defect.

    Attributes:
        centre: of the part in the picture, column and row.
        light: direction to the lamp, as seen from the part; `second` to its weaker twin.
        tint: gain of the metal in red, green and blue.
        rings: turning marks, relative brightness for each table entry.
    """

    centre: tuple[float, float]
    turn: float
    scale: float
    light: tuple[float, float]
    second: tuple[float, float]
    gloss: float
    tint: tuple[float, float, float]
    rings: Floats

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Scene:
        """Draw the variety of a steady line: a few pixels, a few degrees, a little light and finish."""
        turn = rng.uniform(-0.2, 0.2)
        light = -2.1 + rng.uniform(-0.35, 0.35) - turn  # from the upper left
        second = light + rng.uniform(0.9, 1.5)
        warm = rng.normal(0.0, 0.012)
        marks = rng.standard_normal(_MARKS.size)
        marks = 0.5 * marks + np.convolve(marks, np.full(5, 0.2), "same")
        return cls(
            centre=(rng.uniform(120, 136), rng.uniform(120, 136)),
            turn=turn,
            scale=rng.uniform(0.97, 1.03),
            light=(np.cos(light), np.sin(light)),
            second=(np.cos(second), np.sin(second)),
            gloss=rng.uniform(0.7, 1.25),
            tint=(1.0 + warm, 1.0, 1.015 - warm),
            rings=(np.interp(_RADII, _MARKS, marks) * rng.uniform(0.03, 0.06)).astype(np.float32),
        )

    def to_picture(self, u: float, v: float) -> tuple[float, float]:
        """Return column and row of a place on the part."""
        cos, sin = np.cos(self.turn), np.sin(self.turn)
        column, row = self.centre
        return column + self.scale * (u * cos - v * sin), row + self.scale * (u * sin + v * cos)


@dataclass(slots=True)
class Flange:
    """One part in the making. Owned by one call of `render_part`; defects change it in place.

    Attributes:
        u: place on the part of each pixel, ``(H, W)``, with `v`.
        face: light that comes back from the metal, ``(H, W)`` grey levels.
        outline: signed distance to the outline, negative on the part, ``(H, W)``.
        drilled: 1 where a hole is, ``(H, W)``.
        stain: opacity of dirt on the face, ``(H, W)``, and `stain_colour`, its gain on the metal's colour.
        defect: how much the defect changes each pixel, ``(H, W)``.
        undrilled: index in `BOLTS` of the hole that the drill left out.
    """

    scene: Scene
    u: Floats
    v: Floats
    face: Floats
    outline: Floats
    drilled: Floats
    stain: Floats | None = None
    stain_colour: tuple[float, float, float] = (1.0, 1.0, 1.0)
    defect: Floats | None = None
    undrilled: int | None = None


def turned(scene: Scene) -> Flange:
    """Turn the blank on the lathe, and mill its two flats."""
    pixels = np.arange(SIZE_PX, dtype=np.float32)
    x = (pixels - np.float32(scene.centre[0])) / np.float32(scene.scale)
    y = (pixels[:, None] - np.float32(scene.centre[1])) / np.float32(scene.scale)
    cos, sin = np.float32(np.cos(scene.turn)), np.float32(np.sin(scene.turn))
    u, v = cos * x + sin * y, cos * y - sin * x  # (H, W)
    radius = distance(u, v)
    facing = towards(scene.light, u, v, radius)
    across = towards(scene.second, u, v, radius)
    # Turning marks run around the axis, so each lamp shows as a bow tie across it.
    square = facing * facing
    gloss = square * square * square
    across *= across
    gloss += np.float32(0.45) * across * across
    level, slope, polish = _profile()
    index = (radius * np.float32(_STEPS)).astype(np.intp)
    face = np.take(level * (1 + scene.rings), index, mode="clip")
    face -= np.take(slope, index, mode="clip") * facing
    face += np.take(polish * np.float32(scene.gloss) * (1 + 4 * scene.rings), index, mode="clip") * gloss
    flat = np.abs(v) - np.float32(FLAT)
    rim = radius - np.float32(RIM)
    outline = np.maximum(flat, rim)
    normal = np.where(flat > rim, np.sign(v) * np.float32(scene.light[1]), facing)
    chamfer = np.clip(outline + np.float32(_CHAMFER), 0, 1)
    face += chamfer * (np.float32(118) + np.float32(88) * normal - face)
    return Flange(scene, u, v, face, outline, np.zeros_like(face))


def drill(flange: Flange, x: float, y: float, radius: float) -> None:
    """Drill a countersunk hole; the wall that is seen is the one that faces the lamp."""
    column, row = flange.scene.to_picture(x, y)
    reach = (radius + 4.0) * flange.scene.scale
    left, top = max(0, int(column - reach)), max(0, int(row - reach))
    window = slice(top, int(row + reach) + 2), slice(left, int(column + reach) + 2)
    u, v = flange.u[window] - np.float32(x), flange.v[window] - np.float32(y)
    away = distance(u, v)
    facing = towards(flange.scene.light, u, v, away)
    face = flange.face[window]
    sink = np.clip(np.float32(radius + 2.5) - away, 0, 1)
    face += sink * (np.float32(128) - np.float32(70) * facing - face)
    hole = np.clip(np.float32(radius + 0.5) - away, 0, 1)
    depth = away / np.float32(radius)
    depth *= depth
    wall = np.float32(16) - np.float32(74) * np.minimum(facing, 0) * depth * depth
    face += hole * (wall - face)
    flange.drilled[window] = np.maximum(flange.drilled[window], hole)


def distance(u: Floats, v: Floats) -> Floats:
    """Return the length of ``(u, v)``, never quite zero."""
    return np.asarray(cv2.magnitude(u, v) + np.float32(1e-3), dtype=np.float32)


def towards(light: tuple[float, float], u: Floats, v: Floats, length: Floats) -> Floats:
    """Return the cosine between ``(u, v)`` of that length and the direction to the lamp."""
    return np.asarray((u * np.float32(light[0]) + v * np.float32(light[1])) / length, dtype=np.float32)


@lru_cache(maxsize=1)
def _profile() -> tuple[Floats, Floats, Floats]:
    """Return level, slope and polish of the part for each radius, in grey levels."""
    r = _RADII
    level = np.where(r < HUB, 150.0, 138.0)
    level -= 46.0 * np.exp(-(((r - _FOOT) / 3.0) ** 2))  # the foot of the hub sees less of the room
    level -= 40.0 * np.exp(-(((r - _GROOVE) / 1.1) ** 2))
    slope = 35.0 * (r - _GROOVE) / 1.1 * np.exp(-(((r - _GROOVE) / 1.1) ** 2))
    slope[(r > BORE) & (r < BORE + 3.5)] = 60.0
    slope[(r > HUB - 2.5) & (r < HUB + 2.0)] = -85.0
    polish = np.where(np.abs(slope) > 1.0, 30.0, 62.0)
    polish[(r > HUB + 2.0) & (r < _FOOT + 3.0)] = 15.0
    soft = np.full(9, 1 / 9)  # no edge is sharper than the lens
    level, slope, polish = (np.convolve(np.pad(t, 4, "edge"), soft, "valid") for t in (level, slope, polish))
    return level.astype(np.float32), slope.astype(np.float32), polish.astype(np.float32)
