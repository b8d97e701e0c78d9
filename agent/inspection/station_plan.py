"""What one station's parts are judged with, and what can be said of a part there without a picture."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from adapters.reference.reference import Reference
from agent.base.event_id import ulid
from agent.config.recipes import Recipe
from agent.domain.claim import Claim
from agent.domain.production import Production
from agent.domain.verdict import Decision, Outcome, Provenance, Verdict
from agent.inspection.frame_count import InForce
from agent.inspection.predictor import Predictor
from agent.inspection.product_choice import ProductChoice
from agent.inspection.reference_plan import ReferencePlan
from agent.inspection.sample_queue import InspectedSample
from agent.inspection.trigger_queue import Trigger
from camera.core.frame import Frame, Quality
from camera.core.settings import QualityLimits


@dataclass(frozen=True, slots=True)
class StationPlan:
    """Everything that judging one station's frames needs, of the product in force and of the others.

    Attributes:
        provenance: of the verdicts of `frozen`; another predictor puts its own number in.
        limits: when a frame is too old to be inspected.
        frozen: the model as it was trained, at the commissioned operating point; without classes where the
            recipe has no words.
        answering: what to judge with now, complete; asked once per batch, in the loop.
        shadow: share of the frames that the frozen model sees too where something else answers.
        production: what is being made now; any thread may ask.
        on_sample: takes what the frozen model saw of each part, in the loop; None where nobody learns.
        tiles: pictures that the model gets of each part.
        since: since when the product in force is judged so; None: for as long as the agent runs.
        choice: which product a part is of.
        others: recipe's name -> plan of a product that is not in force.
        reference: what parts are compared with; None where the words alone decide.
    """

    recipe_name: str
    recipe: Recipe
    provenance: Provenance
    limits: QualityLimits
    frozen: Predictor
    answering: Callable[[], Predictor]
    on_sample: Callable[[InspectedSample], None] | None = None
    shadow: float = 1.0
    tiles: int = 1
    production: Callable[[], Production] = Production
    since: InForce | None = None
    choice: ProductChoice = field(default_factory=ProductChoice)
    others: Mapping[str, StationPlan] = field(default_factory=dict)
    reference: ReferencePlan | None = None

    def of(self, part_id: str | None) -> StationPlan:
        """Return what a part is judged with: the plan of its own product."""
        return self.others.get(self.choice.named(part_id) or self.recipe_name, self)

    def shown_by(self, frame: Frame) -> bool:
        """Whether a frame was made for this plan: one of before a reload may lack what is asked now."""
        if frame.pixels is None and self.recipe.needs_model:
            return False
        if self.reference is None:
            return True
        shown = self.reference.pixels(frame)
        return shown is not None and len(shown) == self.tiles  # a reference knows so many tiles, no others

    def made_by(self, predictor: Predictor | None, reference: Reference | None = None) -> Provenance:
        """Return what made a verdict; what is not inspected is in the name of what would have answered.

        Args:
            predictor: that answered.
            reference: that the part was compared with; None: with none.
        """
        predictor = predictor or self.answering()
        return replace(
            self.provenance,
            adapter=predictor.number,
            adapter_digest=predictor.adapter.digest,
            offset=predictor.offset,
            claim=self._claim(predictor, reference),
        )

    def _claim(self, predictor: Predictor, reference: Reference | None) -> Claim | None:
        """Return what is promised of good parts; where two may reject them, neither's promise holds."""
        if reference is None:
            # What is claimed was measured on the source model at the commissioned threshold, on nothing else.
            return self.provenance.claim if predictor.answers_like(self.frozen) else None
        votes = self.recipe.votes is not None and self.recipe.votes.n > 1  # it is of single pictures
        if self.recipe.has_words or reference.claim is None or votes:
            return None
        one = reference.claim
        return Claim(one.false_rejects_at_most, one.confidence, one.good_parts)


def uninspected(agent: str, station: str, plan: StationPlan, reason: str, trigger: Trigger) -> Verdict:
    """Return the result of a trigger that has no picture; any thread may ask.

    Args:
        agent: id of the agent.
        station: name of the station.
        plan: of the station, which may be gone by now.
        reason: why there is no picture.
        trigger: that ended.
    """
    plan, now = plan.of(trigger.part_id), datetime.now(UTC)
    waited_ms = (time.monotonic_ns() - trigger.arrived_ns) / 1e6
    return Verdict(
        event_id=ulid(),
        agent=agent,
        station=station,
        captured_at=now - timedelta(milliseconds=waited_ms),
        decided_at=now,
        part_id=trigger.part_id,
        recipe=plan.recipe_name,
        decision=Decision(Outcome.NOT_INSPECTED, reason),
        source=None,
        provenance=plan.made_by(None),
        quality=Quality(),
        wait_ms=waited_ms,
        infer_ms=0.0,
        trigger=trigger.id,
        production=plan.production(),
    )
