"""The reference of a station: what its good parts look like, and from which distance on a part is an anomaly."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self

from adapters.baseline.claims import FalseRejectClaim
from adapters.core.adapter import AdapterError
from adapters.core.patches import PatchInfo
from adapters.core.protocol import Floats


class UnusableReference(AdapterError):
    """A reference cannot be made of these samples, or its file cannot be used; says what is missing."""


LEAST_HELD_OUT = 29
"""Good samples beside the memory from which on something can be claimed."""


@dataclass(frozen=True, slots=True, eq=False)
class Anomaly:
    """What a reference says of one part.

    Attributes:
        score: how far it is from the good parts, 0 or more; above the threshold it fails.
        tile: which of the part's pictures decides, from 0.
        box: left, top, right, bottom of the place, in shares of that picture, 0..1; None where none stands out.
        maps: ``(T, h, w)`` float32, the score of each place.
    """

    score: float
    tile: int
    box: tuple[float, float, float, float] | None
    maps: Floats


@dataclass(frozen=True, slots=True, eq=False)
class Reference:
    """What good parts look like.

    Attributes:
        features: `PatchInfo.digest` of what made its features.
        samples: good parts in the memory.
        threshold: a part whose score is above it is an anomaly.
        claim: of false rejects; None where nothing is known of them.
        scores: ``(H,)`` of the good parts that the threshold was taken from, sorted.
        basis: ``held_out``: those are not in the memory; ``leave_one_out``: each without itself.
        facts: what is said of it besides, JSON by name: station, recipe, picture, who made it and when, digests
            of the samples. For who builds and who opens it; part of its digest.
    """

    features: str
    samples: int
    threshold: float
    claim: FalseRejectClaim | None
    scores: Floats
    basis: Literal["held_out", "leave_one_out"]
    facts: Mapping[str, Any] = field(default_factory=dict)

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
        raise NotImplementedError

    def judge(self, patches: Floats) -> Anomaly:
        """Return what it says of one part's ``(T, h, w, D)`` features."""
        raise NotImplementedError

    @property
    def digest(self) -> str:
        """``sha256:...`` of everything in it."""
        raise NotImplementedError

    def save(self, path: Path) -> None:
        """Write it to one file, complete or not at all."""
        raise NotImplementedError

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read and verify what `save` wrote.

        Raises:
            UnusableReference: the file is missing, damaged or of another version.
        """
        raise NotImplementedError
