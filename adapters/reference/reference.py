"""The reference of a station: what its good parts look like, and from which distance on a part is an anomaly.

The plain form is PatchCore's (Roth et al., Towards Total Recall in Industrial Anomaly Detection, CVPR 2022,
https://arxiv.org/abs/2106.08265) without its reweighting: the score is the mean of the farthest patches.
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
from adapters.reference.anomaly import top_mean
from adapters.reference.good_scores import LEAST_HELD_OUT as LEAST_HELD_OUT
from adapters.reference.good_scores import Basis, held_out_threshold, leave_one_out_threshold, split
from adapters.reference.memory import coreset, squared
from adapters.reference.reference_file import AGAIN
from adapters.reference.reference_file import UnusableReference as UnusableReference

LEAST = 2
"""Good samples: one in the memory, and one to say how far another good one is from it."""


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
        memory: ``(M, D)`` float32 features of the good parts in it.
        facts: what is said of it besides, JSON by name: station, recipe, picture, who made it and when,
            digests of the samples. For who builds and who opens it; part of its digest.
    """

    features: str
    samples: int
    threshold: float
    claim: FalseRejectClaim | None
    scores: Floats
    basis: Basis
    memory: Floats
    facts: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        good = (
            np.isfinite(self.threshold)
            and self.basis in get_args(Basis)
            and self.samples >= 1
            and self.memory.ndim == 2
            and self.memory.size > 0
            and self.scores.ndim == 1
        )
        if not (good and np.isfinite(self.memory).all() and np.isfinite(self.scores).all()):
            raise UnusableReference("a reference needs finite numbers, a memory and a known basis")

    @classmethod
    def build(
        cls,
        good: Floats,
        info: PatchInfo,
        *,
        false_rejects: float = 0.01,
        seed: int = 0,
        facts: Mapping[str, Any] | None = None,
    ) -> Self:
        """Return the reference of ``(K, T, h, w, D)`` features of K good parts, in the order of their ids.

        Args:
            good: of at least 2 parts, T pictures (tiles) each.
            info: of what made them.
            false_rejects: share of good parts that may be rejected.
            seed: of what is drawn.

        Raises:
            UnusableReference: too few parts, or numbers that are none.
        """
        _require(good, info)
        inside, outside = split(len(good), seed)
        patches = good[inside].reshape(-1, info.channels)
        rows = coreset(patches, seed=seed)
        memory = np.ascontiguousarray(patches[rows])
        if len(outside):
            scores = np.array([_score(part, memory) for part in good[outside]], np.float32)
            threshold, claim = held_out_threshold(scores, false_rejects)
        else:
            owner = rows // (len(patches) // len(inside))
            scores = np.array([_score(good[i], memory[owner != i]) for i in inside], np.float32)
            threshold, claim = leave_one_out_threshold(scores), None
        return cls(
            features=info.digest,
            samples=len(inside),
            threshold=threshold,
            claim=claim,
            scores=np.sort(scores),
            basis="held_out" if len(outside) else "leave_one_out",
            memory=memory,
            facts=facts or {},
        )

    def judge(self, patches: Floats) -> Anomaly:
        """Return what it says of one part's ``(T, h, w, D)`` features.

        Raises:
            ValueError: features of another length.
        """
        return Anomaly.of(_maps(patches, self.memory))

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
                memory=arrays["memory"],
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
        return {"memory": self.memory, "scores": self.scores}


def _require(good: Floats, info: PatchInfo) -> None:
    """Make sure that a reference can be built of these features."""
    if good.ndim != 5 or good.shape[1] < 1 or good.shape[2:] != (*info.grid, info.channels):
        wanted = f"(parts, tiles, {info.grid[0]}, {info.grid[1]}, {info.channels})"
        raise UnusableReference(f"features of shape {good.shape}, {info.name} makes {wanted}")
    if len(good) < LEAST:
        raise UnusableReference(
            f"{len(good)} good samples: a reference needs at least {LEAST}, better 10 or more;"
            " add some with mekiki golden add"
        )
    bad = [i for i, part in enumerate(good) if not np.isfinite(part).all()]
    if bad:
        raise UnusableReference(f"good sample {bad[0] + 1} of {len(good)}: its features are not finite")


def _score(part: Floats, memory: Floats) -> float:
    """Return the score of one part's ``(T, h, w, D)`` features: of the picture that differs most."""
    return float(top_mean(_maps(part, memory)).max())


def _maps(part: Floats, memory: Floats) -> Floats:
    """Return ``(T, h, w)`` distances of one part's ``(T, h, w, D)`` features."""
    if part.ndim != 4 or part.shape[-1] != memory.shape[1]:
        raise ValueError(f"features of shape {part.shape}, the reference has (T, h, w, {memory.shape[1]})")
    flat = part.reshape(-1, part.shape[-1]).astype(np.float32, copy=False)
    near: Floats = np.sqrt(squared(flat, memory).min(axis=1))
    return near.reshape(part.shape[:3])
