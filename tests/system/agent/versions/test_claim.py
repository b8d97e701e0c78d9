"""The claim in results is the baseline's, and stands only beside what it was measured on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from adapters.baseline import testimony
from adapters.baseline.claims import FalseRejectClaim
from agent.config.recipes import Votes, shipped
from agent.domain.claim import Claim
from agent.inspection.station_plan import StationPlan
from agent.versions.commissioned import Commissioned, open_station
from agent.versions.station_plans import predictors, provenance
from camera.core.settings import QualityLimits
from tests.support.learning_site import engine, site

MEASURED = FalseRejectClaim(0.05, 0.95, 59, 0, "all_good")
CLAIM = Claim(0.05, 0.95, 59)


def test_results_carry_the_claim_of_what_answers(tmp_path: Path) -> None:
    """Not of a version that was learned, nor where a recipe fails parts sooner, or by votes."""
    loaded, recipe = site(tmp_path), shipped("line")
    found = open_station(loaded, "line", recipe, engine(), reading=True)
    assert isinstance(found, Commissioned)
    assert provenance(loaded, engine(), recipe, found).claim is None
    vouched = replace(found, clean=replace(found.clean, testimony=testimony.Testimony("ada", True, MEASURED)))
    made = provenance(loaded, engine(), recipe, vouched)
    assert made.claim == CLAIM
    stricter, laxer = (recipe.model_copy(update={"threshold": share}) for share in (0.4, 0.6))
    assert provenance(loaded, engine(), stricter, vouched).claim is None
    assert provenance(loaded, engine(), laxer, vouched).claim == CLAIM
    voting = recipe.model_copy(update={"votes": Votes(k=1, n=3)})
    assert provenance(loaded, engine(), voting, vouched).claim is None

    frozen, _ = predictors(engine(), recipe, vouched)
    plan = StationPlan("line", recipe, made, QualityLimits(), frozen, lambda: frozen)
    assert plan.made_by(None).claim == CLAIM
    assert plan.made_by(replace(frozen, number=3, offset=frozen.offset + 1.0)).claim is None
