"""The inspector with several products at one station: each part by its own plan, samples of one alone."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adapters.core.adapter import Adapter
from adapters.core.prompts import class_features
from adapters.core.protocol import Engine
from adapters.engines.open_bundle import open_bundle
from agent.config.models import PatternedProduct
from agent.config.recipes import Recipe, prompts
from agent.domain.verdict import Outcome, Provenance, Verdict
from agent.inspection.frame_count import InForce
from agent.inspection.inspector import Inspector
from agent.inspection.predictor import Predictor
from agent.inspection.product_choice import ProductChoice
from agent.inspection.sample_queue import InspectedSample
from agent.inspection.station_plan import StationPlan, uninspected
from agent.inspection.trigger_queue import Trigger
from camera.core.frame import Fault, Frame, Quality
from camera.core.settings import QualityLimits
from camera.feed.mailbox import Mailbox
from tests.support.insides import adopt_plans

SHA = "sha256:" + "0" * 64


def recipe(bad: str, **more: Any) -> Recipe:
    classes = {
        "ok": {"verdict": "pass", "phrases": ("a flawless part",)},
        bad: {"verdict": "fail", "phrases": (f"a {bad} part",)},
    }
    return Recipe.model_validate({"templates": ("a photo of {}",), "classes": classes, **more})


# Nothing reaches one threshold and everything the other: the verdict says which recipe it was.
HOUSING = recipe("bent", threshold=1.0, votes={"k": 2, "n": 2})
LID = recipe("chipped", threshold=0.0, votes={"k": 2, "n": 2})


@pytest.fixture(scope="module")
def engine(tiny_bundle: Path) -> Engine:
    return open_bundle(tiny_bundle, device="cpu", threads=1)


def predictor(engine: Engine, made: Recipe, number: int = 0, offset: float = 0.0) -> Predictor:
    adapter = engine.source
    if number:
        moved = {name: tensor + np.float32(0.3) for name, tensor in adapter.tensors.items()}
        adapter = Adapter(moved, number, engine.source.digest)
    fails = np.array([False, True])
    return Predictor(number, adapter, class_features(engine, prompts(made), adapter), fails, offset)


def plan(
    engine: Engine, made: Recipe, name: str, *, number: int, offset: float, on_sample=None
) -> StationPlan:
    frozen, now = predictor(engine, made), predictor(engine, made, number, offset)
    provenance = Provenance("tiny", SHA, 0, SHA, made.digest, SHA, "0", commissioning=name)
    return StationPlan(name, made, provenance, QualityLimits(stale_s=None), frozen, lambda: now, on_sample)


def station(engine: Engine, told: list[InspectedSample], pattern: str = "L-*") -> StationPlan:
    """Return housings, which learn, and lids by their ids."""
    lid = plan(engine, LID, "lid", number=0, offset=0.5)
    housing = plan(engine, HOUSING, "housing", number=2, offset=-1.0, on_sample=told.append)
    products = [PatternedProduct(recipe="lid", part_id=pattern)]
    return replace(housing, choice=ProductChoice.of(products), others={"lid": lid})


def inspector(engine: Engine, one: StationPlan) -> Inspector:
    made = Inspector("agent", engine, {"a": one}, Mailbox(), list, batch=8)
    made.warm_up()
    return made


def frame(number: int, part_id: str | None, fault: Fault | None = None) -> Frame:
    drawn = np.random.default_rng(number).standard_normal((1, 3, 32, 32)).astype(np.float32)
    quality = Quality(100.0, 100.0, fault)
    pixels = None if fault else drawn
    return Frame("a", number, datetime.now(UTC), time.monotonic_ns(), None, pixels, quality, part_id)


def facts(verdict: Verdict) -> tuple[str, str, int, float, str | None]:
    made = verdict.provenance
    return verdict.recipe, made.recipe, made.adapter, made.offset, made.commissioning


OF_HOUSING = ("housing", HOUSING.digest, 2, -1.0, "housing")
OF_LID = ("lid", LID.digest, 0, 0.5, "lid")


def test_each_part_is_judged_by_its_own_product_in_one_batch(engine: Engine) -> None:
    """Recipe, version, threshold and baseline, and what cannot be judged too."""
    one = inspector(engine, station(engine, []))
    ids = ["H-1", "L-1", None, "L-2", "H-2"]
    frames = [frame(n, part) for n, part in enumerate(ids, 1)]
    found = one.judge([*frames, frame(6, "L-3", Fault.BLACK)])
    assert [facts(v) for v in found] == [OF_HOUSING, OF_LID, OF_HOUSING, OF_LID, OF_HOUSING, OF_LID]
    assert [list(v.decision.scores or ()) for v in found][:2] == [["ok", "bent"], ["ok", "chipped"]]
    assert found[-1].decision.reason == "black"
    for each, verdict in zip(frames, found, strict=False):
        (alone,) = inspector(engine, station(engine, [])).judge([each])
        assert verdict.decision.scores == pytest.approx(alone.decision.scores, abs=1e-6)


def test_products_never_vote_together(engine: Engine) -> None:
    """Two of two are needed: the first of each is unsure, whatever came between."""
    one = inspector(engine, station(engine, []))
    found = one.judge([frame(n, part) for n, part in enumerate(["H-1", "L-1", "H-2", "L-2"], 1)])
    assert [v.decision.verdict for v in found] == [Outcome.UNSURE, Outcome.UNSURE, Outcome.PASS, Outcome.FAIL]


def test_the_learner_sees_the_product_in_force_alone(engine: Engine) -> None:
    """No sample of the others, and numbers without gaps, by which labels know a part."""
    told: list[InspectedSample] = []
    one = inspector(engine, station(engine, told))
    told.clear()
    found = one.judge(
        [frame(n, part) for n, part in enumerate(["L-1", "H-1", "L-2", "L-3", "H-2", None, "L-4", "H-3"], 1)]
    )
    assert [sample.seen.number for sample in told] == [1, 2, 3, 4]
    assert [v.frame for v in found] == [0, 1, 0, 0, 2, 3, 0, 4]


def test_a_live_edit_of_the_pattern_counts_from_the_next_part(engine: Engine) -> None:
    """Numbers go on while the same product is in force, and begin anew behind another one."""
    told: list[InspectedSample] = []
    one = inspector(engine, station(engine, told))
    told.clear()
    one.judge([frame(1, "L-1"), frame(2, "H-1")])
    one.use({"a": station(engine, told, "H-*")}, 8)
    adopt_plans(one)
    assert [facts(v) for v in one.judge([frame(3, "L-1"), frame(4, "H-1")])] == [OF_HOUSING, OF_LID]
    assert [sample.seen.number for sample in told] == [1, 2]
    one.use({"a": replace(station(engine, told), since=InForce("again", 4, 1.0))}, 8)
    adopt_plans(one)
    one.judge([frame(4, "L-9"), frame(5, "H-2"), frame(6, "L-2"), frame(7, "H-3")])
    assert [sample.seen.number for sample in told] == [1, 2, 5, 6]


def test_a_trigger_without_a_picture_names_the_product_of_its_part(engine: Engine) -> None:
    one = station(engine, [])
    for part, expected in (("L-1", OF_LID), ("H-1", OF_HOUSING), (None, OF_HOUSING)):
        assert facts(uninspected("agent", "a", one, "timeout", Trigger("t", part, 0, 1))) == expected
