"""The reference of a station: what its good parts look like, and from which distance on a part is an anomaly.

Some statistics of how a part differs (`appearance`) are each measured against what good parts, left out one
at a time, show of them (`scale`), and make one score. `benchmarks/results/reference_sets.md` compares this
with the plain nearest distance of PatchCore on the same features.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Self, get_args

import numpy as np
from numpy.typing import NDArray

from adapters.baseline.claims import FalseRejectClaim
from adapters.core.patches import PatchInfo
from adapters.core.protocol import Floats
from adapters.reference import reference_file
from adapters.reference.anomaly import Anomaly as Anomaly
from adapters.reference.appearance import AHEAD, Appearance
from adapters.reference.good_scores import LEAST_HELD_OUT as LEAST_HELD_OUT
from adapters.reference.good_scores import Basis, held_out_threshold, leave_one_out_threshold, split
from adapters.reference.memory import coreset
from adapters.reference.reference_file import AGAIN
from adapters.reference.reference_file import UnusableReference as UnusableReference
from adapters.reference.scale import Scale
from adapters.reference.whitening import widths

MOST = 400
"""Patches in a memory at most."""


@dataclass(frozen=True, eq=False)
class Reference:
    """What good parts look like.

    Attributes:
        features: `PatchInfo.digest` of what made its features.
        samples: good parts in the memory.
        threshold: a part whose score is above it is an anomaly.
        claim: of false rejects; None where nothing is known of them.
        scores: ``(H,)`` of the good parts that the threshold was taken from, sorted.
        basis: ``held_out``: those are not in the memory; ``leave_one_out``: each without itself.
        appearance: what these good parts look like.
        scale: what they show of each statistic, left out one at a time.
        facts: what is said of it besides, JSON by name: station, recipe, picture, who made it and when,
            digests of the samples. For who builds and who opens it; part of its digest.
    """

    features: str
    samples: int
    threshold: float
    claim: FalseRejectClaim | None
    scores: Floats
    basis: Basis
    appearance: Appearance
    scale: Scale
    facts: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        good = (
            np.isfinite(self.threshold)
            and self.basis in get_args(Basis)
            and self.samples >= 1
            and self.appearance.memory.size > 0
            and all(np.isfinite(array).all() for array in self._arrays().values())
        )
        if not good:
            raise UnusableReference("a reference needs finite numbers, a memory and a known basis")

    @classmethod
    def build(
        cls,
        good: Floats,
        info: PatchInfo,
        *,
        false_rejects: float = 0.01,
        seed: int = 0,
        most: int = MOST,
        facts: Mapping[str, Any] | None = None,
    ) -> Self:
        """Return the reference of ``(K, T, h, w, D)`` features of K good parts, in the order of their ids.

        Args:
            good: of at least 1 part, better 10, T pictures (tiles) each.
            info: of what made them.
            false_rejects: share of good parts that may be rejected.
            seed: of what is drawn.
            most: patches in the memory.

        Raises:
            UnusableReference: too few parts, or numbers that are none.
        """
        _require(good, info)
        inside, outside = split(len(good), seed)
        layers = widths(info)
        groups = _groups(layers)
        shown = good[inside]
        appearance = Appearance.of(shown, layers, lambda patches: coreset(patches, most, seed))
        known = np.stack([appearance.without(i, shown).statistics(part)[0] for i, part in enumerate(shown)])
        scale = Scale.of(known)
        claim: FalseRejectClaim | None = None
        if len(outside):
            held = [scale.scores(appearance.statistics(good[i])[0], groups).max() for i in outside]
            scores = np.array(held, np.float32)
            threshold, claim = held_out_threshold(scores, false_rejects)
        else:
            scores = Scale.leave_one_out(known, groups)
            threshold = leave_one_out_threshold(scores)
        return cls(
            features=info.digest,
            samples=len(inside),
            threshold=threshold,
            claim=claim,
            scores=np.sort(scores),
            basis="held_out" if len(outside) else "leave_one_out",
            appearance=appearance,
            scale=scale,
            facts=facts or {},
        )

    def judge(self, patches: Floats) -> Anomaly:
        """Return what it says of one part's ``(T, h, w, D)`` features.

        In the maps 1 is as far as the farthest places of good parts.

        Raises:
            ValueError: features of another shape.
        """
        statistics, distances = self.appearance.statistics(patches)
        groups = _groups(tuple(len(one) for one in self.appearance.by))
        farthest = self.scale.mean[:, [0, 1, 1 + (AHEAD - 1) // 2]]
        shape = distances[0].shape
        relative = [
            _enlarged(of, shape) / np.maximum(farthest[:, i, None, None], 1e-6)
            for i, of in enumerate(distances)
        ]
        return Anomaly.of(np.max(relative, axis=0), self.scale.scores(statistics, groups))

    @cached_property
    def digest(self) -> str:
        """``sha256:...`` of everything in it."""
        return reference_file.digest_of(self._facts(), self._arrays())

    def save(self, path: Path) -> None:
        """Write it to one file, complete or not at all.

        Raises:
            OSError: the disk is full or the folder cannot be written.
        """
        release = str(self.facts.get("release", ""))
        reference_file.write(path, self._facts(), self._arrays(), release)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read and verify what `save` wrote.

        Raises:
            UnusableReference: the file is missing, damaged or of another version.
        """
        facts, arrays = reference_file.read(path)
        try:
            claim = facts["claim"]
            return cls(
                features=facts["features"],
                samples=facts["samples"],
                threshold=facts["threshold"],
                claim=None if claim is None else FalseRejectClaim.read(claim),
                scores=arrays["scores"],
                basis=facts["basis"],
                appearance=Appearance.from_arrays(arrays, facts["samples"]),
                scale=Scale(arrays["mean"], arrays["deviation"]),
                facts=facts["facts"],
            )
        except (KeyError, ValueError, TypeError, AttributeError, UnusableReference) as error:
            raise UnusableReference(f"{path}: damaged ({error}); {AGAIN}") from error

    def _facts(self) -> dict[str, Any]:
        return {
            "features": self.features,
            "samples": self.samples,
            "threshold": self.threshold,
            "claim": None if self.claim is None else self.claim.facts(),
            "basis": self.basis,
            "facts": dict(self.facts),
        }

    def _arrays(self) -> dict[str, NDArray[Any]]:
        scale = {"mean": self.scale.mean, "deviation": self.scale.deviation}
        return {**self.appearance.arrays(), **scale, "scores": self.scores}


def _require(good: Floats, info: PatchInfo) -> None:
    """Make sure that a reference can be built of these features."""
    if good.ndim != 5 or good.shape[1] < 1 or good.shape[2:] != (*info.grid, info.channels):
        wanted = f"(parts, tiles, {info.grid[0]}, {info.grid[1]}, {info.channels})"
        raise UnusableReference(f"features of shape {good.shape}, {info.name} makes {wanted}")
    if not len(good):
        raise UnusableReference("no good samples: add some with mekiki golden add, better 10 or more")
    bad = [i for i, part in enumerate(good) if not np.isfinite(part).all()]
    if bad:
        raise UnusableReference(f"good sample {bad[0] + 1} of {len(good)}: its features are not finite")


def _groups(layers: tuple[int, ...]) -> tuple[int, ...]:
    """Return how many statistics see the same kind of defect: fine, deep, spread."""
    return 1, AHEAD - 1, len(layers)


def _enlarged(distances: Floats, shape: tuple[int, ...]) -> Floats:
    """Return ``(T, h', w')`` distances on a grid of ``(T, h, w)``."""
    rows = np.minimum(np.arange(shape[1]) * distances.shape[1] // shape[1], distances.shape[1] - 1)
    columns = np.minimum(np.arange(shape[2]) * distances.shape[2] // shape[2], distances.shape[2] - 1)
    return distances[:, rows][:, :, columns]
