"""What the frozen model saw is kept without loss, and its score is the log-odds of a defect."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from adapters.core import protocol as engine
from adapters.core.observation import as_bytes, as_pixels, log_odds
from adapters.core.prompts import Prompts
from camera.pictures.preprocess import InputSpec, prepare
from tests.support.line_site import MEAN, STD, UNHURRIED, spec

HALVES = engine.Preprocess(16, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), "bilinear", "longest", fill=114)
OURS = engine.Preprocess(16, MEAN, STD, "bicubic", "shortest")
FAILS = np.array([False, True, False, True, True])
LOGITS = arrays.arrays(np.float32, (4, 5), elements=st.floats(-30, 30, width=32))


def camera(ours: engine.Preprocess) -> InputSpec:
    return InputSpec(**asdict(ours))


@pytest.mark.parametrize("ours", [OURS, HALVES], ids=["openai", "halves"])
def test_every_grey_level_of_every_channel_comes_back_from_the_models_input(ours: engine.Preprocess) -> None:
    """`as_bytes` undoes the camera's preparation exactly; `as_pixels` does it again to the last bit."""
    levels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    square = np.stack([levels, levels.T, levels[::-1]], axis=2)
    pixels = prepare(square, camera(ours))[None]
    assert np.array_equal(as_bytes(pixels, ours)[0], square)
    again = as_pixels(square[None], ours)
    assert again.dtype == np.float32
    assert np.array_equal(again, pixels)


@UNHURRIED
@given(
    arrays.arrays(
        np.uint8,
        st.tuples(st.integers(1, 40), st.integers(1, 40), st.just(3)),
        elements=st.integers(0, 255),
    ),
    st.sampled_from([OURS, HALVES, spec(16)]),
)
def test_a_kept_picture_gives_the_very_input_that_was_judged(
    photo: np.ndarray, ours: engine.Preprocess
) -> None:
    """Whatever photo, size and way to resize: kept as bytes and prepared again it is the same input."""
    pixels = prepare(photo, camera(ours))[None]
    assert np.array_equal(as_pixels(as_bytes(pixels, ours), ours), pixels)


@UNHURRIED
@given(LOGITS)
def test_the_score_is_the_logit_of_the_summed_probability_of_failing(logits: np.ndarray) -> None:
    """Computed with softmax in float64, where the probability can still be told from 0 and from 1."""
    wide = np.exp(logits.astype(np.float64))
    chances = wide / wide.sum(axis=1, keepdims=True)
    expected = np.log(chances[:, FAILS].sum(axis=1)) - np.log(chances[:, ~FAILS].sum(axis=1))
    np.testing.assert_allclose(log_odds(logits, FAILS), expected, rtol=1e-5, atol=1e-5)


@UNHURRIED
@given(LOGITS, st.integers(-50, 50), st.integers(0, 4), st.floats(0.5, 20))
def test_the_score_rises_with_failing_logits_and_ignores_what_all_have(
    logits: np.ndarray, common: int, column: int, more: float
) -> None:
    score = log_odds(logits, FAILS)
    np.testing.assert_allclose(log_odds(logits + np.float32(common), FAILS), score, rtol=1e-4, atol=1e-4)
    raised = logits.copy()
    raised[:, column] += np.float32(more)
    change = log_odds(raised, FAILS).astype(np.float64) - score
    assert (change >= -1e-5).all() if FAILS[column] else (change <= 1e-5).all()


@pytest.mark.parametrize("peak", [40.0, 1e3, 1e6])
def test_the_score_is_finite_and_still_ranks_where_the_probability_is_0_or_1(peak: float) -> None:
    """At logits of 1000 every probability is 0 or 1 and its logit infinite; scores still differ."""
    logits = np.array([[peak, 0, 0, 0, 0], [0, peak, 0, 0, 0], [0, 2 * peak, 0, 0, 0]], np.float32)
    with np.errstate(over="ignore"):
        low, high, higher = log_odds(logits, FAILS)
    assert np.isfinite([low, high, higher]).all()
    assert low < -0.9 * peak
    assert higher - high == pytest.approx(peak, rel=1e-3)


def test_what_an_adapter_sees_does_not_depend_on_how_many_look_at_once(
    request: pytest.FixtureRequest,
) -> None:
    """More pictures than fit a call: rows in order, features of length one, scores from their logits."""
    pytest.importorskip("torch")
    from adapters.core.scorer import CHUNK, Scorer
    from adapters.engines.torch_engine import TorchEngine

    encoder = TorchEngine(request.getfixturevalue("tiny_clip"))
    words = Prompts((("ok", ("a clean part",)), ("dent", ("a dent",)), ("hole", ("a hole",))), ("{}",))
    fails = np.array([False, True, True])
    scorer = Scorer(encoder, words, fails)
    kept = np.random.default_rng(0).integers(0, 256, (CHUNK + 3, 32, 32, 3), dtype=np.uint8)
    view = scorer.look(kept, scorer.source)
    alone = [scorer.look(kept[row : row + 1], scorer.source) for row in (0, CHUNK, CHUNK + 2)]
    for row, one in zip((0, CHUNK, CHUNK + 2), alone, strict=True):
        np.testing.assert_allclose(one.features[0], view.features[row], atol=1e-5)
        np.testing.assert_allclose(one.logits[0], view.logits[row], atol=1e-3)
    np.testing.assert_allclose(np.linalg.norm(view.features, axis=1), 1, atol=1e-6)
    assert np.array_equal(view.scores, log_odds(view.logits, fails))
