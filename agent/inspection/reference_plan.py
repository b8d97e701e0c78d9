"""What the parts of one product are compared with: a backbone, and the reference that is in force now."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from adapters.core.patches import PatchExtractor, PatchInfo
from adapters.core.protocol import Floats
from adapters.reference.reference import Reference
from agent.config.recipes import CLIP
from camera.core.frame import Frame


@dataclass(frozen=True, slots=True, eq=False)
class ReferencePlan:
    """Everything that comparing one product's parts needs.

    Attributes:
        features: the recipe's word for them; the name of the input in `Frame.references`.
        extractor: makes them.
        answering: the reference to compare with now; None where there is none that can be used. Asked once
            per batch, in the loop.
    """

    features: str
    extractor: PatchExtractor
    answering: Callable[[], Reference | None]

    def pixels(self, frame: Frame) -> Floats | None:
        """Return ``(T, 3, R, R)`` of a frame for the backbone; None where it was made without them."""
        if self.features == CLIP:
            return frame.pixels
        found = frame.references.get(self.features)
        return None if found is None else found.pixels

    def view(self, frame: Frame) -> str | None:
        """Return how the tiles of a frame became these; None where it was made without them."""
        if self.features == CLIP:
            return frame.view
        found = frame.references.get(self.features)
        return None if found is None else found.view


def info_of(plan: ReferencePlan | None) -> PatchInfo | None:
    """Return what makes the features that parts are compared by; None where they are not compared."""
    return None if plan is None else plan.extractor.info
