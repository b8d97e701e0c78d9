"""What a station's threshold does: it follows without known defects, and never too far an hour."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adapters.baseline.baseline import Commissioning, ReferenceSamples
from adapters.baseline.build import commission
from adapters.baseline.threshold_motion import HOUR_S
from adapters.core.observation import Observation
from adapters.gate.evaluation import Evaluation
from agent.learning.station_learner import StationLearner
from agent.versions.learner_settings import LearnerSettings
from tests.support.small_line import (
    FAILS,
    LABELS,
    WEIGHTS,
    WORDS,
    Site,
    clean,
    commissioned,
    pictures,
    scorer,
    seen,
    stream,
)

FRAMES = 2000


def guessed() -> Commissioning:
    """The line commissioned without a person: the model names its own defects, many of them."""
    return commissioned(stream(1000), None)


def fading(frames: int = FRAMES) -> list[Observation]:
    """Return parts under a lamp that fades slowly."""
    labels = ["scratch" if n % 20 == 0 else "good" for n in range(frames)]
    shown = [pictures([label], 5000 + n, 120 - 25 * n / frames) for n, label in enumerate(labels)]
    return seen(np.concatenate(shown), 1)


def learned(
    folder: Path, baseline: Commissioning, parts: list[Observation], **settings: Any
) -> tuple[StationLearner, list[dict[str, Any]], int]:
    """Let a station learn in lockstep; return its learner, its events and how many proposals it asked for."""
    events: list[dict[str, Any]] = []
    proposals = []

    def update(adapter: Any, known: Any, good: Any, seed: int) -> Any:
        proposals.append(known)
        return adapter, {"loss": 0.1}

    manager = Site(folder, clean=baseline).manager(events.append)
    learner = StationLearner(baseline, scorer(), update, manager, LearnerSettings(**settings))
    for one in parts:
        learner.observe(one)
        learner.work()
    return learner, events, len(proposals)


def test_a_station_with_guessed_defects_alone_follows_and_proposes_nothing(tmp_path: Path) -> None:
    """Threshold and drift are there as at other stations; it is not off, and says what it does not watch."""
    baseline = guessed()
    assert baseline.sight.guesses >= 6
    parts = [*stream(300), *stream(300, 301, light=80.0)]
    learner, events, proposals = learned(tmp_path, baseline, parts)
    moved = [one for one in events if one["event"] == "promoted"]
    assert learner.why_off is None
    assert proposals == 0
    assert learner.answering.offset > baseline.offset
    assert moved
    assert all("the threshold follows the pictures from" in one["why"] for one in moved)
    assert baseline.sight.unwatched[0].startswith("missed defects")


def test_the_guard_judges_by_what_a_person_vouches_for(tmp_path: Path) -> None:
    """Guessed defects are no part of an evaluation; vouched good parts alone are, where there are enough."""
    golden = ReferenceSamples(pictures(["good"] * 4, 7), np.zeros(4, np.int64))
    few, many = guessed(), vouched(golden)
    trials = [Evaluation.hold(scorer(), one, stream(96), 8.0, 1) for one in (few, many)]
    assert not any(trial.fails.any() for trial in trials)
    assert (few.sight.false_rejects, many.sight.false_rejects) == (False, True)
    good = int((few.known.classes == 0).sum())
    assert len(trials[0].pictures) == good // 2 + len(few.good)
    confirmed = int(many.known.vouched.sum())
    assert len(trials[1].pictures) == confirmed // 2 + len(many.good)


def vouched(golden: ReferenceSamples) -> Commissioning:
    """The line with all parts good, as a person says."""
    return commission(
        stream(1000, defects=0), golden, scorer().look(golden.pictures, scorer().source).scores,
        station="line", weights=WEIGHTS, recipe=WORDS.digest, labels=LABELS, fails=FAILS, made_at="2026",
        all_good=True,
    )  # fmt: skip


def test_confirmed_defects_are_learned_from(tmp_path: Path) -> None:
    parts = [*stream(300), *stream(300, 301, light=80.0)]
    assert learned(tmp_path, clean(), parts)[2] > 0


@pytest.mark.parametrize("baseline", [guessed, clean])
@pytest.mark.parametrize("per_hour", [1.5, 4.0])
def test_a_slow_change_moves_it_with_the_good_parts_and_beyond_no_further_an_hour_than_it_may(
    per_hour: float, baseline: Any, tmp_path: Path
) -> None:
    """Each event of a move says how far, and how much of the hour is used."""
    events = learned(tmp_path, baseline(), fading(), per_hour=per_hour)[1]
    moves = [
        (one["numbers"]["frame"], one["numbers"]["threshold_counted"], one)
        for one in events
        if "threshold_moved" in one["numbers"]
    ]
    assert moves
    for frame, _, one in moves:
        within = sum(nats for at, nats, _ in moves if frame - HOUR_S < at <= frame)
        assert within <= per_hour + 1e-6
        assert one["numbers"]["threshold_hour"] == pytest.approx(within)
        assert one["numbers"]["threshold_per_hour"] == per_hour
    # The lamp moves all parts: the threshold is with them by far more than the limit.
    assert sum(abs(one["numbers"]["threshold_moved"]) for _, _, one in moves) > per_hour


@pytest.mark.parametrize("baseline", [guessed, clean])
def test_on_constant_pictures_it_rests(baseline: Any, tmp_path: Path) -> None:
    """After the change it moves once; 1000 parts later it is where it was."""
    parts = [*stream(300), *stream(1300, 301, light=85.0)]
    events = learned(tmp_path, baseline(), parts)[1]
    moved = [
        one["numbers"]["frame"] for one in events if one["event"] == "promoted" and "rests" not in one["why"]
    ]
    assert len(moved) <= 2
    assert all(frame < 700 for frame in moved)
