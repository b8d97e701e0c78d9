"""A PUBACK is not delivery: what a subscriber has missed it sees by the numbers, and can have again."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.base.call_queue import CAPACITY, CallQueue
from agent.mqtt.result_replay import MAX_RANGES, ResultReplay
from agent.store.store import Store
from tests.support.line_site import FEW
from tests.support.mqtt_peers import Mosquitto, Subscriber, check_complete, mosquitto, wait_until
from tests.support.running_publisher import running
from tests.support.verdicts import a_board, a_publisher, a_store, a_verdict


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    folder = tmp_path / "broker"
    folder.mkdir()
    with mosquitto(folder) as one:
        yield one


@pytest.fixture(scope="module")
def twenty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    store = a_store(tmp_path_factory.mktemp("twenty"))
    store.commit([a_verdict(part=part) for part in range(20)])
    yield store
    store.close()


@pytest.mark.broker
def test_a_subscriber_that_was_away_gets_everything_again(tmp_path: Path) -> None:
    """A broker that keeps 20 messages for who is away drops 180 of 200 that it took: all come back."""
    folder = tmp_path / "broker"
    folder.mkdir()
    with mosquitto(folder) as one:
        # As mosquitto's own default does beyond 1000.
        config = folder / "mosquitto.conf"
        config.write_text(config.read_text().replace("max_queued_messages 0", "max_queued_messages 20"))
        one.kill()
        one.start()
        away = Subscriber(one.port)
        with running(a_publisher(a_store(tmp_path / "data"), one.port, drain_per_s=100.0)) as publisher:
            publisher.put([a_verdict()])
            wait_until(lambda: away.results())
            away.close()
            for part in range(200):
                publisher.put([a_verdict(part=part)])
            wait_until(lambda: publisher.stats().published == 201)
            away = Subscriber(one.port)
            wait_until(lambda: (away.last("top/state") or {}).get("seq") == 201)
            seen = {1} | {result["seq"] for result in away.results()}
            missed = [seq for seq in range(1, 202) if seq not in seen]
            assert len(missed) > 100
            answer = publisher.repeat("top", missed[0], missed[-1]).result(10)
            assert (answer.status, answer.data["missing"]) == ("accepted", None)
            wait_until(lambda: {result["seq"] for result in away.results()} | {1} == set(range(1, 202)))
        assert all(r["replayed"] for r in away.results() if r["seq"] in missed)
        assert away.invalid == []
        away.close()


@pytest.mark.broker
def test_a_replay_never_goes_before_what_is_new(broker: Mosquitto, tmp_path: Path) -> None:
    """Live results keep their order and their pace; what is replayed says so and has been sent before."""
    subscriber = Subscriber(broker.port)
    store = a_store(tmp_path / "data")
    with running(a_publisher(store, broker.port, drain_per_s=400.0)) as publisher:
        publisher.put([a_verdict(part=part) for part in range(100)])
        wait_until(lambda: publisher.stats().published == 100)
        publisher.repeat("top", 1, None).result(10)
        for part in range(100):
            publisher.put([a_verdict(part=part)])
            time.sleep(0.002)
        wait_until(lambda: len(subscriber.results()) == 300)
    results = subscriber.results()
    live = [r["seq"] for r in results if not r["replayed"]]
    assert live == list(range(1, 201))
    again = [r["seq"] for r in results if r["replayed"]]
    assert again == list(range(1, 101))
    assert len(check_complete(results, 200)) == 100
    subscriber.close()


@pytest.mark.broker
def test_a_replay_goes_on_after_an_outage(broker: Mosquitto, tmp_path: Path) -> None:
    store = a_store(tmp_path / "data")
    with running(a_publisher(store, broker.port, drain_per_s=60.0)) as publisher:
        publisher.put([a_verdict(part=part) for part in range(300)])
        wait_until(lambda: publisher.stats().published == 300)
        subscriber = Subscriber(broker.port)
        publisher.repeat("top", 1, None).result(10)
        wait_until(lambda: len(subscriber.results()) > 50)
        broker.kill()
        wait_until(lambda: publisher.stats().link_problem is not None)
        broker.start()
        subscriber.subscribe_again()
        wait_until(lambda: bool(subscriber.results()) and subscriber.results()[-1]["seq"] == 300, 30)
    assert all(result["replayed"] for result in subscriber.results())
    subscriber.close()


def test_what_is_no_longer_stored_is_named(tmp_path: Path) -> None:
    store = a_store(tmp_path / "data", keep_results=10)
    rows = store.commit([a_verdict(part=part) for part in range(30)])
    store.commit([a_verdict()], [row.id for row in rows])
    with running(a_publisher(store, None), drain_s=0.1) as publisher:
        part = publisher.repeat("top", 5, 40).result(10)
        assert part.status == "accepted"
        assert part.data == {"station": "top", "from_seq": 22, "to_seq": 31, "missing": [5, 21]}
        assert "5 to 21 are no longer stored" in part.reason
        gone = publisher.repeat("top", 1, 3).result(10)
        assert (gone.status, gone.data["missing"]) == ("refused", [1, 3])
        future = publisher.repeat("top", 32, None).result(10)
        assert (future.status, "newest has number 31" in future.reason) == ("refused", True)
        assert publisher.repeat("nowhere", 1, None).result(10).status == "refused"
        for _ in range(MAX_RANGES - 1):
            assert publisher.repeat("top", 30, 31).result(10).status == "accepted"
        assert "too many" in publisher.repeat("top", 30, 31).result(10).reason


def test_errands_are_bounded_and_none_is_left_behind() -> None:
    """Who asks always hears: also when too many wait, and when the other thread has ended."""
    calls: CallQueue[str] = CallQueue("no", lambda: None)
    futures = [calls.leave(lambda: "yes") for _ in range(CAPACITY + 1)]
    assert futures[-1].result(0) == "no"
    calls.close()
    assert {future.result(0) for future in futures[:-1]} == {"yes"}
    assert calls.leave(lambda: "yes").result(0) == "no"


@given(data=st.data())
@FEW
def test_every_result_of_every_range_is_acknowledged_once_at_least(
    data: st.DataObject, twenty: Store
) -> None:
    """Whatever the order of windows, answers and lost connections."""
    repeats, now = ResultReplay(twenty, 1e6), 0.0
    ranges = data.draw(st.lists(st.tuples(st.integers(1, 20), st.integers(1, 20)), max_size=4))
    for first, last in ranges:
        if first <= last:
            repeats.add("top", first, last)
    got: set[int] = set()
    for lost, room in data.draw(st.lists(st.tuples(st.booleans(), st.integers(0, 5)), max_size=20)):
        now += 1.0
        flying = [row.seq for _, row in repeats.take(room, now)]
        for seq in flying[: room // 2] if lost else flying:
            got.add(seq)
            repeats.answered(seq)
        if lost:
            repeats.rewind()
    for _ in range(100):
        now += 1.0
        for _, row in repeats.take(7, now):
            got.add(row.seq)
            repeats.answered(row.seq)
    assert not repeats
    assert got == {seq for first, last in ranges for seq in range(first, last + 1)}


def test_state_names_the_newest_number(tmp_path: Path) -> None:
    """Retained: who connects late knows up to where results go."""
    store = a_store(tmp_path / "data")
    retained = a_board()
    with running(a_publisher(store, None, retained=retained), drain_s=0.1) as publisher:
        publisher.put([a_verdict() for _ in range(7)])
        wait_until(lambda: publisher.stats().stored == 7)
        shown: list[dict[str, Any]] = []

        def state() -> bool:
            shown.extend(json.loads(m.payload) for m in retained.take() if m.topic.endswith("state"))
            return bool(shown) and shown[-1]["seq"] == 7

        wait_until(state)
