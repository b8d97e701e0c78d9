"""What has changed between the pictures of commissioning and those of now, found without labels.

Two sets of pictures of one line differ in their parts and in lamp, lens and sensor. Parts differ from picture
to picture, the rest does not, so it shows in statistics over the pictures of each set:

- *Blur and noise* from the power spectra of what varies from picture to picture: noise adds a floor, blur
  takes the fine structure away and darkening takes an equal share of all.
- *Gain and light* from the mean pictures, as the coefficients of a guided filter (K. He, J. Sun, X. Tang,
  "Guided Image Filtering", ECCV 2010): locally, the mean picture of now is a line in that of then. What no
  line explains, such as a speck on the lens, is light, as far as it stands out of the noise of a mean.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
from numpy.typing import NDArray

from adapters.core.observation import Bytes
from adapters.core.protocol import Floats
from adapters.monitoring.degradation import KINDS, Blur, Degradation, Kind, Noise

LEAST = 32
"""Pictures below which there is nothing to estimate."""

_CHUNK = 32
_CELLS = 16
"""Frequencies are pooled into so many cells along each axis."""
_WINDOW = 5.0
_CONTRAST = 0.02
"""Guided filter: sigma of its window in pixels of 128, and local contrast below which a gain is not local."""
_CLEAR = 2.0
"""Standard errors from which on fine light is a speck and not roughness."""
_CLEARLY = 0.8
"""A smear must explain the spectrum this much better than a Gaussian, or it is one."""
_STARTS: dict[Kind, tuple[tuple[float, float], ...]] = {
    "gaussian": ((0.3, 0.3), (2.5, 2.5)),
    "smear_x": ((3.0, 0.3), (7.0, 0.3), (12.0, 0.3)),
    "smear_y": ((0.3, 3.0), (0.3, 7.0), (0.3, 12.0)),
}
_ITERATIONS = 40
_LEAST_POWER = 1e-12
"""Of a spectrum: a millionth of what rounding to bytes leaves. Pictures that are all the same have none."""

Fit = NDArray[np.float64]
"""log gain, blur x, blur y, log noise density, colour."""


@dataclass(frozen=True, eq=False)
class PictureStatistics:
    """What a set of pictures has in common.

    Attributes:
        count: of pictures.
        mean: ``(H, W, 3)``, in 0..1.
        variance: ``(H, W, 3)`` from picture to picture.
        power: ``(H, W)`` mean spectrum of what varies, over channels.
    """

    count: int
    mean: Floats
    variance: Floats
    power: Floats

    @classmethod
    def of(cls, pictures: Bytes) -> PictureStatistics:
        """Measure ``(N, H, W, 3)`` pictures of one size.

        Raises:
            ValueError: fewer than `LEAST`.
        """
        if len(pictures) < LEAST:
            raise ValueError(f"{len(pictures)} pictures; a condition shows in {LEAST} or more")
        height, width = pictures.shape[1:3]
        window = np.outer(np.hanning(height), np.hanning(width)).astype(np.float32)[:, :, None]
        mean = (pictures.mean(axis=0, dtype=np.float64) / 255).astype(np.float32)
        variance, power = np.zeros((height, width, 3)), np.zeros((height, width))
        for start in range(0, len(pictures), _CHUNK):
            varies = pictures[start : start + _CHUNK].astype(np.float32) / 255 - mean
            variance += (varies**2).sum(axis=0)
            power += (np.abs(np.fft.fft2(varies * window, axes=(1, 2))) ** 2).sum(axis=0).mean(axis=-1)
        return cls(
            len(pictures),
            mean,
            (variance / len(pictures)).astype(np.float32),
            (power / (len(pictures) * (window**2).sum())).astype(np.float32),
        )

    @cached_property
    def cells(self) -> Fit:
        """``(K,)`` power pooled over cells of similar frequency."""
        return np.maximum(_pool(self.power), _LEAST_POWER)


def estimate(then: PictureStatistics, now: PictureStatistics) -> Degradation:
    """Return what turns pictures like those of `then` into pictures like those of `now`.

    Args:
        then: of the clean line, at commissioning.
        now: of the line as it is, pictures of the same size.
    """
    kind, fit, misfit = _fit_spectra(then.cells, now.cells, *then.power.shape)
    blur = Blur(kind, float(fit[1]), float(fit[2]))
    noise = Noise(float(np.exp(fit[3])), float(fit[4]))
    gain, light = _maps(then, now, blur, noise, float(np.exp(fit[0])))
    masked = (then.mean == 0).all(axis=-1) & (now.mean == 0).all(axis=-1)
    return Degradation(blur, gain, light, noise, masked, misfit)


def _maps(
    then: PictureStatistics, now: PictureStatistics, blur: Blur, noise: Noise, gain: float
) -> tuple[Floats, Floats]:
    """Return gain and light per pixel."""
    height, width = now.mean.shape[:2]
    sigma = _WINDOW * height / 128
    blurred = blur.apply(then.mean)
    # Each channel's own gain, from how much its pictures vary; together they are what the spectra say.
    varies = np.maximum(now.variance - noise.sigma(height, width) ** 2, 1e-6).mean(axis=(0, 1))
    channels = np.sqrt(varies / np.maximum(then.variance.mean(axis=(0, 1)), 1e-6))
    channels *= gain / channels.mean()
    local_then, local_now = _smooth(blurred, sigma), _smooth(now.mean, sigma)
    covariance = _smooth(blurred * now.mean, sigma) - local_then * local_now
    contrast = np.maximum(_smooth(blurred * blurred, sigma) - local_then**2, 0)
    gains = (covariance + _CONTRAST**2 * channels) / (contrast + _CONTRAST**2)
    gains = gains.clip(0, 2).astype(np.float32)
    light = now.mean - gains * blurred
    # The mean of few pictures is rough: fine light has a place only where it stands clearly out of that.
    rough = _smooth(now.variance / now.count + gains**2 * then.variance / then.count, sigma)
    fine = light - _smooth(light, sigma)
    clear = (_smooth(fine, sigma / 5) ** 2 > _CLEAR**2 * rough).any(axis=-1, keepdims=True)
    kept = np.minimum(1, 4 * _smooth(np.repeat(clear, 3, axis=-1).astype(np.float32), sigma / 4))
    return gains, np.asarray(light - fine + kept * fine, dtype=np.float32)


def _smooth(picture: Floats, sigma: float) -> Floats:
    return Blur("gaussian", sigma, sigma).apply(picture)


def _fit_spectra(then: Fit, now: Fit, height: int, width: int) -> tuple[Kind, Fit, float]:
    """Return the blur's kind, the best fit of it, and its misfit."""
    across, down = np.meshgrid(np.abs(np.fft.fftfreq(width)), np.abs(np.fft.fftfreq(height)))
    fx, fy, weight = _pool(across), _pool(down), np.sqrt(_counts(height, width))
    weight /= np.sqrt((weight**2).mean())
    floor = 0.5 * np.log(now.min())
    level = 0.5 * np.log(now.sum() / then.sum())

    def residuals(kind: Kind, fit: Fit) -> Fit:
        transfer = Blur(kind, fit[1], fit[2]).transfer(fx, fy)
        noise = np.exp(2 * fit[3] - fit[4] * (fx**2 + fy**2))
        return np.asarray(
            weight * (np.log(np.exp(2 * fit[0]) * then * (transfer**2 + 1e-4) + noise) - np.log(now))
        )

    found: dict[Kind, tuple[float, Fit]] = {}
    for kind in KINDS:
        low = np.array([-4.0, 0.0, 0.0, -9.0, 0.0])
        high = np.array(
            [1.0, 30.0 if kind == "smear_x" else 8.0, 30.0 if kind == "smear_y" else 8.0, -1.0, 12.0]
        )
        for x, y in _STARTS[kind]:
            for noise in (floor - 1.5, floor):
                start = np.array([level, x, y, noise, 3.0]).clip(low, high)
                misfit, fit = _descend(partial(residuals, kind), start, low, high)
                if kind not in found or misfit < found[kind][0]:
                    found[kind] = misfit, fit
    best = min(KINDS, key=lambda kind: found[kind][0])
    if found[best][0] > _CLEARLY * found["gaussian"][0]:
        best = "gaussian"
    return best, found[best][1], found[best][0]


def _descend(residuals: Callable[[Fit], Fit], start: Fit, low: Fit, high: Fit) -> tuple[float, Fit]:
    """Return the smallest mean square and where it is, by Levenberg and Marquardt's method inside a box."""
    fit, damping = start, 1e-2
    error = residuals(fit)
    for _ in range(_ITERATIONS):
        slopes = np.empty((len(error), len(fit)))
        for number in range(len(fit)):
            step = np.zeros(len(fit))
            step[number] = 1e-4 if fit[number] + 1e-4 <= high[number] else -1e-4
            slopes[:, number] = (residuals(fit + step) - error) / step[number]
        curvature, gradient = slopes.T @ slopes, slopes.T @ error
        damped = curvature + damping * np.diag(np.diag(curvature) + 1e-6)
        there = (fit - np.linalg.solve(damped, gradient)).clip(low, high)
        after = residuals(there)
        gained = error @ error - after @ after
        if gained <= 0:
            damping *= 4
            if damping > 1e6:
                break
            continue
        little = gained < 1e-6 * (error @ error)
        fit, error, damping = there, after, max(damping / 3, 1e-7)
        if little:
            break
    return float(error @ error) / len(error), fit


def _pool(plane: NDArray[np.floating]) -> Fit:
    """Return the mean of ``(H, W)`` over each cell of frequencies that is not empty."""
    cell, inside = _cells(*plane.shape)
    total = np.bincount(cell, plane[inside].astype(np.float64), _CELLS**2)
    count = np.bincount(cell, minlength=_CELLS**2)
    return np.asarray(total[count > 0] / count[count > 0])


def _counts(height: int, width: int) -> Fit:
    count = np.bincount(_cells(height, width)[0], minlength=_CELLS**2)
    return count[count > 0].astype(np.float64)


def _cells(height: int, width: int) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """Return the cell of each frequency inside the circle that every direction reaches, and that circle."""
    across, down = np.meshgrid(np.abs(np.fft.fftfreq(width)), np.abs(np.fft.fftfreq(height)))
    distance = np.hypot(across, down)
    inside = (distance > 1.5 / min(height, width)) & (distance < 0.5)
    columns = np.minimum((across * 2 * _CELLS).astype(np.intp), _CELLS - 1)
    rows = np.minimum((down * 2 * _CELLS).astype(np.intp), _CELLS - 1)
    return (rows * _CELLS + columns)[inside], inside
