"""The fifteen kinds of `benchmarks.corruptions`, each with its five constants; that module names the paper.

Noise, blur, weather, digital: a kind is a function of one picture, the constants of the severity and a
generator. It owns nothing and changes nothing, and may leave 0..1, which the caller clips.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import lru_cache
from math import ceil
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.Image import Resampling

Floats = NDArray[np.floating[Any]]
"""A picture is ``(32, 32, 3)`` RGB in 0..1, a layer ``(32, 32)``."""

Constants = tuple[float, ...]
Kind = Callable[[Floats, Constants, np.random.Generator], Floats]

SIDE_PX: Final = 32

_FROST: Final = (
    ((78, 149, 166), 14),
    ((201, 205, 214), 18),
    ((201, 205, 214), 18),
    ((138, 153, 166), 26),
    ((112, 123, 135), 35),
)
"""Mean colour and standard deviation of each of the authors' five photos of frost, at their scale."""


def gaussian_noise(picture: Floats, constants: Constants, rng: np.random.Generator) -> Floats:
    """Add what a sensor adds in the dark; constants: sigma."""
    (sigma,) = constants
    return picture + sigma * rng.standard_normal(picture.shape, np.float32)


def shot_noise(picture: Floats, constants: Constants, rng: np.random.Generator) -> Floats:
    """Count photons; constants: how many make white."""
    (photons,) = constants
    return (rng.poisson(picture * photons) / photons).astype(np.float32)


def impulse_noise(picture: Floats, constants: Constants, rng: np.random.Generator) -> Floats:
    """Set values, not whole pixels, to 0 or 1 at even odds; constants: their share."""
    (share,) = constants
    hit, salt = rng.random((2, *picture.shape), np.float32)
    return np.where(hit < share, (salt < 0.5).astype(np.float32), picture)


def defocus_blur(picture: Floats, constants: Constants, rng: np.random.Generator) -> Floats:
    """Convolve with the aperture; constants: radius of the disk, sigma of its soft edge."""
    return np.asarray(cv2.filter2D(picture, -1, _disk(*constants)), np.float32)


def glass_blur(picture: Floats, constants: Constants, rng: np.random.Generator) -> Floats:
    """Blur, shuffle locally, blur; constants: sigma, rounds of shuffling.

    The authors swap a pixel with a neighbour through two views of one array, which copies the neighbour and
    leaves it as it is. The neighbour is the pixel itself or one above, left or above left, and they go from
    the last pixel to the first, so that nobody reads what was written before: a round is one look-up.
    """
    sigma, rounds = constants
    shuffled = np.floor(255 * _gaussian(picture, sigma, 4, cv2.BORDER_REPLICATE) + 1e-4)
    inner = np.arange(2, SIDE_PX)
    for _ in range(int(rounds)):
        rows, columns = rng.integers(-1, 1, (2, len(inner), len(inner)))
        moved = shuffled.copy()
        moved[2:, 2:] = shuffled[inner[:, None] + rows, inner + columns]
        shuffled = moved
    return _gaussian(shuffled / 255, sigma, 4, cv2.BORDER_REPLICATE)


def motion_blur(picture: Floats, constants: Constants, rng: np.random.Generator) -> Floats:
    """Smear along a line at most 45 degrees off the horizon; constants: radius and sigma of the smear."""
    radius, sigma = constants
    return np.rint(255 * _smear(picture, radius, sigma, rng.uniform(-45, 45))) / 255


def zoom_blur(picture: Floats, constants: Constants, rng: np.random.Generator) -> Floats:
    """Average over zooming in, in steps of 0.01; constants: where it ends."""
    (end,) = constants
    zooms = _zooms(end)[:, None]  # (Z, 1, 32, 32)
    planes = np.ascontiguousarray(picture.transpose(2, 0, 1))  # (3, 32, 32)
    zoomed = zooms @ planes @ zooms.swapaxes(2, 3)  # (Z, 3, 32, 32)
    return np.asarray((planes + zoomed.sum(0)) / (len(zooms) + 1), np.float32).transpose(1, 2, 0)


def snow(picture: Floats, constants: Constants, rng: np.random.Generator) -> Floats:
    """Whiten and let flakes drift down.

    Constants: mean and sigma of the flakes, their zoom, the threshold under which there is none, radius and
    sigma of their smear, share of the picture that is not whitened.
    """
    mean, sigma, zoom, threshold, radius, smear, kept = constants
    matrix = _zoom(zoom)
    flakes: Floats = matrix @ (mean + sigma * rng.standard_normal((SIDE_PX, SIDE_PX), np.float32)) @ matrix.T
    flakes = np.floor(255 * np.where(flakes < threshold, 0, flakes).clip(0, 1))
    flakes = np.rint(_smear(flakes, radius, smear, rng.uniform(-135, -45))) / 255
    grey = np.asarray(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), np.float32)[..., None]
    whitened: Floats = kept * picture + (1 - kept) * np.maximum(picture, grey * 1.5 + 0.5)
    return whitened + (flakes + flakes[::-1, ::-1])[..., None]


def frost(picture: Floats, constants: Constants, rng: np.random.Generator) -> Floats:
    """Add a pane of frost; constants: share of the picture, share of the pane.

    The authors cut the pane out of five photos of frost, which are not ours. This one has the mean colour
    and the contrast of one of them, and grain, needles in one direction and clouds about as strong as there.
    """
    kept, added = constants
    colour, contrast = _FROST[rng.integers(len(_FROST))]
    grain, ice = rng.standard_normal((2, SIDE_PX, SIDE_PX), np.float32)
    needles = _smear(ice, 6, 2.5, rng.uniform(0, 360))
    clouds = cv2.resize(rng.standard_normal((5, 5), np.float32), (SIDE_PX, SIDE_PX))
    texture = 0.6 * grain + 1.3 * needles + 0.8 * clouds
    texture = (texture - texture.mean()) / texture.std()
    pane: Floats = (np.array(colour, np.float32) + contrast * texture[..., None]).clip(0, 255)
    return kept * picture + added / 255 * pane


def fog(picture: Floats, constants: Constants, rng: np.random.Generator) -> Floats:
    """Add a plasma fractal and scale back; constants: thickness, how fast the fractal gets smooth."""
    thickness, decay = constants
    brightest = float(picture.max())
    return (picture + thickness * _plasma(decay, rng)[..., None]) * (brightest / (brightest + thickness))


def brightness(picture: Floats, constants: Constants, rng: np.random.Generator) -> Floats:
    """Raise the value of HSV, hue and saturation kept, which scales a pixel; constants: by how much."""
    (shift,) = constants
    value: Floats = picture.max(2, keepdims=True)
    raised: Floats = np.minimum(value + shift, 1)
    black = value == 0
    return np.where(black, raised, picture * (raised / np.where(black, 1, value)))


def contrast(picture: Floats, constants: Constants, rng: np.random.Generator) -> Floats:
    """Pull every channel towards its mean; constants: share of the contrast that is left."""
    (share,) = constants
    means: Floats = picture.mean((0, 1), keepdims=True)
    return (picture - means) * share + means


def elastic_transform(picture: Floats, constants: Constants, rng: np.random.Generator) -> Floats:
    """Move three corners, then every pixel a little.

    Constants in pixels: strength and sigma of the field of small moves, reach of the corners. From severity
    to severity the first grows and the last shrinks, so that the worst is not the fifth in every measure.
    """
    strength, sigma, reach = constants
    corners = np.array([[26, 26], [26, 6], [6, 6]], np.float32)
    moved = corners + rng.uniform(-reach, reach, corners.shape).astype(np.float32)
    matrix = cv2.getAffineTransform(corners, moved)
    size = (SIDE_PX, SIDE_PX)
    turned = cv2.warpAffine(picture, matrix, size, borderMode=cv2.BORDER_REFLECT_101)
    moves = rng.uniform(-1, 1, (*size, 2)).astype(np.float32)
    moves = strength * _gaussian(moves, sigma, 3, cv2.BORDER_REFLECT)
    grid = np.indices(size, np.float32)
    across, down = grid[1] + moves[..., 0], grid[0] + moves[..., 1]
    warped = cv2.remap(turned, across, down, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    return np.asarray(warped, np.float32)


def pixelate(picture: Floats, constants: Constants, rng: np.random.Generator) -> Floats:
    """Shrink and enlarge with Pillow's box; constants: share of the side that is left."""
    (share,) = constants
    side = int(SIDE_PX * share)
    shrunk = _pillow(picture).resize((side, side), Resampling.BOX)
    return np.asarray(shrunk.resize((SIDE_PX, SIDE_PX), Resampling.BOX), np.float32) / 255


def jpeg_compression(picture: Floats, constants: Constants, rng: np.random.Generator) -> Floats:
    """Encode and decode with Pillow; constants: quality."""
    file = io.BytesIO()
    _pillow(picture).save(file, "JPEG", quality=int(constants[0]))
    with Image.open(file) as decoded:
        return np.asarray(decoded, np.float32) / 255


CORRUPTIONS: Final[dict[str, tuple[Kind, tuple[Constants, Constants, Constants, Constants, Constants]]]] = {
    "gaussian_noise": (gaussian_noise, ((0.04,), (0.06,), (0.08,), (0.09,), (0.10,))),
    "shot_noise": (shot_noise, ((500,), (250,), (100,), (75,), (50,))),
    "impulse_noise": (impulse_noise, ((0.01,), (0.02,), (0.03,), (0.05,), (0.07,))),
    "defocus_blur": (defocus_blur, ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1))),
    "glass_blur": (glass_blur, ((0.05, 1), (0.25, 1), (0.4, 1), (0.25, 2), (0.4, 2))),
    "motion_blur": (motion_blur, ((6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5))),
    "zoom_blur": (zoom_blur, ((1.06,), (1.11,), (1.16,), (1.21,), (1.26,))),
    "snow": (snow, (
        (0.10, 0.2, 1.00, 0.60, 8, 3, 0.95),
        (0.10, 0.2, 1.00, 0.50, 10, 4, 0.90),
        (0.15, 0.3, 1.75, 0.55, 10, 4, 0.90),
        (0.25, 0.3, 2.25, 0.60, 12, 6, 0.85),
        (0.30, 0.3, 1.25, 0.65, 14, 12, 0.80),
    )),
    "frost": (frost, ((1, 0.2), (1, 0.3), (0.9, 0.4), (0.85, 0.4), (0.75, 0.45))),
    "fog": (fog, ((0.2, 3), (0.5, 3), (0.75, 2.5), (1, 2), (1.5, 1.75))),
    "brightness": (brightness, ((0.05,), (0.10,), (0.15,), (0.20,), (0.30,))),
    "contrast": (contrast, ((0.75,), (0.50,), (0.40,), (0.30,), (0.15,))),
    "elastic_transform": (elastic_transform, (
        (0, 0, 2.56), (1.6, 6.4, 2.24), (2.56, 1.92, 1.92), (3.2, 1.28, 1.6), (3.2, 0.96, 0.96),
    )),
    "pixelate": (pixelate, ((0.95,), (0.90,), (0.85,), (0.75,), (0.65,))),
    "jpeg_compression": (jpeg_compression, ((80,), (65,), (58,), (50,), (40,))),
}  # fmt: skip
"""Function and constants of severity 1 to 5 of each kind, in the order of CIFAR-10-C."""


@lru_cache
def _disk(radius: float, soft: float) -> Floats:
    """Return ``(7, 7)``: the authors' kernel, which is zero beyond, as no radius is above 1.5.

    The smallest radii hold one pixel: those severities are Gaussian blurs of 3x3.
    """
    along = np.arange(-3, 4)
    disk = (along**2 + along[:, None] ** 2 <= radius**2).astype(np.float32)
    return np.asarray(cv2.GaussianBlur(disk / disk.sum(), (3, 3), soft), np.float32)


def _gaussian(picture: Floats, sigma: float, truncate: float, border: int) -> Floats:
    """Blur as SciPy does, which cuts the bell off at `truncate` sigmas: small ones change nothing."""
    side = 2 * int(truncate * sigma + 0.5) + 1
    return np.asarray(cv2.GaussianBlur(picture, (side, side), sigma, borderType=border), np.float32)


def _smear(picture: Floats, radius: float, sigma: float, degrees: float) -> Floats:
    """Mix in what lies along a line on one side, as ImageMagick's MotionBlurImage: whole pixels, edge kept."""
    taps = np.arange(2 * ceil(radius) + 1)
    weights = np.exp(-(taps**2) / (2 * sigma**2))
    across = np.ceil(taps * np.cos(np.deg2rad(degrees)) - 0.5).astype(int)
    down = np.ceil(taps * np.sin(np.deg2rad(degrees)) - 0.5).astype(int)
    kernel = np.zeros((2 * len(taps) - 1,) * 2, np.float32)
    np.add.at(kernel, (down + len(taps) - 1, across + len(taps) - 1), weights / weights.sum())
    return np.asarray(cv2.filter2D(picture, -1, kernel, borderType=cv2.BORDER_REPLICATE), np.float32)


@lru_cache
def _zooms(end: float) -> Floats:
    """Return ``(Z, 32, 32)``, the zooms of one severity; rounding in `arange` makes some include the end."""
    return np.stack([_zoom(float(factor)) for factor in np.arange(1, end, 0.01)])


@lru_cache
def _zoom(factor: float) -> Floats:
    """Return ``(32, 32)``: times a column of pixels it crops the middle and enlarges it.

    Linear between the middles of the first and the last pixel, as ``scipy.ndimage.zoom`` with order 1.
    """
    cropped = ceil(SIDE_PX / factor)
    enlarged = round(cropped * factor)
    trim = (enlarged - SIDE_PX) // 2
    places = np.linspace(0, cropped - 1, enlarged)[trim : trim + SIDE_PX]
    hats = np.maximum(0, 1 - np.abs(places[:, None] - np.arange(cropped)))  # (32, cropped)
    matrix = np.zeros((SIDE_PX, SIDE_PX), np.float32)
    top = (SIDE_PX - cropped) // 2
    matrix[:, top : top + cropped] = hats
    return matrix


def _plasma(decay: float, rng: np.random.Generator) -> Floats:
    """Return ``(32, 32)`` in 0..1 by the diamond-square algorithm on a torus.

    The authors use the size of the random step twice, so it shrinks by the square of `decay` per level.
    """
    heights = np.zeros((SIDE_PX, SIDE_PX), np.float32)
    wibble = 100.0
    step = SIDE_PX

    def settle(total: Floats) -> Floats:
        return total / 4 + wibble**2 * rng.uniform(-1, 1, total.shape).astype(np.float32)

    while step >= 2:
        half = step // 2
        corners = heights[::step, ::step]
        middles = heights[half::step, half::step]
        pairs = corners + np.roll(corners, -1, 0)
        middles[:] = settle(pairs + np.roll(pairs, -1, 1))
        heights[::step, half::step] = settle(
            middles + np.roll(middles, 1, 0) + corners + np.roll(corners, -1, 1)
        )
        heights[half::step, ::step] = settle(middles + np.roll(middles, 1, 1) + pairs)
        step //= 2
        wibble /= decay
    heights -= heights.min()
    heights /= heights.max()
    return heights


def _pillow(picture: Floats) -> Image.Image:
    return Image.fromarray(np.rint(255 * picture).astype(np.uint8))
