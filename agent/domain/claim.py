"""What a baseline promises of the parts that it will reject by mistake, as results carry it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Claim:
    """A bound on false rejects, and what it was measured on.

    Attributes:
        false_rejects_at_most: share of good parts that are rejected, upper bound, 0..1.
        confidence: of the bound, above 0 and below 1.
        good_parts: how many a person vouched for, at least 1.
    """

    false_rejects_at_most: float
    confidence: float
    good_parts: int
