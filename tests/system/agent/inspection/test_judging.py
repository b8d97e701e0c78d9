"""Parts in tiles: all of them are looked at, the worst decides, and everybody sees the tile they should."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from adapters.core.adapter import Adapter
from adapters.core.observation import as_bytes
from adapters.core.prompts import class_features
from adapters.core.protocol import Engine
from adapters.engines.open_bundle import open_bundle
from agent.config.recipes import Recipe, prompts
from agent.domain.verdict import Outcome, Provenance
from agent.inspection.inspector import Inspector
from agent.inspection.judging import encode, worst
from agent.inspection.predictor import Predictor
from agent.inspection.sample_queue import InspectedSample
from agent.inspection.station_plan import StationPlan
from camera.core.frame import Frame, Quality
from camera.core.settings import QualityLimits
from camera.feed.mailbox import Mailbox

SHA = "sha256:" + "0" * 64
FAILS = np.array([False, True, True])
RECIPE = Recipe.model_validate_json(
    '{"templates": ["a photo of {}"], "classes": {'
    '"ok": {"verdict": "pass", "phrases": ["a flawless part"]},'
    '"bent": {"verdict": "fail", "phrases": ["a bent part"]},'
    '"torn": {"verdict": "fail", "phrases": ["a torn part"]}}}'
)
BOXES = ((0.0, 0.0, 0.6, 1.0), (0.2, 0.0, 0.8, 1.0), (0.4, 0.0, 1.0, 1.0))


@pytest.fixture(scope="module")
def engine(tiny_bundle: Path) -> Engine:
    return open_bundle(tiny_bundle, device="cpu", threads=1)


def predictor(engine: Engine, number: int = 0) -> Predictor:
    adapter = engine.source
    if number:
        rng = np.random.default_rng(number)
        moved = {
            name: tensor + rng.normal(0, 0.5, tensor.shape).astype(np.float32)
            for name, tensor in adapter.tensors.items()
        }
        adapter = Adapter(moved, number, engine.source.digest)
    return Predictor(number, adapter, class_features(engine, prompts(RECIPE), adapter), FAILS)


def plan(engine: Engine, answers: Predictor, on_sample=None) -> StationPlan:
    return StationPlan(
        "tiny", RECIPE, Provenance("tiny", SHA, 0, SHA, SHA, SHA, "0"), QualityLimits(stale_s=None),
        predictor(engine), lambda: answers, on_sample, tiles=3,
    )  # fmt: skip


def pictures(count: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal((count, 3, 32, 32)).astype(np.float32)


def part(number: int, pixels: NDArray[np.float32], tiles=BOXES) -> Frame:
    quality, now = Quality(100.0, 100.0), time.monotonic_ns()
    return Frame("a", number, datetime.now(UTC), now, None, pixels, quality, view="fit", tiles=tiles)


def p_fail(engine: Engine, one: Predictor, picture: NDArray[np.float32]) -> float:
    feature = engine.encode_image(picture[None], [one.adapter])[0]
    return float(one.probabilities(feature, engine.info.logit_scale)[FAILS].sum())


def test_the_worst_tile_decides_and_is_named(engine: Engine) -> None:
    """Score and box are of the tile with the highest summed probability of the fail classes."""
    one = predictor(engine)
    inspector = Inspector("agent", engine, {"a": plan(engine, one)}, Mailbox(), list, batch=8)
    inspector.warm_up()
    for seed in range(8):
        tiles = pictures(3, seed)
        (verdict,) = inspector.judge([part(seed + 1, tiles)])
        each = [p_fail(engine, one, tile) for tile in tiles]
        assert verdict.decision.scores is not None
        found = verdict.decision.scores["bent"] + verdict.decision.scores["torn"]
        assert found == pytest.approx(max(each), abs=1e-5)
        assert (verdict.tile, verdict.view) == (BOXES[int(np.argmax(each))], "fit")


def test_parts_with_and_without_tiles_share_a_batch(engine: Engine) -> None:
    """Each gets what it gets alone."""
    inspector = Inspector("agent", engine, {"a": plan(engine, predictor(engine))}, Mailbox(), list, batch=8)
    frames = [part(1, pictures(3, 1)), part(2, pictures(1, 2), ()), part(3, pictures(3, 3))]
    together = inspector.judge(frames)
    for frame, verdict in zip(frames, together, strict=True):
        (alone,) = inspector.judge([frame])
        assert verdict.decision.scores == pytest.approx(alone.decision.scores, abs=1e-6)
        assert verdict.tile == alone.tile
    assert together[1].tile is None


def test_drift_and_learner_see_what_decides_by_the_source_model(engine: Engine) -> None:
    """Also where another version finds another tile worse: that must not choose what drift is measured on."""
    source, other = predictor(engine), predictor(engine, 3)
    told: list[InspectedSample] = []
    inspector = Inspector("agent", engine, {"a": plan(engine, other, told.append)}, Mailbox(), list, batch=8)
    differed = 0
    for seed in range(40):
        tiles = pictures(3, seed)
        (verdict,) = inspector.judge([part(seed + 1, tiles)])
        by_source, by_other = (
            int(np.argmax([p_fail(engine, one, tile) for tile in tiles])) for one in (source, other)
        )
        assert verdict.tile == BOXES[by_other]
        expected = as_bytes(tiles[by_source][None], engine.info.preprocess)[0]
        assert np.array_equal(told[-1].seen.picture, expected)
        assert verdict.source is not None
        assert verdict.source.scores is not None
        assert verdict.source.scores["bent"] + verdict.source.scores["torn"] == pytest.approx(
            p_fail(engine, source, tiles[by_source]), abs=1e-5
        )
        assert told[-1].rejected == (verdict.decision.verdict is Outcome.FAIL)
        differed += by_source != by_other
    assert differed > 3


def test_a_tile_that_gives_no_numbers_keeps_the_part_from_a_verdict(engine: Engine) -> None:
    """It may hide a defect."""
    inspector = Inspector("agent", engine, {"a": plan(engine, predictor(engine))}, Mailbox(), list, batch=8)
    tiles = pictures(3)
    tiles[1] = np.nan
    (verdict,) = inspector.judge([part(1, tiles)])
    assert (verdict.decision.reason, verdict.tile) == ("not_finite", BOXES[1])


class Echo:
    """An engine whose feature is a row of the picture."""

    def __init__(self) -> None:
        self.calls: list[int] = []

    def encode_image(self, images, adapters):
        self.calls.append(len(images))
        return images[:, 0, :, 0]


class Calls:
    """An engine that notes how many pictures it was given."""

    def __init__(self, engine: Engine) -> None:
        self.engine, self.sizes = engine, list[int]()

    def encode_image(self, images, adapters):
        self.sizes.append(len(images))
        assert len(images) == len(adapters)
        return self.engine.encode_image(images, adapters)


@given(st.lists(st.integers(1, 12), max_size=8), st.integers(1, 20))
def test_no_call_has_more_pictures_than_it_may_and_no_part_is_divided(sizes: list[int], most: int) -> None:
    """A part that has more goes alone."""
    echo, counts = Echo(), iter(range(1000))
    parts = [np.full((size, 3, 4, 4), next(counts), np.float32) for size in sizes]
    found = encode(echo, parts, [object()] * len(parts), most)  # type: ignore[arg-type]
    assert [len(one) for one in found] == sizes
    assert all((one == number).all() for number, one in enumerate(found))
    assert sum(echo.calls) == sum(sizes)
    assert all(call <= most or call in sizes for call in echo.calls)


def test_a_batch_of_tiled_parts_is_bounded(engine: Engine) -> None:
    """Eight parts of 64 tiles are 512 pictures: in calls of 128 at most."""
    counting = Calls(engine)
    counting.info = engine.info  # type: ignore[attr-defined]
    one = replace(plan(engine, predictor(engine)), tiles=64)
    boxes = tuple((0.0, 0.0, 1.0, number / 64) for number in range(1, 65))
    inspector = Inspector("agent", counting, {"a": one}, Mailbox(), list, batch=8)  # type: ignore[arg-type]
    frames = [part(number, pictures(64, number), boxes) for number in range(1, 9)]
    assert len(inspector.judge(frames)) == 8
    assert counting.sizes == [128] * 4


@pytest.mark.parametrize(
    ("scores", "fails", "tile"),
    [
        ([[0.9, 0.1], [0.2, 0.8], [0.7, 0.3]], [False, True], 1),
        ([[0.4, 0.3, 0.3], [0.5, 0.5, 0.0]], [False, True, True], 0),  # the sum counts
        ([[1e-9, 1.0], [1e-12, 1.0]], [False, True], 1),  # both are 1 in float32
        ([[0.0, 1.0], [0.0, 1.0]], [False, True], 0),
        ([[0.6, 0.4], [np.nan, np.nan], [0.1, 0.9]], [False, True], 1),
        ([[0.6, 0.4], [0.1, 0.9]], [True, True], 1),  # a sorting recipe: the surest
        ([[0.6, 0.4], [0.1, 0.9]], [False, False], 1),
    ],
)
def test_which_tile_is_the_worst(scores, fails, tile: int) -> None:
    """By the odds of a defect."""
    assert worst(np.array(scores, np.float32), np.array(fails)) == tile
