"""What lamp, lens and sensor do to the pictures now, as a value that can be put on any clean picture.

A picture taken now is taken to be ``gain * (blur of the clean picture) + light + noise``: gain and light are
maps, because dirt and glare have a place; the blur is a Gaussian or the smear of a moving belt; the noise has
a colour, because cameras resize. No degradation is named in that, and all of
camera/simulation/degradations.py are covered.
`adapters.monitoring.degradation_fit` finds it from pictures without labels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from adapters.core.observation import Bytes
from adapters.core.protocol import Floats

Kind = Literal["gaussian", "smear_x", "smear_y"]
Frequencies = NDArray[np.floating[Any]]

KINDS: tuple[Kind, ...] = ("gaussian", "smear_x", "smear_y")

VISIBLE_NOISE = 0.004
"""One grey level: less noise than this is not drawn."""


@dataclass(frozen=True, slots=True)
class Blur:
    """How fine structure is lost.

    Attributes:
        kind: a Gaussian, or a box along one axis and a Gaussian along the other.
        x: along the rows, in pixels of the model's input: sigma of a Gaussian, travel of a smear.
        y: along the columns.
    """

    kind: Kind = "gaussian"
    x: float = 0.0
    y: float = 0.0

    def transfer(self, fx: Frequencies, fy: Frequencies) -> NDArray[np.float64]:
        """Return what is left of each spatial frequency, in cycles per pixel; negative where phases flip."""
        x, y = _gaussian(fx, self.x), _gaussian(fy, self.y)
        if self.kind == "smear_x":
            x = np.sinc(fx * self.x)
        elif self.kind == "smear_y":
            y = np.sinc(fy * self.y)
        return np.asarray(x * y)

    def apply(self, pictures: Floats) -> Floats:
        """Blur ``(..., H, W, 3)``; the edges are mirrored."""
        if max(self.x, self.y) < 0.1:
            return pictures
        height, width = pictures.shape[-3:-1]
        edge = min(height, width) // 4
        sides = [(0, 0)] * (pictures.ndim - 3) + [(edge, edge), (edge, edge), (0, 0)]
        padded = np.pad(pictures, sides, mode="reflect")
        size = padded.shape[-3:-1]
        fy, fx = np.fft.fftfreq(size[0])[:, None, None], np.fft.rfftfreq(size[1])[None, :, None]
        spectrum = np.fft.rfft2(padded, axes=(-3, -2)) * self.transfer(fx, fy).astype(np.float32)
        blurred = np.fft.irfft2(spectrum, s=size, axes=(-3, -2))
        return np.asarray(blurred[..., edge : edge + height, edge : edge + width, :], dtype=np.float32)


@dataclass(frozen=True, slots=True)
class Noise:
    """New in each picture.

    Attributes:
        density: standard deviation per pixel if it were white, in shares of the full range.
        colour: how much of it resizing has smoothed away: power falls as ``exp(-colour * f**2)``.
    """

    density: float = 0.0
    colour: float = 0.0

    def sigma(self, height: int, width: int) -> float:
        """Return its standard deviation per pixel."""
        fy, fx = np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)[None, :]
        return self.density * float(np.sqrt(np.exp(-self.colour * (fx**2 + fy**2)).mean()))

    def draw(self, shape: tuple[int, ...], rng: np.random.Generator) -> Floats:
        """Return noise for ``(..., H, W, 3)``."""
        height, width = shape[-3:-1]
        fy, fx = np.fft.fftfreq(height)[:, None, None], np.fft.rfftfreq(width)[None, :, None]
        white = rng.standard_normal(shape, dtype=np.float32) * np.float32(self.density)
        spectrum = np.fft.rfft2(white, axes=(-3, -2)) * np.exp(-self.colour / 2 * (fx**2 + fy**2))
        return np.asarray(np.fft.irfft2(spectrum, s=(height, width), axes=(-3, -2)), dtype=np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class Degradation:
    """What is done to a clean picture.

    Attributes:
        blur: first.
        gain: ``(H, W, 3)`` factor per pixel.
        light: ``(H, W, 3)`` added per pixel, in shares of the full range.
        noise: last.
        masked: ``(H, W)`` where every picture is black because nobody may look: it stays black.
        misfit: mean squared error of the logarithm of the spectrum; 0.05 is a good fit.
    """

    blur: Blur
    gain: Floats
    light: Floats
    noise: Noise
    masked: NDArray[np.bool_]
    misfit: float

    def render(self, pictures: Bytes, seed: int) -> Bytes:
        """Return ``(N, H, W, 3)`` clean pictures as lamp, lens and sensor would show them now.

        Args:
            pictures: clean ones, of the size that the condition was found at.
            seed: of the noise.
        """
        clean = pictures.astype(np.float32)
        clean /= np.float32(255)
        seen: Floats = self.gain * self.blur.apply(clean)
        seen += self.light
        if self.noise.sigma(*pictures.shape[1:3]) > VISIBLE_NOISE:
            seen += self.noise.draw(seen.shape, np.random.default_rng(seed))
        shown = np.asarray(np.rint(seen.clip(0, 1) * 255), dtype=np.uint8)
        shown[:, self.masked] = 0
        return shown

    def numbers(self) -> dict[str, float]:
        """Return it in a few numbers, for the audit record."""
        height, width = self.gain.shape[:2]
        return {
            "picture_blur_x": self.blur.x,
            "picture_blur_y": self.blur.y,
            "picture_smear": float(KINDS.index(self.blur.kind)),
            "picture_gain": float(self.gain.mean()),
            "picture_gain_spread": float(self.gain.std()),
            "picture_light": float(self.light.mean()),
            "picture_light_spread": float(self.light.std()),
            "picture_noise": self.noise.sigma(height, width),
            "picture_misfit": self.misfit,
        }


def _gaussian(frequency: Frequencies, sigma: float) -> NDArray[np.float64]:
    return np.asarray(np.exp(-2 * (np.pi * frequency * sigma) ** 2))
