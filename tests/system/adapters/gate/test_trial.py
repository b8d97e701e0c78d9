"""A trial shows known parts as pictures are now, and what is gained on those is gained on the line."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from adapters.baseline.baseline import Commissioning  # noqa: E402
from adapters.baseline.threshold import soft_error  # noqa: E402
from adapters.core.adapter import Adapter  # noqa: E402
from adapters.core.observation import Bytes, Observation, as_pixels  # noqa: E402
from adapters.core.scorer import Scorer  # noqa: E402
from adapters.encoders.torch_encoders import TorchEncoders  # noqa: E402
from adapters.gate.evaluation import Evaluation, distance  # noqa: E402
from adapters.gate.promotion_gate import GateLimits, judge  # noqa: E402
from adapters.learner.losses import Words  # noqa: E402
from adapters.learner.rehearsal_update import Proposer, RehearsalUpdate  # noqa: E402
from camera.simulation.part import LABELS  # noqa: E402
from tests.support.line_site import flanges, line_commissioning, line_eye, seen_by  # noqa: E402

FADED = ("contrast", 4.0)
BOUND = 8.0
RECENT = [LABELS[1 + row % 5] if row % 16 == 0 else "ok" for row in range(96)]
HELD_OUT = [label for label in LABELS[1:] for _ in range(6)] + ["ok"] * 30


@pytest.fixture(scope="module")
def scorer() -> Scorer:
    return line_eye()


@pytest.fixture(scope="module")
def clean(scorer: Scorer) -> Commissioning:
    return line_commissioning(scorer)


@pytest.fixture(scope="module")
def recent(scorer: Scorer) -> list[Observation]:
    """96 parts of the stream after the contrast was lost, one in 16 defective."""
    return seen_by(scorer, flanges(RECENT, 30_000, worse=FADED))


@pytest.fixture(scope="module")
def trial(scorer: Scorer, clean: Commissioning, recent: list[Observation]) -> Evaluation:
    return Evaluation.hold(scorer, clean, recent, BOUND, seed=3)


@pytest.fixture(scope="module")
def held_out() -> Bytes:
    """Other parts that have truly lost their contrast."""
    return flanges(HELD_OUT, 50_000, worse=FADED)


@pytest.fixture(scope="module")
def learned(scorer: Scorer, clean: Commissioning, recent: list[Observation], trial: Evaluation) -> Adapter:
    """One proposal from the half of the known parts that is for learning, shown as pictures are now."""
    spec, half = scorer.engine.info.preprocess, clean.known.half(0)
    shown = as_pixels(trial.condition.render(half.pictures, seed=4), spec)
    lower = sorted(recent, key=lambda one: one.score)[: len(recent) // 2]
    good = as_pixels(np.stack([one.picture for one in lower]), spec)
    words = Words.of(scorer.engine, scorer.prompts)
    update = Proposer(TorchEncoders(scorer.engine.clip), words, RehearsalUpdate(steps=8))
    return update(scorer.source, (shown, half.classes), (good, np.zeros(len(good), np.int64)), 1)[0]


def true_error(scorer: Scorer, adapter: Adapter, pictures: Bytes, offset: float) -> float:
    """Soft error on truly degraded parts, good and defective ones weighing the same."""
    fails = np.array([label != "ok" for label in HELD_OUT])
    errors = soft_error(scorer.look(pictures, adapter).scores, fails, offset)
    return float(errors[fails].mean() + errors[~fails].mean()) / 2


def spoilt(scorer: Scorer) -> Adapter:
    """The model with its gains drawn at random: it finds nothing any more."""
    rng = np.random.default_rng(0)
    tensors = scorer.source.tensors
    return Adapter(
        {name: t * rng.uniform(0, 2, t.shape).astype(np.float32) for name, t in tensors.items()}, 1
    )


def test_what_is_learned_from_rendered_parts_helps_on_the_degraded_line(
    scorer: Scorer, trial: Evaluation, learned: Adapter, held_out: Bytes
) -> None:
    """A few steps on known parts under the estimated condition lower the error on parts nobody rendered.

    Each adapter at the operating point that the trial would give it.
    """
    before = true_error(scorer, scorer.source, held_out, trial.frozen.point.offset)
    after = true_error(scorer, learned, held_out, trial.assess(learned).point.offset)
    assert after < 0.9 * before


def test_the_guard_keeps_that_proposal_for_its_gain(
    scorer: Scorer, trial: Evaluation, learned: Adapter
) -> None:
    """What the trial says agrees with what is true: a gain on known parts, explained, near the source."""
    far = distance(learned, scorer.source)
    evidence = trial.evidence(trial.frozen, trial.assess(learned), far)
    assert judge(evidence, GateLimits()).keep
    assert evidence.gain == pytest.approx(trial.frozen.error - trial.assess(learned).error, abs=1e-6)
    assert evidence.gain > evidence.gain_error > 0


def test_following_the_pictures_with_the_operating_point_alone_helps(
    scorer: Scorer, clean: Commissioning, trial: Evaluation, held_out: Bytes
) -> None:
    """The training-free level: the frozen model makes fewer errors where the trial puts its threshold."""
    tracked = true_error(scorer, scorer.source, held_out, trial.frozen.point.offset)
    assert tracked < 0.9 * true_error(scorer, scorer.source, held_out, clean.offset)


def test_the_source_is_no_gain_over_itself(scorer: Scorer, trial: Evaluation) -> None:
    """No proposal is kept for nothing."""
    assert trial.assess(scorer.source) is trial.frozen
    evidence = trial.evidence(trial.frozen, trial.frozen, distance(scorer.source, scorer.source))
    assert (evidence.gain, evidence.distance, evidence.dead, evidence.agreement) == (0, 0, 0, 1)
    assert judge(evidence, GateLimits()).rule == "no_gain"


def test_a_spoilt_model_is_refused_and_shows_as_harm(scorer: Scorer, trial: Evaluation) -> None:
    """It is worse on known parts, and further away than any gain was found."""
    adapter = spoilt(scorer)
    evidence = trial.evidence(trial.frozen, trial.assess(adapter), distance(adapter, scorer.source))
    assert not judge(evidence, GateLimits()).keep
    assert evidence.gain < -2 * evidence.gain_error
    assert evidence.distance > GateLimits().distance


def test_no_part_is_both_learned_from_and_judged_by(clean: Commissioning, trial: Evaluation) -> None:
    """The trial's parts are the other half of the known ones, and good parts of the stream."""
    learned_from = {picture.tobytes() for picture in clean.known.half(0).pictures}
    judged = np.concatenate([clean.known.half(1).pictures, clean.good])
    assert np.array_equal(trial.pictures, trial.condition.render(judged, seed=3))
    assert not learned_from & {picture.tobytes() for picture in judged}
    assert trial.fails.tolist() == clean.fails[clean.known.half(1).classes].tolist() + [False] * len(
        clean.good
    )


def test_the_condition_explains_the_change(scorer: Scorer, clean: Commissioning, trial: Evaluation) -> None:
    """Lost contrast it does, pictures of something else it does not: known parts say nothing of those."""
    rng = np.random.default_rng(0)
    blocks = np.clip(rng.normal(90, 40, (64, 8, 8, 3)), 0, 255).astype(np.uint8)
    strangers = Evaluation.hold(
        scorer, clean, seen_by(scorer, blocks.repeat(16, 1).repeat(16, 2)), BOUND, seed=3
    )
    assert trial.explained > GateLimits().explained > strangers.explained


def test_the_same_trial_again_says_the_same(
    scorer: Scorer, clean: Commissioning, recent: list[Observation], trial: Evaluation
) -> None:
    """Equal pictures and seed: equal to the last bit, so that a replay decides as the line did."""
    again = Evaluation.hold(scorer, clean, recent, BOUND, seed=3)
    assert again.explained == trial.explained
    assert np.array_equal(again.frozen.errors, trial.frozen.errors)
    assert again.frozen.point == trial.frozen.point


def test_the_operating_point_stays_within_its_bound(
    scorer: Scorer, clean: Commissioning, recent: list[Observation], trial: Evaluation
) -> None:
    """A bound of nothing keeps the commissioned one and says that it wanted to go further."""
    wanted = abs(trial.frozen.point.offset - clean.offset)
    assert 0.5 < wanted < BOUND
    near = Evaluation.hold(scorer, clean, recent, wanted / 2, seed=3).frozen.point
    assert near.at_bound
    assert abs(near.offset - clean.offset) == pytest.approx(wanted / 2)


def test_on_the_clean_line_known_parts_are_told_apart(
    scorer: Scorer, clean: Commissioning, trial: Evaluation
) -> None:
    """At the commissioned operating point, better than after the contrast was lost."""
    sound = Evaluation.clean(scorer, clean)
    assert sound.point.offset == clean.offset
    assert sound.error < trial.frozen.error
    assert sound.missed <= trial.frozen.missed
    assert sound.rejected < 0.05


def test_distance_is_in_lengths_of_the_source(scorer: Scorer) -> None:
    """Twice the source is one length away."""
    doubled = Adapter({name: 2 * tensor for name, tensor in scorer.source.tensors.items()}, 1)
    assert distance(doubled, scorer.source) == pytest.approx(1)
    assert distance(scorer.source, scorer.source) == 0
