"""What goes wrong in a learner is told, costs nobody else anything, and nothing is printed for nothing."""

from __future__ import annotations

import logging
import threading
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.baseline.baseline import Commissioning, ReferenceSamples
from adapters.core.adapter import Adapter
from adapters.encoders.cancellation import Cancelled
from adapters.gate.evaluation import Evaluation
from adapters.gate.label_test import LabelTest
from adapters.gate.promotion_gate import GateLimits, Ruling, judge
from adapters.gate.state_machine import Phase, State
from adapters.learner.sample_buffer import BufferPolicy, duplicate_cosine
from adapters.monitoring.degradation_fit import PictureStatistics, estimate
from adapters.monitoring.nearest_domain import most_alike
from agent.domain.learner_stats import LearnerStats
from agent.domain.publisher_stats import PublisherStats
from agent.learning.adaptation_context import AdaptationContext
from agent.learning.episode import Look
from agent.learning.failure import failure_of
from agent.learning.ipc import Answers, Doing
from agent.learning.station_learner import StationLearner
from agent.telemetry.health import conditions
from agent.versions.operator_requests import Request, ask
from tests.support.answering_site import a_version, moved
from tests.support.insides import is_computing, learner, limit, told_to_inspector, trial
from tests.support.line_site import FEW
from tests.support.mqtt_peers import wait_until
from tests.support.small_line import (
    LABELS,
    Site,
    SmallEngine,
    clean,
    commissioned,
    hand_over,
    pictures,
    scorer,
    seen,
    stream,
)

PATIENCE_S = 150.0


@FEW
@given(st.integers(2, 600), st.integers(1, 8), st.integers(0, 2**32 - 1))
def test_known_pictures_may_repeat(dimensions: int, different: int, seed: int) -> None:
    """Rounding makes the cosine of a feature with itself more than 1: it is still a limit of a buffer."""
    rng = np.random.default_rng(seed)
    few = rng.standard_normal((different, dimensions)).astype(np.float32)
    few /= np.maximum(np.linalg.norm(few, axis=1, keepdims=True), 1e-12)
    limit = duplicate_cosine(few[rng.integers(different, size=60)])
    BufferPolicy(duplicate=limit)
    same = float(few[0] @ few[0])
    assert same > limit


def test_one_known_part_says_nothing_of_how_alike_parts_are() -> None:
    assert duplicate_cosine(np.ones((1, 4), np.float32) / 2) == BufferPolicy().duplicate


def one_known_defect() -> Commissioning:
    return commissioned(
        stream(1000, defects=0), ReferenceSamples(pictures(["scratch"], 7), np.ones(1, np.int64))
    )


def all_alike() -> Commissioning:
    """A folder of one picture, again and again."""
    return commissioned(seen(np.repeat(pictures(["good"], 3), 1000, axis=0)), None)


def eight_again_and_again() -> Commissioning:
    return commissioned(seen(np.tile(pictures(["good"] * 8, 3), (125, 1, 1, 1))), None)


def black() -> Commissioning:
    made = commissioned(stream(1000), None)
    return replace(
        made, good=np.zeros_like(made.good), statistics=PictureStatistics.of(np.zeros_like(made.good))
    )


STATIONS = {
    "no known defects": lambda: commissioned(stream(1000, defects=0), None),
    "no golden pictures": lambda: commissioned(stream(1000), None),
    "one known defect": one_known_defect,
    "one picture": all_alike,
    "eight pictures": eight_again_and_again,
    "black pictures": black,
}


@pytest.mark.parametrize("station", list(STATIONS))
def test_a_learner_prints_no_warning_whatever_is_known(station: str, tmp_path: Path) -> None:
    """Neither at its start nor where it looks and learns; nor does it fail."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        site = Site(tmp_path, clean=STATIONS[station]())
        site.model.go_on.set()
        shown = {"one picture": 1, "eight pictures": 8}.get(station, 200)
        with site.learning() as one:
            again = np.tile(pictures(["good"] * shown, 3), (200 // shown, 1, 1, 1))
            hand_over(one, seen(again))
            wait_until(lambda: site.last("drift").get("block", 0) >= 3, PATIENCE_S)
            wait_until(lambda: not is_computing(one) and learner(one) is not None, PATIENCE_S)
            learns = learner(one)
            assert learns is not None
            held = trial(learns, 60)
            now = held.assess(moved(0.01))
            judge(held.evidence(held.frozen, now, 0.1), GateLimits())
            assert one.stats() == LearnerStats("line")


def test_pictures_that_do_not_vary_have_a_condition() -> None:
    """No spectrum, no logarithm of nothing."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        still, moving = np.full((40, 16, 16, 3), 90, np.uint8), pictures(["good"] * 40, 1)
        for then, now in ((still, still), (still, moving), (moving, still)):
            condition = estimate(PictureStatistics.of(then), PictureStatistics.of(now))
            assert np.isfinite(list(condition.numbers().values())).all()


def test_what_is_not_a_number_is_refused_and_is_no_reason_to_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proposal that answers with nothing is not finite, and not an error of the learner."""
    trial = Evaluation.hold(scorer(), clean(), stream(80), 8.0, 0)
    real = SmallEngine.encode_image

    def broken(self: SmallEngine, images: np.ndarray, adapters: list[Adapter]) -> np.ndarray:
        found = real(self, images, adapters)
        found[[adapter.number == 9 for adapter in adapters]] = np.nan
        return found

    monkeypatch.setattr(SmallEngine, "encode_image", broken)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        now = trial.assess(moved(0.5, 9))
        assert judge(trial.evidence(trial.frozen, now, 0.1), GateLimits()).rule == "not_finite"


def test_wealth_stays_a_number_however_many_labels_there_are() -> None:
    test = LabelTest()
    for _ in range(3000):
        test = test.told(defect=True, adapted_fails=True, frozen_fails=False)
    assert all(np.isfinite(test.evidence))
    assert test.verdict == "gain"


def test_an_imported_version_may_say_anything_of_its_condition() -> None:
    condition = estimate(*[PictureStatistics.of(pictures(["good"] * 40, 1))] * 2)
    odd = [
        replace(a_version(0.1 * number), condition={"picture_gain": value})
        for number, value in enumerate(("much", None, [1], "nan", 1e308), 1)
    ]
    assert (
        len(most_alike(condition, [*odd, replace(a_version(0.9), condition={"picture_gain": 1.0})], 6)) == 6
    )


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    limit(monkeypatch, "a learner that failed pauses", 0.05)
    limit(monkeypatch, "a learner's failure is shown", 0.0)


@pytest.mark.usefixtures("quick")
def test_an_error_in_what_learns_is_told_and_what_people_ask_for_is_done(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It is tried again after pauses that grow, with the place in health and the traceback in the journal."""
    site = Site(tmp_path)
    site.store(reading=False).write(a_version(0.001))
    site.manager().go_to(1, "ada", "test")
    broken = threading.Event()
    broken.set()

    def fail() -> None:
        if broken.is_set():
            raise ValueError("a file that nobody understands")

    site.model.fail = fail
    caplog.set_level(logging.ERROR)
    with site.learning() as one:
        wait_until(lambda: one.stats().failed is not None, PATIENCE_S)
        wait_until(lambda: caplog.text.count("begins again") >= 3, PATIENCE_S)
        assert one.answering().number == 1
        ask(site.requests, Request(kind="reset", actor="ada", at="now"))
        wait_until(lambda: one.answering().number == 0, PATIENCE_S)
        assert one.stats().failed is not None
        broken.clear()
        wait_until(lambda: one.stats() == LearnerStats("line"), PATIENCE_S)
        hand_over(one, stream(50))
        wait_until(lambda: site.last("drift").get("block") == 1, PATIENCE_S)
    pauses = [record.args[-1] for record in caplog.records if "begins again" in record.msg]
    assert pauses == sorted(pauses)
    assert len(set(pauses)) >= 3
    assert all(record.exc_info for record in caplog.records if "begins again" in record.msg)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("fails", ["what is due", "its thread"])
def test_a_learner_that_cannot_begin_to_compute_lets_the_others_have_the_model(
    fails: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """One holds it at a time: it is given back, and taken again once there is a thread to be had."""
    monkeypatch.setattr("agent.learning.episode.judge", lambda evidence, limits: Ruling(True, "kept"))
    monkeypatch.setattr(AdaptationContext, "is_sound", lambda self, now: False)
    site, failed = Site(tmp_path), threading.Event()
    site.store(reading=False).write(a_version(0.001))
    site.manager().go_to(1, "ada", "test", state=State(Phase.LEARN, 0, born=0))
    started, due = threading.Thread.start, StationLearner.due

    def no_thread(self: threading.Thread) -> None:
        if self.name == "computes-line" and learner(one) is not None and not failed.is_set():
            failed.set()
            raise RuntimeError("can't start new thread")
        started(self)

    def not_due(self: StationLearner) -> Look | None:
        found = due(self)
        if found is not None and not failed.is_set():
            failed.set()
            raise MemoryError
        return found

    if fails == "its thread":
        monkeypatch.setattr(threading.Thread, "start", no_thread)
    else:
        monkeypatch.setattr(StationLearner, "due", not_due)
    with site.learning() as one:
        hand_over(one, stream(80, light=100.0))
        wait_until(failed.is_set, PATIENCE_S)
        wait_until(lambda: "begins again" in caplog.text and learner(one) is not None, PATIENCE_S)
        hand_over(one, stream(80, first=81, light=100.0))
        wait_until(site.model.entered.is_set, PATIENCE_S)
        site.model.go_on.set()
    assert not site.model.turn.locked()


def test_an_end_in_the_middle_of_a_decision_is_no_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What ends a call of the model at the agent's end is told in one line, without a traceback."""
    caplog.set_level(logging.INFO)
    with Site(tmp_path).learning() as one:
        wait_until(lambda: learner(one) is not None, PATIENCE_S)

        def ends(self: StationLearner) -> bool:
            one.stop()
            raise Cancelled

        monkeypatch.setattr(StationLearner, "decide", ends)
        wait_until(lambda: "ends in the middle of its work" in caplog.text, PATIENCE_S)
    assert one.stats().failed is None
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


def test_an_inspector_that_could_not_be_told_what_answers_is_told_the_next_time(tmp_path: Path) -> None:
    """Whatever sending fails with: it must not go on with another version than the learner."""
    sent: list[object] = []

    class Narrow:
        def send(self, message: object) -> bool:
            if not sent:
                sent.append("lost")
                raise MemoryError
            sent.append(message)
            return True

    with Site(tmp_path).learning() as one:
        changes = told_to_inspector(Narrow())  # type: ignore[arg-type]
        with pytest.raises(MemoryError):
            changes(one)
        changes(one)
    assert [type(message) for message in sent[1:]] == [Answers, Doing]


def test_health_names_the_error_its_place_and_what_goes_on() -> None:
    try:
        BufferPolicy(duplicate=1.5)
    except ValueError as error:
        first = failure_of(error, None)
        again = failure_of(error, first)
    assert first.place.startswith("adapters/learner/sample_buffer.py:")
    assert (first.times, again.times) == (1, 2)
    assert again.pause_s == 2 * first.pause_s
    for _ in range(40):
        again = failure_of(ValueError("elsewhere"), again)
    assert again.pause_s == 900
    (condition,) = conditions(
        PublisherStats(0, 0, 0, 0, 0, None, None), (), [LearnerStats("line", failed=first.why)]
    )
    assert condition.code == "learning_failed"
    assert "ValueError at adapters/learner/sample_buffer.py" in condition.message
    assert "what answered last goes on" in condition.message


@pytest.mark.usefixtures("quick")
def test_a_picture_of_which_the_model_says_nothing_is_not_learned_from(tmp_path: Path) -> None:
    """It was not inspected either; the learner goes on."""
    site = Site(tmp_path)
    with site.learning() as one:
        parts = stream(60)
        parts[3] = replace(parts[3], score=float("nan"))
        parts[5] = replace(parts[5], feature=np.full(16, np.nan, np.float32))
        hand_over(one, parts)
        wait_until(lambda: site.last("drift").get("block") == 1, PATIENCE_S)
        assert site.last("drift")["unseen"] == 2
        assert one.stats() == LearnerStats("line")
    assert len(LABELS) == 2
