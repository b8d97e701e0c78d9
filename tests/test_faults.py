"""Each fault of the soak once, on one plant: everything that was stored arrives, once more where it must."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.plant import Plant, plant
from tests.faults.soak import FAULTS, broken, grown, judge, small_disk


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


def test_growth_is_seen() -> None:
    from tests.faults.plant import Sample

    steady = [Sample(float(s), 200.0 + s % 3, 12, 40) for s in range(600)]
    leaking = [Sample(float(s), 200.0 + s / 60, 12 + s // 300, 40) for s in range(600)]
    assert abs(grown(steady)["rss_mb_per_hour"]) < 3
    assert grown(leaking)["rss_mb_per_hour"] == pytest.approx(60, rel=0.01)
    assert grown(leaking)["threads_last"] > grown(leaking)["threads_first"]
    assert grown(steady[:50]) == {}
