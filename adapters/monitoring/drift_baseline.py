"""The world at commissioning, in the numbers that drift is measured in: how far is a usual block of frames?

How far the reference's own blocks lie is measured with each left out in turn (after Barber, Candes, Ramdas
and Tibshirani, "Predictive inference with the jackknife+", Annals of Statistics 2021,
https://arxiv.org/abs/1905.02928): a block that helped to make the reference lies too near to it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adapters.core.adapter import AdapterError
from adapters.core.observation import Observation
from adapters.monitoring.block_statistics import SCALARS, Doubles, measure, middle, summarise

DIRECTIONS = 8
"""Principal directions of the good parts' features that are looked at one by one; the rest together."""

DEPARTURES = (*SCALARS, *(f"feature{i + 1}" for i in range(DIRECTIONS)), "feature rest")
"""Names of the numbers of `DriftReference.departures`."""

MIN_BLOCKS = 20
MIN_BLOCK_FRAMES = 50
CORRELATION_TIMES = 3.0
"""A block is at least so many autocorrelation times long, so that neighbouring blocks are hardly related."""

LEVEL_BLOCKS = 4
"""A jump is measured from the median of so many blocks before."""

EFFECT = 0.3
"""A mean that shifts by less than this share of the spread from part to part is not drift."""

LEAST_CHANGE = 0.02
"""Nor is 2 % of light, contrast, sharpness or noise, however alike the parts are."""

_PICTURE = slice(2, len(SCALARS))
_FEATURE = slice(len(SCALARS), None)
_DEFECT_SHARES = (0.3, 0.45)
_TOP_SHARE = 0.05
_KNEE = 0.75


class DriftReferenceError(AdapterError):
    """These frames make no reference, or a stored reference is damaged."""


@dataclass(frozen=True, slots=True, eq=False)
class DriftReference:
    """What is usual at a station, from clean commissioning frames; all arrays are read-only.

    Attributes:
        block_frames: frames of a block.
        centre: ``(R,)`` of blocks, as `summarise` returns them.
        directions: ``(8, D)`` orthonormal.
        scale: ``(18,)`` how much blocks differ, per departure.
        tolerance: ``(18,)`` shift that is no drift, in the unit of the departure before scaling.
        rest: usual length of what the directions leave of a block's feature.
        distances: ``(N,)`` of the reference's blocks from the others, ascending.
        jumps: ``(N - 4,)`` of the reference's blocks from the blocks before, ascending.
    """

    block_frames: int
    centre: Doubles
    directions: Doubles
    scale: Doubles
    tolerance: Doubles
    rest: float
    distances: Doubles
    jumps: Doubles

    def __post_init__(self) -> None:
        for array in (a for f in fields(self) if isinstance(a := getattr(self, f.name), np.ndarray)):
            array.setflags(write=False)

    @classmethod
    def calibrate(cls, seen: Sequence[Observation], defects: Sequence[Observation] = ()) -> DriftReference:
        """Make the reference from the frames of a clean line, in their order.

        Args:
            seen: at least 1000, better 3000, unlabelled; a few per cent of defects do no harm.
            defects: known defective parts, if there are; without them the highest scores stand for defects.

        Raises:
            DriftReferenceError: too few frames for 20 blocks, or a number that is not finite.
        """
        if len(seen) < MIN_BLOCKS * MIN_BLOCK_FRAMES:
            raise DriftReferenceError(
                f"{len(seen)} commissioning frames: drift needs {MIN_BLOCKS * MIN_BLOCK_FRAMES}, better 3000"
            )
        rows = np.stack([measure(one) for one in seen])
        return cls.from_rows(rows, np.stack([measure(one) for one in defects]) if defects else None)

    @classmethod
    def from_rows(cls, rows: Doubles, defects: Doubles | None = None) -> DriftReference:
        """Make the reference from ``(N, R)`` rows of `measure`, and rows of defects; see `calibrate`."""
        if not np.isfinite(rows).all():
            raise DriftReferenceError("a commissioning frame holds a number that is not finite")
        length = _block_frames(rows[:, 0])
        count = len(rows) // length
        if count < MIN_BLOCKS:
            raise DriftReferenceError(
                f"{len(rows)} commissioning frames: drift needs {MIN_BLOCKS * length},"
                f" {MIN_BLOCKS} blocks of {length}, as scores stay alike for about {length // 3} frames"
            )
        frames = rows[: count * length].reshape(count, length, -1)  # (N, B, R)
        blocks = np.stack([summarise(block) for block in frames])  # (N, R)
        usual = np.concatenate([middle(block) for block in frames])
        directions = _principal(usual[:, _FEATURE])
        if defects is None:
            defects = rows[np.argsort(rows[:, 0])[-max(1, int(_TOP_SHARE * len(rows))) :]]
        tolerance = _tolerance(rows, usual, directions) + _defect_shift(frames, blocks, defects, directions)
        fit = _Fit.of(blocks, directions)
        alone = [_Fit.of(np.delete(blocks, k, axis=0), directions) for k in range(count)]
        distances = [
            _length(one.departures(block, one.centre)) for one, block in zip(alone, blocks, strict=True)
        ]
        levels = [np.median(blocks[k - LEVEL_BLOCKS : k], axis=0) for k in range(LEVEL_BLOCKS, count)]
        jumps = [
            _length(fit.departures(block, level))
            for block, level in zip(blocks[LEVEL_BLOCKS:], levels, strict=True)
        ]
        return cls(
            length, fit.centre, directions, fit.scale, tolerance, fit.rest, np.sort(distances), np.sort(jumps)
        )

    def departures(self, block: Doubles, level: Doubles | None = None) -> Doubles:
        """Return ``(18,)`` by how much a block differs beyond the tolerance, in units of the usual spread.

        Args:
            block: ``(R,)``.
            level: ``(R,)`` from which; the reference's centre if None.
        """
        fit = _Fit(self.centre, self.directions, self.scale, self.rest)
        return fit.departures(block, self.centre if level is None else level, self.tolerance)

    def distance(self, block: Doubles) -> float:
        """Return how far a block is from commissioning; 1 is as far as one clean block in a hundred."""
        return _length(self.departures(block)) / _quantile(self.distances, 0.99)

    def jump(self, block: Doubles, level: Doubles) -> float:
        """Return how far a block is from the level before; 1 is as far as one clean block in a hundred."""
        return _length(self.departures(block, level)) / _quantile(self.jumps, 0.99)

    def chance(self, distance: float) -> float:
        """Return an upper estimate of how often a clean block is at least so far away; 1 in the middle."""
        return _tail(self.distances, distance * _quantile(self.distances, 0.99))

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return everything as arrays by name, to be stored."""
        return {f.name: np.asarray(getattr(self, f.name)) for f in fields(self)}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> DriftReference:
        """Return what `arrays` was made of.

        Raises:
            DriftReferenceError: an array is missing, of another shape, or holds what is not finite.
        """
        try:
            values = {f.name: np.array(arrays[f.name], dtype=np.float64) for f in fields(cls)}
        except (KeyError, ValueError, TypeError) as error:
            raise DriftReferenceError(f"stored drift reference: {error} is missing or no number") from error
        size = values["directions"].shape[-1:]
        shapes: dict[str, tuple[int, ...]] = {
            "block_frames": (),
            "centre": (len(SCALARS) + sum(size),),
            "directions": (DIRECTIONS, *size),
            "scale": (len(DEPARTURES),),
            "tolerance": (len(DEPARTURES),),
            "rest": (),
        }
        for name, value in values.items():
            if value.shape != shapes.get(name, value.shape) or not value.size or not np.isfinite(value).all():
                raise DriftReferenceError(f"stored drift reference: {name} is damaged; commission again")
        length, rest = int(values.pop("block_frames")), float(values.pop("rest"))
        return cls(block_frames=length, rest=rest, **values)


@dataclass(frozen=True, slots=True, eq=False)
class _Fit:
    """Place and spread of some blocks; attributes as of `DriftReference`."""

    centre: Doubles
    directions: Doubles
    scale: Doubles
    rest: float

    @classmethod
    def of(cls, blocks: Doubles, directions: Doubles) -> _Fit:
        centre = np.median(blocks, axis=0)
        parts = np.stack([_parts(block - centre, directions) for block in blocks])
        rest = float(np.median(parts[:, -1]))
        parts[:, -1] -= rest
        return cls(centre, directions, _spread(parts) + 1e-9, rest)

    def departures(self, block: Doubles, level: Doubles, tolerance: Doubles | None = None) -> Doubles:
        parts = _parts(block - level, self.directions)
        if tolerance is not None:
            # The rest is a length: what is tolerated in it stands at right angles to what else is in it.
            rest = np.sqrt(max(0.0, parts[-1] ** 2 - tolerance[-1] ** 2))
            parts = np.sign(parts) * np.maximum(0, np.abs(parts) - tolerance)
            parts[-1] = rest
        parts[-1] = max(0.0, parts[-1] - self.rest)
        return np.asarray(parts / self.scale)


def _parts(shift: Doubles, directions: Doubles) -> Doubles:
    """Return ``(18,)``: the scalars, the feature along each direction, and the length of what is left."""
    feature = shift[_FEATURE]
    along = directions @ feature  # (8,)
    return np.concatenate([shift[: len(SCALARS)], along, [np.linalg.norm(feature - along @ directions)]])


def _spread(values: Doubles) -> Doubles:
    """Return the standard deviation of each column after outliers are cut to three robust deviations."""
    middle = np.median(values, axis=0)
    limit = 3 * 1.4826 * np.median(np.abs(values - middle), axis=0)
    return np.asarray(np.clip(values, middle - limit, middle + limit).std(axis=0))


def _principal(features: Doubles) -> Doubles:
    """Return ``(8, D)`` orthonormal directions in which ``(N, D)`` features differ most."""
    _, vectors = np.linalg.eigh(np.cov(features, rowvar=False))
    return np.ascontiguousarray(vectors[:, ::-1][:, :DIRECTIONS].T)


def _tolerance(rows: Doubles, usual: Doubles, directions: Doubles) -> Doubles:
    """Return ``(18,)`` what may shift though nothing has changed, by how much parts differ."""
    along = rows[:, _FEATURE] @ directions.T
    left = usual[:, _FEATURE] - usual[:, _FEATURE] @ directions.T @ directions
    # Of features that are all the same, rounding may make it less than nothing.
    widest = np.sqrt(max(0.0, float(np.linalg.eigvalsh(np.cov(left, rowvar=False))[-1])))
    tolerance = EFFECT * np.concatenate([_spread(rows[:, : len(SCALARS)]), _spread(along), [widest]])
    tolerance[_PICTURE] = np.maximum(tolerance[_PICTURE], LEAST_CHANGE)
    return np.asarray(tolerance)


def _defect_shift(frames: Doubles, blocks: Doubles, defects: Doubles, directions: Doubles) -> Doubles:
    """Return ``(18,)`` by how much a block moves, nine times in ten, when only many parts are defective."""
    rng = np.random.default_rng(0)
    length = frames.shape[1]
    shifts = []
    for share in _DEFECT_SHARES:
        worse = frames.copy()
        for block in worse:
            places = rng.permutation(length)[: round(share * length)]
            block[places] = defects[rng.integers(len(defects), size=len(places))]
        moved = [_parts(summarise(bad) - block, directions) for bad, block in zip(worse, blocks, strict=True)]
        shifts.append(np.quantile(np.abs(moved), 0.9, axis=0))
    return np.asarray(np.max(shifts, axis=0))


def _block_frames(scores: Doubles) -> int:
    """Return how many frames make a block, from the autocorrelation of ``(N,)`` scores.

    Sokal's window: the sum over lags ends at five times itself, before it collects noise.
    """
    middle = np.median(scores)
    limit = 3 * 1.4826 * np.median(np.abs(scores - middle))
    rest = np.clip(scores - middle, -limit, limit)  # a burst of defects is no slow change
    rest -= rest.mean()
    spectrum = np.abs(np.fft.rfft(rest, 2 * len(rest))) ** 2
    correlation = np.fft.irfft(spectrum)[: len(rest)]
    times = 2 * np.cumsum(correlation / max(correlation[0], 1e-12)) - 1
    ended = np.flatnonzero(np.arange(len(times)) >= 5 * times)
    time = float(times[ended[0]]) if len(ended) else float(len(rest))
    return max(MIN_BLOCK_FRAMES, int(np.ceil(CORRELATION_TIMES * time)))


def _length(departures: Doubles) -> float:
    return float(np.sqrt(np.mean(departures**2)))


def _knee(lengths: Doubles) -> tuple[float, float]:
    """Return where the tail of ascending lengths begins, a quarter from the end, and its decay length.

    Twenty blocks show no quantile of 99 %. Above three quarters the tail is taken for exponential, and a
    quarter longer than it looks: distances of blocks have lighter tails than that.
    """
    start = float(np.quantile(lengths, _KNEE))
    return start, 1.25 * max(float((lengths[lengths >= start] - start).mean()), 1e-9)


def _quantile(lengths: Doubles, share: float) -> float:
    start, decay = _knee(lengths)
    return start + decay * float(np.log((1 - _KNEE) / (1 - share)))


def _tail(lengths: Doubles, length: float) -> float:
    start, decay = _knee(lengths)
    if length > start:
        return float((1 - _KNEE) * np.exp((start - length) / decay))
    return float((1 + np.sum(lengths >= length)) / (1 + len(lengths)))
