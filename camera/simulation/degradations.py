"""What lamp, lens and sensor do to a picture as they age: nine degradations, each with severities 0 to 5.

Written after the corruptions of D. Hendrycks and T. Dietterich, "Benchmarking Neural Network Robustness to
Common Corruptions and Perturbations", ICLR 2019, https://arxiv.org/abs/1903.12261, for a fixed camera: glare
and dirt stay where they are from part to part, noise does not.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from camera.core.frame import Image

Floats = NDArray[np.float32]

ANCHORS: Final[dict[str, tuple[float, float, float, float, float, float]]] = {
    # severity   0     1     2     3     4     5
    "dim":      (1.0, 0.80, 0.62, 0.46, 0.37, 0.28),  # share of the light that is left
    "glare":    (0.0, 35.0, 70.0, 108.0, 160.0, 220.0),  # grey levels added in the middle of the spot
    "dirt":     (0.0, 0.15, 0.32, 0.48, 0.85, 1.50),  # opacity of the dirtiest speck; above 1 it grows
    "defocus":  (0.0, 1.20, 2.60, 4.20, 5.60, 7.00),  # sigma in pixels of a picture of 256
    "motion":   (0.0, 4.00, 9.00, 14.5, 21.0, 28.0),  # travel in pixels of a picture of 256
    "noise":    (0.0, 8.00, 18.0, 30.0, 42.0, 56.0),  # sigma in grey levels
    "fog":      (0.0, 0.16, 0.32, 0.47, 0.60, 0.72),  # share of the light that comes from the fog
    "contrast": (1.0, 0.72, 0.50, 0.31, 0.23, 0.16),  # share of the contrast that is left
    "cast":     (0.0, 0.10, 0.21, 0.33, 0.46, 0.62),  # log gain of the strongest colour channel
}  # fmt: skip
"""One number per kind and severity, interpolated between severities. All calibration happens here."""

KINDS: Final = tuple(ANCHORS)

_NATIVE_PX: Final = 256
_FOG: Final = (196.0, 200.0, 204.0)
_DUST: Final = (52.0, 47.0, 40.0)
_LAMP: Final = np.array([1.0, 0.97, 0.90], dtype=np.float32)
"""Colours of what hides the picture."""

_STILL: Final = np.ones(1, np.float32)
_LEVELS: Final = np.arange(256, dtype=np.float64)[:, None]
_POOL: Final = 1 << 20
_KEPT: Final = 8
"""Maps of glare, dirt and fog that are kept; a line needs one of each, training many that are used once."""


def degrade(image: Image, kind: str, severity: float, seed: int) -> Image:
    """Return the picture as a worse lamp, lens or sensor shows it.

    Args:
        image: ``(H, W, 3)`` uint8 RGB of any size; lengths scale with its shorter side.
        kind: one of `KINDS`.
        severity: 0 returns the very same picture, 5 is the worst; beyond that it stays at the worst.
        seed: fixes place of glare and dirt, shape of the fog, hue of the cast, and every pixel of the noise.
    """
    if severity <= 0:
        return image
    strength = float(np.interp(severity, range(6), ANCHORS[kind]))
    return _DEGRADATIONS[kind](image, strength, seed)


def _dim(image: Image, strength: float, seed: int) -> Image:
    return _look_up(image, _LEVELS * np.full(3, strength))


def _glare(image: Image, strength: float, seed: int) -> Image:
    return _uint8(image + np.float32(strength) * _glare_map(seed, *image.shape[:2]))


def _dirt(image: Image, strength: float, seed: int) -> Image:
    height, width = image.shape[:2]
    dust, grease = _dirt_maps(seed, height, width)
    # Grease lets the light through but not the picture: it mixes in the blurred surroundings.
    coarse = cv2.resize(image, (width // 16 + 1, height // 16 + 1), interpolation=cv2.INTER_AREA)
    haze = cv2.resize(0.8 * coarse.astype(np.float32) + 38, (width, height), interpolation=cv2.INTER_LINEAR)
    picture = image.astype(np.float32)
    picture += cv2.merge([np.minimum(grease * np.float32(strength), 0.92)] * 3) * (haze - picture)
    return _covered(picture, np.minimum(dust * np.float32(strength), 0.96), _DUST)


def _defocus(image: Image, strength: float, seed: int) -> Image:
    sigma = strength * min(image.shape[:2]) / _NATIVE_PX
    # As floats: on bytes OpenCV takes twice as long.
    blurred = cv2.GaussianBlur(image.astype(np.float32), (0, 0), sigma, borderType=cv2.BORDER_REPLICATE)
    return _uint8(np.asarray(blurred, dtype=np.float32))


def _motion(image: Image, strength: float, seed: int) -> Image:
    """The belt runs from left to right, so a long exposure smears along the rows."""
    travel = 1.0 + strength * min(image.shape[:2]) / _NATIVE_PX
    side = int(np.ceil((travel - 1) / 2))
    kernel = np.ones(2 * side + 1, np.float32)
    kernel[[0, -1]] = (travel - (2 * side - 1)) / 2  # the ends count in part: continuous in the travel
    kernel /= np.float32(travel)
    smeared = cv2.sepFilter2D(image, cv2.CV_8U, kernel, _STILL, borderType=cv2.BORDER_REPLICATE)
    return np.asarray(smeared, dtype=np.uint8)


def _noise(image: Image, strength: float, seed: int) -> Image:
    offset = np.random.default_rng(seed).integers(max(1, _POOL - image.size))
    return _uint8(image + np.float32(strength) * np.resize(_noise_pool()[offset:], image.shape))


def _fog(image: Image, strength: float, seed: int) -> Image:
    return _covered(image, np.minimum(np.float32(strength) * _fog_map(seed, *image.shape[:2]), 0.97), _FOG)


def _contrast(image: Image, strength: float, seed: int) -> Image:
    mean = float(np.mean(cv2.mean(image)[:3]))
    return _look_up(image, np.tile(mean + strength * (_LEVELS - mean), 3))


def _cast(image: Image, strength: float, seed: int) -> Image:
    rng = np.random.default_rng(seed)
    green = rng.uniform(-0.4, 0.4)  # as from a fluorescent tube
    warm = rng.choice([-1.0, 1.0]) * (1 - abs(green))
    # The gains multiply to one: a cast is not a dimming.
    hue = np.array([warm, 0.0, -warm]) + green * np.array([-0.5, 1.0, -0.5])
    return _look_up(image, _LEVELS * np.exp(strength * hue))


_DEGRADATIONS: Final[dict[str, Callable[[Image, float, int], Image]]] = {
    "dim": _dim,
    "glare": _glare,
    "dirt": _dirt,
    "defocus": _defocus,
    "motion": _motion,
    "noise": _noise,
    "fog": _fog,
    "contrast": _contrast,
    "cast": _cast,
}


@lru_cache(maxsize=_KEPT)
def _glare_map(seed: int, height: int, width: int) -> Floats:
    """Return ``(H, W, 3)``: a lamp seen in the lens, its halo, a streak and the veil over everything."""
    rng = np.random.default_rng(seed)
    side = min(height, width)
    x = (np.arange(width, dtype=np.float32) - rng.uniform(0.25, 0.75) * width) / side
    y = ((np.arange(height, dtype=np.float32) - rng.uniform(0.25, 0.75) * height) / side)[:, None]
    distance = x**2 + y**2  # (H, W)
    tilt = rng.uniform(-0.5, 0.5)
    streak = np.exp(-(((y - tilt * x) / 0.02) ** 2)) * np.exp(-(x**2) / 0.18)
    light = 0.85 * np.exp(-distance / rng.uniform(0.03, 0.07)) + 0.22 * np.exp(-distance / 0.3)
    light += 0.25 * streak + 0.12
    return np.asarray(light[..., None] * _LAMP, dtype=np.float32)


@lru_cache(maxsize=_KEPT)
def _dirt_maps(seed: int, height: int, width: int) -> tuple[Floats, Floats]:
    """Return the opacity of dust and of grease, each ``(H, W)``, as they lie on the lens at strength 1."""
    rng = np.random.default_rng(seed)
    side = min(height, width)
    specks, smudges = np.zeros((2, height, width), np.float32)
    for _ in range(int(rng.integers(14, 24))):
        _blot(specks, rng, size=(0.010, 0.055), opacity=(0.25, 1.0))
    for _ in range(int(rng.integers(3, 6))):
        _blot(smudges, rng, size=(0.16, 0.40), opacity=(0.4, 0.8))
    # Dirt sits on the glass, far out of focus: it has no sharp edges.
    dust = np.asarray(cv2.GaussianBlur(specks, (0, 0), side * 0.006), dtype=np.float32)
    grease = np.asarray(cv2.GaussianBlur(smudges, (0, 0), side * 0.03), dtype=np.float32)
    return dust, grease * (np.float32(0.7) + np.float32(0.3) * _smooth_field(rng, 14, height, width))


@lru_cache(maxsize=_KEPT)
def _fog_map(seed: int, height: int, width: int) -> Floats:
    """Return ``(H, W)`` of how thick the fog is, 1 on average."""
    return 1 + np.float32(0.22) * _smooth_field(np.random.default_rng(seed), 4, height, width)


def _blot(
    layer: Floats, rng: np.random.Generator, size: tuple[float, float], opacity: tuple[float, float]
) -> None:
    """Draw one ellipse of some size (as a share of the shorter side) and opacity, somewhere."""
    height, width = layer.shape
    centre = rng.uniform(0.0, 1.0, 2) * (width, height)
    axes = rng.uniform(*size) * min(height, width) * rng.uniform(0.5, 1.0, 2)
    cv2.ellipse(layer, (centre.tolist(), axes.tolist(), rng.uniform(0, 180)), rng.uniform(*opacity), -1)


def _smooth_field(rng: np.random.Generator, cells: int, height: int, width: int) -> Floats:
    """Return ``(H, W)`` smooth noise of about -1..1 with so many hills across."""
    grid = rng.uniform(-1.0, 1.0, (cells, cells)).astype(np.float32)
    return np.asarray(cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC), dtype=np.float32)


@lru_cache(maxsize=1)
def _noise_pool() -> Floats:
    """Drawing a picture of normal numbers takes 3 ms, cutting one out of a pool 0.05 ms."""
    return np.random.default_rng(0).standard_normal(_POOL, dtype=np.float32)


def _look_up(image: Image, table: NDArray[np.float64]) -> Image:
    """Map every grey level through its column of the ``(256, 3)`` table."""
    levels = np.clip(np.rint(table), 0, 255).astype(np.uint8)
    return np.asarray(cv2.LUT(image, levels[None]), dtype=np.uint8)


def _covered(picture: Image | Floats, share: Floats, colour: tuple[float, float, float]) -> Image:
    """Hide a share of each pixel, ``(H, W)``, behind one colour."""
    veil = cv2.merge([share * np.float32(level) for level in colour])  # (H, W, 3)
    return _uint8(picture * cv2.merge([1 - share] * 3) + veil)


def _uint8(picture: Floats) -> Image:
    return np.clip(np.rint(picture), 0, 255).astype(np.uint8)
