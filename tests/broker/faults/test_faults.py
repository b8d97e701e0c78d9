"""Each fault of the soak once, on one plant: everything that was stored arrives, once more where it must."""

from __future__ import annotations

import math
import random
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.faults.growth import Sample, growing, trends
from tests.faults.kinds import FAULTS
from tests.faults.plant import Plant, plant
from tests.faults.soak import broken, judge, small_disk


@pytest.fixture(scope="module")
def one() -> Iterator[Plant]:
    with (
        tempfile.TemporaryDirectory() as folder,
        small_disk(Path(folder)) as data,
        plant(Path(folder), data) as made,
    ):
        yield made


@pytest.mark.broker
@pytest.mark.slow
@pytest.mark.parametrize("name", FAULTS)
def test_it_recovers(name: str, one: Plant) -> None:
    if name == "disk_full" and one.data.parent.name != "disk":
        pytest.skip("no disk of its own can be mounted here: needs root")
    broken(one, name, random.Random(0))


@pytest.mark.broker
@pytest.mark.slow
def test_then_nothing_is_missing(one: Plant) -> None:
    """PUBACK is not delivery: what killed brokers had forgotten comes by `cmd/request/replay`."""
    one.ask_for_missing()
    code = one.stop()
    stored = one.stored()
    assert set(stored) == {"line", "gate"}
    assert min(map(len, stored.values())) > 20
    assert judge(stored, one.missing(), one.subscriber.wrong, 0, code) == []


def test_what_would_break_a_promise_is_seen() -> None:
    good = {"a": {1: "x", 2: "y", 3: "z"}}
    assert judge(good, {"a": []}, [], 0, 0) == []
    assert judge(good, {"a": [2]}, [], 0, 0) == ["a: 1 never arrived"]
    assert judge({"a": {1: "x", 3: "z"}}, {}, [], 0, 0) == ["a: 1 numbers are not in the store"]
    assert judge(good, {}, ["a 1: x and y"], 2, 70) == [
        "a 1: x and y",
        "2 results were lost or given up",
        "the agent ended with exit code 70",
    ]


def _life(minutes: int, **shapes: Callable[[float], float]) -> list[Sample]:
    """Return a sample of each second: of each shape what it is after so many hours, and some noise."""
    rng = np.random.default_rng(0)
    calm = {"rss_mb": 330.0, "private_mb": 250.0, "threads": 17, "files": 20, "learner_mb": 400.0}
    life = []
    for second in range(60 * minutes):
        now = {
            name: shapes.get(name, lambda _, is_=value: is_)(second / 3600) for name, value in calm.items()
        }
        # What faults need while they last: every ninth minute a lot.
        now["rss_mb"] += rng.exponential(0.5) + (20.0 if second % 540 < 60 else 0.0)
        life.append(Sample(at_s=float(second), learner=7, learners=1, **now))
    return life


def _growing(life: list[Sample]) -> list[str]:
    return [line.partition(" ")[0] for line in growing(trends(life))]


def test_an_agent_that_holds_what_it_held_has_not_grown() -> None:
    assert _growing(_life(60)) == []


@pytest.mark.parametrize("what", ["rss_mb", "private_mb", "learner_mb"])
def test_five_megabytes_an_hour_are_seen(what: str) -> None:
    assert _growing(_life(60, **{what: lambda hours: 300 + 5 * hours})) == [what]


@pytest.mark.parametrize("what", ["threads", "files"])
def test_what_is_left_behind_now_and_then_is_seen(what: str) -> None:
    """One for each quarter of an hour."""
    assert _growing(_life(60, **{what: lambda hours: 20 + int(4 * hours)})) == [what]


def test_what_levels_off_has_not_grown() -> None:
    """Heaps and caches fill once: 40 MB in the first hour, by the second all is there."""
    hours = [second / 3600 for second in range(7200)]
    life = [
        Sample(at_s=3600 * hour, rss_mb=330 - 40 * math.exp(-8 * hour), threads=17, files=20)
        for hour in hours
    ]
    assert _growing(life[:1800]) == ["rss_mb"]
    assert _growing(life[3600:]) == []


def test_of_a_short_time_only_what_is_certain_counts() -> None:
    """Three megabytes up and down within minutes say nothing about an hour; ten up without a break do."""
    waves = _life(10, private_mb=lambda hours: 250 + 3 * math.sin(50 * hours))
    assert trends(waves)["private_mb"].high > 1
    assert _growing(waves) == []
    assert _growing(_life(10, private_mb=lambda hours: 250 + 60 * hours)) == ["private_mb"]
    assert trends(_life(5)) == {}


def test_a_process_of_learners_is_judged_once_it_is_grown_up() -> None:
    """Its model and its buffers come first; where it was killed, the one that lived longest counts."""
    lives = [
        Sample(
            at_s=float(second),
            rss_mb=330.0,
            threads=17,
            files=20,
            learner=1 + (second > 600),
            learner_mb=400 - 300 * math.exp(-(second if second <= 600 else second - 600) / 30),
        )
        for second in range(3600)
    ]
    assert _growing(lives) == []
    assert trends(lives)["learner_mb"].minutes == 47
