"""What a broker does not take, and another agent with the same name: told, and nobody stands still."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.config.loader import load
from agent.mqtt.broker_link import HOLD_S, SHORT_ONES, SHORT_S, ClientIdConflict
from camera.core.frame import Frame, Quality
from tests.support.insides import delivery, reconnect_wait_s
from tests.support.line_site import UNHURRIED
from tests.support.mqtt_peers import Mosquitto, Subscriber, mosquitto, wait_until
from tests.support.running_agent import at, running, write_config
from tests.support.running_publisher import running as publishing
from tests.support.verdicts import a_publisher, a_store, a_verdict


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    folder = tmp_path / "broker"
    folder.mkdir()
    with mosquitto(folder) as one:
        yield one


@pytest.mark.broker
def test_a_result_that_is_too_large_holds_nothing_up(tmp_path: Path) -> None:
    """It is stored, counted and told; the connection stays, and what fits is delivered."""
    folder = tmp_path / "broker"
    folder.mkdir()
    with mosquitto(folder, "allow_anonymous true\nmax_packet_size 2000\n") as one:
        subscriber = Subscriber(one.port)
        store = a_store(tmp_path / "data")
        with publishing(a_publisher(store, one.port)) as publisher:
            wait_until(lambda: publisher.stats().link_problem is None)
            publisher.put([a_verdict(part=1), replace(a_verdict(), part_id="x" * 3000), a_verdict(part=3)])
            wait_until(lambda: publisher.stats().published == 2)
            wait_until(lambda: publisher.stats().waiting == 0)
            stats = publisher.stats()
            assert (stats.too_large, stats.link_problem) == (1, None)
            publisher.repeat("top", 2, 3).result(10)
            wait_until(lambda: [r["seq"] for r in subscriber.results()] == [1, 3, 3])
            wait_until(lambda: not delivery(publisher).draining)
            assert publisher.stats().link_problem is None
        subscriber.close()


@pytest.mark.broker
def test_a_picture_is_shrunk_until_the_broker_takes_it(tiny_bundle: Path, tmp_path: Path) -> None:
    folder = tmp_path / "broker"
    folder.mkdir()
    recipe = {
        "templates": ["a photo of {}"],
        "classes": {
            "one": {"verdict": "fail", "phrases": ["a part"]},
            "two": {"verdict": "fail", "phrases": ["a thing"]},
        },
    }
    stations = {"line": {"camera": {"kind": "simulated", "fps": 20}, "images": {"last_fail": True}}}
    with mosquitto(folder, "allow_anonymous true\nmax_packet_size 4000\n") as one:
        subscriber = Subscriber(one.port)
        path = write_config(tmp_path, tiny_bundle, stations, mqtt=at(one), recipes={"tiny": recipe})
        with running(load(path)):
            wait_until(lambda: any(t.endswith("last_fail") for t, _, _ in list(subscriber.messages)))
            wait_until(lambda: len(subscriber.results()) > 20)
        pictures = [p for t, p, _ in subscriber.messages if t.endswith("last_fail")]
        assert all(100 < len(picture) < 4000 and picture.startswith(b"\xff\xd8") for picture in pictures)
        subscriber.close()


def test_a_picture_that_cannot_be_small_enough_is_left_out(tiny_bundle: Path, tmp_path: Path) -> None:
    from adapters.engines.factory import ModelSettings, open_engine
    from agent.telemetry.counters import Counters
    from agent.telemetry.status_topics import StatusTopics

    stations = {"line": {"camera": {"kind": "simulated"}, "images": {"last_fail": True}}}
    config = load(write_config(tmp_path, tiny_bundle, stations)).config
    status = StatusTopics(config, open_engine(ModelSettings(bundle=str(tiny_bundle))).info, list, Counters())
    noise = np.random.default_rng(0).integers(0, 255, (200, 200, 3), dtype=np.uint8)
    from datetime import UTC, datetime

    frame = Frame("line", 1, datetime.now(UTC), 0, noise, None, Quality())
    whole, small = status.picture(frame, 10**6), status.picture(frame, 3000)
    assert whole is not None
    assert small is not None
    assert len(small.payload) < 3000 < len(whole.payload)
    assert status.picture(frame, 100) is None


@pytest.mark.broker
@pytest.mark.parametrize("protocol", [5, 311])
def test_two_agents_with_one_id_find_out_and_do_not_fight(
    protocol: int, broker: Mosquitto, tmp_path: Path
) -> None:
    """Each broker lets the newest in and throws the other out: they make more and more room, and say why."""
    from camera.core.settings import Reconnect

    slow = Reconnect(initial_s=0.2, max_s=3.0)
    with ExitStack() as stack:
        both = [
            stack.enter_context(
                publishing(
                    a_publisher(a_store(tmp_path / name), broker.port, protocol=protocol, reconnect=slow),
                    drain_s=0.1,
                )
            )
            for name in ("one", "two")
        ]
        wait_until(lambda: all(one.stats().same_id is not None for one in both), 40)
        assert all("agent.id" in str(one.stats().same_id) for one in both)
        wait_until(lambda: all(reconnect_wait_s(one) >= 1.5 for one in both), 40)


@pytest.mark.broker
def test_somebody_else_under_our_topics_is_noticed_and_our_own_past_is_not(
    tiny_bundle: Path, broker: Mosquitto, tmp_path: Path
) -> None:
    """What the run before left retained is no namesake; who shows itself while we are here is."""
    stations = {"line": {"camera": {"kind": "simulated", "fps": 20}}}
    loaded = load(write_config(tmp_path, tiny_bundle, stations, mqtt=at(broker)))
    subscriber = Subscriber(broker.port)

    def codes() -> list[str]:
        return [c["code"] for c in (subscriber.last("health") or {"conditions": []})["conditions"]]

    def infos() -> list[str]:
        return [json.loads(p)["instance"] for t, p, _ in list(subscriber.messages) if t.endswith("/info")]

    with running(loaded):
        wait_until(lambda: len(infos()) == 1)
    with running(loaded):
        wait_until(lambda: len(set(infos())) == 2)
        wait_until(lambda: len(subscriber.results()) > 50)
        time.sleep(0.5)
        assert codes() == []
        namesake = subscriber.last("info") | {"instance": "somebody else"}
        subscriber.send("plant/agent/info", namesake, retain=True)
        wait_until(lambda: codes() == ["same_id"])
        wait_until(lambda: infos()[-1] == infos()[-3])  # ours stands there again
    assert subscriber.invalid == []
    subscriber.close()


@given(st.lists(st.tuples(st.floats(0, 100), st.floats(0, 60), st.booleans(), st.booleans()), max_size=20))
@UNHURRIED
def test_a_namesake_is_believed_in_for_a_while_and_only_with_reason(
    losses: list[tuple[float, float, bool, bool]],
) -> None:
    same, now, signs, short = ClientIdConflict(), 0.0, [], 0
    for later_s, up_s, taken_over, explained in losses:
        now += later_s
        same.lost(now, up_s=up_s, taken_over=taken_over, explained=explained)
        short = 0 if explained or up_s >= SHORT_S else short + 1
        still = bool(signs) and now - signs[-1] <= HOLD_S and not explained
        if taken_over or still or short >= SHORT_ONES:
            signs.append(now)
        assert (same.problem(now) is not None) == bool(signs and now - signs[-1] <= HOLD_S)
    assert same.problem(now + HOLD_S + 1) is None
