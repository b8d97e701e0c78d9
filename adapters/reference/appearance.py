"""What good parts look like: at each place, in their patches wherever they are, and in how a picture varies.

Three things are compared, because defects differ in kind:

* *Fine*: the shallowest layer at each place against its mean there. Sees what is a few pixels large.
* *Deep*: the deepest layer at each place against its mean there, and all layers against the nearest patch in
  a memory of the good parts (PatchCore), wherever that patch is: for parts that lie differently each time.
  Their farthest places, and their mean over the picture, for damage that is spread out.
* *Spread*: how much each channel varies over the picture against how much it does in good ones: for another
  texture.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adapters.core.protocol import Floats
from adapters.reference.anomaly import top_mean
from adapters.reference.memory import squared
from adapters.reference.whitening import halved, whitened, whitenings

FINE_SHARE = 0.003
SHARES = (0.01, 0.1, 1.0)
"""Of the places of a picture, those that are farthest and whose mean is a statistic."""
LEAST_HALVED = 16
"""Rows and columns of a grid that is fine enough to be halved; those of a vision transformer hardly are."""
Halves = NDArray[np.float16]
AHEAD = 1 + 2 * len(SHARES)
"""Statistics before those of the spread: fine, deep, nearest."""


@dataclass(frozen=True, slots=True, eq=False)
class Appearance:
    """Good parts, whitened. Halves are enough: whitened values are some units large.

    Attributes:
        by: for each layer the ``(D, D)`` that whitens it.
        fine: ``(T, h, w, D)`` mean of the first layer at each place.
        deep: ``(T, h', w', D)`` mean of the last layer, on the grid of the memory.
        memory: ``(M, D)`` coreset of the patches, all layers.
        rows: ``(M,)`` which of the patches of the good parts these are, in order.
        spread: ``(T, D)`` mean standard deviation of each channel over a picture.
        samples: good parts.
    """

    by: tuple[Floats, ...]
    fine: Halves
    deep: Halves
    memory: Halves
    rows: NDArray[np.int32]
    spread: Floats
    samples: int

    @classmethod
    def of(
        cls,
        good: Floats,
        layers: tuple[int, ...],
        choose: Callable[[Floats], NDArray[np.int64]],
    ) -> Appearance:
        """Return the appearance of ``(K, T, h, w, D)`` good parts; `choose` picks patches to remember."""
        by = tuple(whitenings(good, layers))
        each = whitened(good, by)
        coarse = np.concatenate([_coarse(layer, len(by)) for layer in each], axis=-1)
        patches = coarse.reshape(-1, coarse.shape[-1])
        rows = choose(patches)
        deep = coarse[..., -layers[-1] :]
        spread = np.concatenate([layer.std(axis=(2, 3)) for layer in each], axis=-1)
        return cls(
            by=by,
            fine=_centre(each[0]).astype(np.float16),
            deep=_centre(deep).astype(np.float16),
            memory=patches[rows].astype(np.float16),
            rows=rows.astype(np.int32),
            spread=spread.mean(axis=0),
            samples=len(good),
        )

    def statistics(self, part: Floats) -> tuple[Floats, tuple[Floats, Floats, Floats]]:
        """Return ``(T, J)`` statistics of one part's ``(T, h, w, D)`` features, and its distance maps.

        The maps are those of fine, deep and nearest; the last two on the grid of the memory.

        Raises:
            ValueError: features of another shape.
        """
        wanted = (*self.fine.shape[:3], sum(len(one) for one in self.by))
        if part.shape != wanted:
            raise ValueError(f"features of shape {part.shape}, the reference has {wanted}")
        each = whitened(part.astype(np.float32, copy=False), self.by)
        coarse = np.concatenate([_coarse(layer, len(self.by)) for layer in each], axis=-1)
        width = self.deep.shape[-1]
        fine = _length(each[0] - self.fine)
        deep = _length(coarse[..., -width:] - self.deep)
        flat = coarse.reshape(-1, coarse.shape[-1])
        near = squared(flat, self.memory.astype(np.float32)).min(axis=1) / flat.shape[1]
        nearest: Floats = np.sqrt(near).reshape(deep.shape)
        spread = np.concatenate([layer.std(axis=(1, 2)) for layer in each], axis=-1)
        ratio = np.abs(np.log((spread + 1e-6) / (self.spread + 1e-6)))
        ends = np.cumsum([0, *(len(one) for one in self.by)])
        columns = [top_mean(fine, FINE_SHARE)]
        columns += [top_mean(of, share) for of in (deep, nearest) for share in SHARES]
        columns += [ratio[:, a:b].mean(axis=1) for a, b in pairwise(ends)]
        return np.stack(columns, axis=1).astype(np.float32), (fine, deep, nearest)

    def without(self, sample: int, good: Floats) -> Appearance:
        """Return the appearance of the others of the ``(K, T, h, w, D)`` good parts that it is of.

        All is made anew, the whitening too, as the part that is left out must be as strange to it as the next
        part will be; only which patches are remembered stays. Of one part alone it is the same.
        """
        if self.samples == 1:
            return self
        per_part = int(np.prod(self.deep.shape[:3]))
        owner = self.rows // per_part
        rows = (self.rows - np.where(owner > sample, per_part, 0))[owner != sample].astype(np.int64)
        layers = tuple(len(one) for one in self.by)
        return Appearance.of(np.delete(good, sample, axis=0), layers, lambda _: rows)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return its arrays by name, for a file."""
        return {
            "fine": self.fine,
            "deep": self.deep,
            "memory": self.memory,
            "rows": self.rows,
            "spread": self.spread,
            **{f"whitening.{i}": one for i, one in enumerate(self.by)},
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]], samples: int) -> Appearance:
        """Return what `arrays` were of.

        Raises:
            KeyError: one is missing.
        """
        count = sum(name.startswith("whitening.") for name in arrays)
        by = tuple(arrays[f"whitening.{i}"] for i in range(count))
        names = ("fine", "deep", "memory", "rows", "spread")
        return cls(by=by, samples=samples, **{name: arrays[name] for name in names})


def _centre(good: Floats) -> Floats:
    """Return ``(T, h, w, D)`` mean of ``(K, T, h, w, D)`` at each place; of one part, over its places."""
    if len(good) > 1:
        found: Floats = good.mean(axis=0)
        return found
    return np.broadcast_to(good[0].mean(axis=(1, 2), keepdims=True), good.shape[1:])


def _coarse(layer: Floats, layers: int) -> Floats:
    """Return a layer on the memory's grid: half of the patches' where these are of several layers and many.

    The deeper ones have no more places than that; so little is lost, and the search takes a quarter.
    """
    return halved(layer) if layers > 1 and min(layer.shape[-3:-1]) >= LEAST_HALVED else layer


def _length(deviation: NDArray[np.floating[Any]]) -> Floats:
    """Return the root mean square over the channels of ``(T, h, w, D)``."""
    return np.asarray(np.sqrt(np.square(deviation).mean(axis=-1)), dtype=np.float32)
