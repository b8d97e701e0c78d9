"""One part on its way to a verdict: its frame with the plan of its product, and what was seen of it."""

from __future__ import annotations

from dataclasses import dataclass

from adapters.reference.reference import Reference
from agent.domain.comparison import Box, Comparison
from agent.domain.verdict import ANOMALY, RELOAD, Decision, Outcome, Provenance, by_words, decide
from agent.inspection.comparing import ComparedPart
from agent.inspection.judging import JudgedPart
from agent.inspection.station_plan import StationPlan
from camera.core.frame import Frame


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """A frame with the plan of its product.

    Attributes:
        number: among the frames of the product in force; 0 of another product.
    """

    frame: Frame
    plan: StationPlan
    number: int

    @property
    def usable(self) -> bool:
        """Whether there is a picture to judge, made for what it is judged with."""
        return self.frame.quality.fault is None and self.plan.shown_by(self.frame)

    @property
    def asks_words(self) -> bool:
        """Whether the model is asked what it makes of the recipe's words."""
        return self.usable and self.plan.recipe.has_words


@dataclass(frozen=True, slots=True, eq=False)
class SeenPart:
    """What the model and the reference say of a part, as far as they were asked.

    Attributes:
        judged: by words; None where there are none, or no picture.
        compared: None where no reference is in force, or no picture.
    """

    part: Part
    judged: JudgedPart | None = None
    compared: ComparedPart | None = None

    @property
    def comparison(self) -> Comparison | None:
        """What the reference says."""
        return None if self.compared is None else self.compared.comparison

    @property
    def reference(self) -> Reference | None:
        """What the part was compared with."""
        return None if self.compared is None else self.compared.reference

    def decision(self) -> Decision:
        """Return what this picture says by itself."""
        frame, recipe = self.part.frame, self.part.plan.recipe
        if frame.quality.fault is None and not self.part.usable:
            return Decision(Outcome.NOT_INSPECTED, RELOAD)
        scores = None if self.judged is None else self.judged.scores.tolist()
        return decide(scores, frame.quality, recipe, self.comparison)

    def source(self, said: Decision) -> Decision | None:
        """Return what the model as it was trained says by words; None where it was not asked.

        Args:
            said: what this picture says: the same where there was nothing to ask about.
        """
        if self.judged is None:
            return said if self.part.plan.recipe.has_words else None
        if self.judged.source is None:
            return None
        return by_words(self.judged.source.tolist(), self.part.plan.recipe)

    def view(self) -> str | None:
        """Return how the region, or each tile, was shown to what judged it; None without a picture."""
        reference = self.part.plan.reference
        if self.judged is not None:
            return self.part.frame.view
        return None if self.compared is None or reference is None else reference.view(self.part.frame)

    def tile(self, said: Decision) -> Box | None:
        """Return the tile that decided, in shares of the camera's picture; None where there are no tiles."""
        tiles, judged, compared = self.part.frame.tiles, self.judged, self.compared
        if not tiles:
            return None
        if compared is not None and (judged is None or said.reason == ANOMALY):
            return tiles[compared.tile]
        return None if judged is None else tiles[judged.tile]

    def provenance(self) -> Provenance:
        """Return what made what is said of the part."""
        return self.part.plan.made_by(None if self.judged is None else self.judged.predictor, self.reference)
