"""The inspector: what answers, at which operating point, and what the frozen model says beside it."""

from __future__ import annotations

import math
import threading
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from adapters.core.adapter import Adapter
from adapters.core.prompts import Prompts, class_features, probabilities
from adapters.core.protocol import Engine
from adapters.engines.open_bundle import open_bundle
from agent.config.recipes import Recipe
from agent.domain.production import Production
from agent.domain.verdict import Provenance
from agent.inspection.inspector import Inspector, StationPlan
from agent.inspection.predictor import Predictor
from agent.inspection.sample_queue import InspectedSample, SampleQueue
from agent.inspection.shadow import is_shadowed
from agent.inspection.station_plan import uninspected
from agent.inspection.trigger_queue import Trigger
from camera.core.frame import Frame, Quality
from camera.core.settings import QualityLimits
from camera.feed.mailbox import Mailbox

SHA = "sha256:" + 64 * "0"
FAILS = np.array([False, True, True])
RECIPE = Recipe.model_validate(
    {
        "templates": ("a photo of {}",),
        "classes": {
            "ok": {"verdict": "pass", "phrases": ("a good part",)},
            "bent": {"verdict": "fail", "phrases": ("a bent part",)},
            "torn": {"verdict": "fail", "phrases": ("a torn part",)},
        },
    }
)
PROMPTS = Prompts(tuple((label, c.phrases) for label, c in RECIPE.classes.items()), RECIPE.templates)


class Counting:
    """The tiny model, and how often it was asked for pictures."""

    def __init__(self, engine: Engine) -> None:
        self.engine, self.calls = engine, 0
        self.info, self.source = engine.info, engine.source

    def encode_image(self, images, adapters):
        self.calls += 1
        return self.engine.encode_image(images, adapters)

    def __getattr__(self, name: str):
        return getattr(self.engine, name)


@pytest.fixture
def engine(tiny_bundle: Path) -> Counting:
    return Counting(open_bundle(tiny_bundle, device="cpu", threads=1))


def predictor(engine: Engine, number: int = 0, offset: float = 0.0) -> Predictor:
    """Return the source, or a version whose LayerNorms are others."""
    adapter = engine.source
    if number:
        moved = {name: tensor + np.float32(0.3 * number) for name, tensor in adapter.tensors.items()}
        adapter = Adapter(moved, number, engine.source.digest)
    return Predictor(number, adapter, class_features(engine, PROMPTS, adapter), FAILS, offset)


def plan(frozen: Predictor, answering, on_sample=None) -> StationPlan:
    return StationPlan(
        "tiny", RECIPE, Provenance("tiny", SHA, 0, SHA, SHA, SHA, "0", commissioning=SHA),
        QualityLimits(stale_s=None), frozen, answering, on_sample,
    )  # fmt: skip


def frame(station: str, number: int, picture: NDArray[np.float32]) -> Frame:
    now = time.monotonic_ns()
    return Frame(station, number, datetime.now(UTC), now, None, picture[None], Quality(100.0, 100.0))


def pictures(count: int) -> NDArray[np.float32]:
    return np.random.default_rng(0).standard_normal((count, 3, 32, 32)).astype(np.float32)


def inspector(engine: Engine, plans: dict[str, StationPlan]) -> Inspector:
    return Inspector("agent", engine, plans, Mailbox(), lambda verdicts: None, batch=8)


def p_fail(verdict) -> float:
    return verdict.decision.scores["bent"] + verdict.decision.scores["torn"]


def test_an_offset_of_zero_changes_no_bit(engine: Counting) -> None:
    """Whoever has not commissioned gets exactly the probabilities of before."""
    plain = predictor(engine)
    features = engine.encode_image(pictures(4), [engine.source] * 4)
    before = probabilities(features, plain.class_features, engine.info.logit_scale)
    after = [plain.probabilities(feature, engine.info.logit_scale) for feature in features]
    assert np.stack(after).tobytes() == before.tobytes()


def test_a_verdict_says_what_is_being_made_when_it_is_decided(engine: Counting) -> None:
    """From the next part on what was set; a trigger that gets no picture says it too."""
    plain, now = predictor(engine), [Production("A")]
    one = replace(plan(plain, lambda: plain), production=lambda: now[0])
    inspecting = inspector(engine, {"top": one})
    (before,) = inspecting.judge([frame("top", 1, pictures(1)[0])])
    now[0] = Production("B", shift="late")
    (after,) = inspecting.judge([frame("top", 2, pictures(1)[0])])
    assert (before.production, after.production) == (Production("A"), Production("B", None, "late"))
    missed = uninspected("agent", "top", one, "timeout", Trigger("t", None, 0, 1))
    assert missed.production == Production("B", None, "late")


def test_a_part_fails_from_the_offset_on(engine: Counting) -> None:
    """The log-odds of a defect fall by the offset: p is the threshold where the score is the offset."""
    plain, moved = predictor(engine), predictor(engine, offset=1.5)
    for picture in pictures(4):
        fails, now = (
            inspector(engine, {"a": plan(one, lambda one=one: one)}).judge([frame("a", 1, picture)])[0]
            for one in (plain, moved)
        )
        odds = [math.log(p_fail(verdict) / (1 - p_fail(verdict))) for verdict in (fails, now)]
        assert odds[0] - odds[1] == pytest.approx(1.5, abs=1e-4)
        assert (now.provenance.offset, now.provenance.commissioning) == (1.5, SHA)


def test_the_source_is_what_the_frozen_model_says_at_its_own_operating_point(engine: Counting) -> None:
    """Another adapter answers; beside it stands the answer of before, from one call of the model."""
    frozen, other = predictor(engine, offset=0.5), predictor(engine, 3, offset=-0.7)
    picture = pictures(1)[0]
    alone = inspector(engine, {"a": plan(frozen, lambda: frozen)}).judge([frame("a", 1, picture)])[0]
    engine.calls = 0
    both = inspector(engine, {"a": plan(frozen, lambda: other)}).judge([frame("a", 1, picture)])[0]

    assert engine.calls == 1
    assert both.source.scores == pytest.approx(alone.decision.scores, abs=1e-6)
    assert both.decision.scores != pytest.approx(both.source.scores, abs=1e-3)
    assert (both.provenance.adapter, both.provenance.offset) == (3, -0.7)
    assert both.provenance.adapter_digest == other.adapter.digest
    assert alone.source == alone.decision


def test_another_operating_point_alone_needs_no_second_look(engine: Counting) -> None:
    """A version that moves only the offset costs nothing: the picture is encoded once."""
    frozen, moved = predictor(engine, offset=0.5), predictor(engine, offset=2.5)
    seen = []
    spy = engine.encode_image
    engine.encode_image = lambda images, adapters: (seen.append(len(images)), spy(images, adapters))[1]
    verdict = inspector(engine, {"a": plan(frozen, lambda: moved)}).judge([frame("a", 1, pictures(1)[0])])[0]
    assert seen == [1]
    assert p_fail(verdict) < sum(verdict.source.scores[label] for label in ("bent", "torn"))


def test_a_batch_is_judged_with_one_version_per_station(engine: Counting) -> None:
    """What answers changes at every look; number, adapter and offset of a verdict still belong together."""
    versions = [predictor(engine, number, offset=number / 2) for number in range(4)]
    asked = iter(range(10_000))
    turning = plan(versions[0], lambda: versions[next(asked) % 4])
    frames = [frame("a", number, picture) for number, picture in enumerate(pictures(6), 1)]
    verdicts = inspector(engine, {"a": turning}).judge(frames)

    assert len({verdict.provenance.adapter for verdict in verdicts}) == 1
    number = verdicts[0].provenance.adapter
    again = inspector(engine, {"a": plan(versions[0], lambda: versions[number])}).judge(frames)
    for verdict, other in zip(verdicts, again, strict=True):
        assert verdict.provenance == other.provenance
        assert verdict.decision.scores == other.decision.scores


def test_no_picture_is_judged_with_a_mixture_while_versions_change(engine: Counting) -> None:
    """Versions change thousands of times a second: each verdict is exactly that of the one it names."""
    frozen = predictor(engine)
    versions = [frozen, predictor(engine, 1), predictor(engine, 2, offset=0.4)]
    seen = pictures(3)
    alone = {
        one.number: [
            inspector(engine, {"a": plan(frozen, lambda one=one: one)}).judge([frame("a", 1, picture)])[0]
            for picture in seen
        ]
        for one in versions
    }
    now, stop = [frozen], threading.Event()

    def change() -> None:
        number = 0
        while not stop.wait(1e-4):
            number += 1
            now[0] = versions[number % 3]

    thread = threading.Thread(target=change)
    judge = inspector(engine, {name: plan(frozen, lambda: now[0]) for name in ("a", "b", "c")}).judge
    thread.start()
    try:
        found = [
            judge([frame(name, number, seen[row]) for row, name in enumerate("abc")])
            for number in range(1, 201)
        ]
    finally:
        stop.set()
        thread.join()
    assert {verdict.provenance.adapter for verdicts in found for verdict in verdicts} == {0, 1, 2}
    for verdicts in found:
        for row, verdict in enumerate(verdicts):
            expected = alone[verdict.provenance.adapter][row]
            assert verdict.decision.scores == pytest.approx(expected.decision.scores, abs=1e-6)
            assert verdict.provenance == expected.provenance


@pytest.mark.parametrize(("share", "other"), [(0.0, True), (0.3, True), (0.3, False)])
def test_the_frozen_model_sees_a_share_where_something_else_answers(
    engine: Counting, share: float, other: bool
) -> None:
    """Drawn by number; what answers is the same for all, and the others have no source and no witness."""
    frozen = predictor(engine)
    answers, told = predictor(engine, 2) if other else frozen, []
    judge = inspector(engine, {"a": replace(plan(frozen, lambda: answers, told.append), shadow=share)}).judge
    (picture,) = pictures(1)
    verdicts = [judge([frame("a", number, picture)])[0] for number in range(1, 301)]
    drawn = [number for number in range(1, 301) if not other or is_shadowed("a", number, share)]
    assert [number for number, one in enumerate(verdicts, 1) if one.source is not None] == drawn
    assert [one.seen.number for one in told] == drawn
    assert all(
        one.decision.scores == pytest.approx(verdicts[0].decision.scores, abs=1e-6) for one in verdicts
    )
    if other:
        assert len(drawn) == pytest.approx(300 * share, abs=25)


def test_the_learner_sees_what_the_frozen_model_saw(engine: Counting) -> None:
    """Score, feature and label are of the model as it was trained, also while another adapter answers."""
    seen: list[InspectedSample] = []
    frozen, other = predictor(engine, offset=0.3), predictor(engine, 2)
    picture = pictures(1)[0]
    verdict = inspector(engine, {"a": plan(frozen, lambda: other, seen.append)}).judge(
        [frame("a", 7, picture)]
    )[0]

    (one,) = seen
    plain = predictor(engine)
    chances = plain.probabilities(
        engine.encode_image(picture[None], [engine.source])[0], engine.info.logit_scale
    )
    assert one.seen.number == 7
    assert one.seen.score == pytest.approx(math.log(chances[FAILS].sum() / chances[0]), abs=1e-4)
    assert np.linalg.norm(one.seen.feature) == pytest.approx(1, abs=1e-6)
    assert one.seen.label == int(chances.argmax())
    assert one.seen.entropy == pytest.approx(-(chances * np.log(chances)).sum(), abs=1e-4)
    assert one.rejected == (p_fail(verdict) >= 0.5)
    assert one.rejected_frozen == (one.seen.score >= 0.3)


def test_pictures_that_are_not_judged_are_not_learned_from(engine: Counting) -> None:
    """A stale picture is a result and nothing else."""
    seen: list[InspectedSample] = []
    frozen = predictor(engine)
    strict = StationPlan(
        "tiny", RECIPE, Provenance("tiny", SHA, 0, SHA, SHA, SHA, "0"), QualityLimits(stale_s=1e-9),
        frozen, lambda: frozen, seen.append,
    )  # fmt: skip
    verdict = inspector(engine, {"a": strict}).judge([frame("a", 1, pictures(1)[0])])[0]
    assert (verdict.decision.reason, seen) == ("stale", [])


def test_a_full_handover_loses_the_oldest_and_counts_it() -> None:
    """The inspector never waits for a learner that is busy."""
    handover = SampleQueue(capacity=3)
    for number in range(5):
        handover.put(number)  # type: ignore[arg-type]
    assert (handover.take(2, 0.0), handover.take(9, 0.0), handover.lost) == ([2, 3], [4], 2)
    assert handover.take(1, 0.0) == []
