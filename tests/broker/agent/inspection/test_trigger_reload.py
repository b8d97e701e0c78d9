"""A config that changes under a station with triggers: each trigger that was taken has one result."""

from __future__ import annotations

import itertools
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.app.daemon import Daemon
from agent.config.loader import load
from agent.inspection.trigger_queue import Trigger
from agent.inspection.triggers import Awaited, Triggers
from tests.support.insides import reloader
from tests.support.mqtt_peers import Mosquitto, Subscriber, check_complete, mosquitto, wait_until
from tests.support.running_agent import at, running, write_config
from tests.support.verdicts import a_verdict

PATIENCE_S = 90.0
LINE = {"camera": {"kind": "simulated", "fps": 25}}
PRESS = {
    "recipe": "tiny",
    "camera": {"kind": "simulated", "fps": 25},
    "trigger": {"mode": "mqtt", "deadline_ms": 400},
}


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    folder = tmp_path / "broker"
    folder.mkdir()
    with mosquitto(folder) as one:
        yield one


def edit(path: Path, daemon: Daemon, change: Callable[[Any], Any]) -> None:
    """Save the file, changed, and wait until it is in force."""
    config = yaml.safe_load(path.read_text())
    change(config["stations"])
    path.write_text(yaml.safe_dump(config, sort_keys=False))
    reloads, wanted = reloader(daemon), load(path).digest
    wait_until(lambda: reloads.now.digest == wanted, PATIENCE_S)


def reasons(subscriber: Subscriber, station: str) -> dict[str, str]:
    return {r["trigger"]["id"]: r["reason"] for r in subscriber.results(station) if r["trigger"]["id"]}


@pytest.mark.broker
def test_a_trigger_at_a_station_that_nobody_judges_yet_has_its_result(
    tiny_bundle: Path, broker: Mosquitto, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reload brings the station while the model hangs; it is renamed and goes before it ever inspects."""
    from agent.inspection.inspector import Inspector

    judge, stalled = Inspector.judge, threading.Event()

    def slow(self: Inspector, frames: Any) -> Any:
        wait_until(lambda: not stalled.is_set(), PATIENCE_S)
        return judge(self, frames)

    monkeypatch.setattr(Inspector, "judge", slow)
    path = write_config(tmp_path, tiny_bundle, {"line": LINE}, mqtt=at(broker))
    subscriber = Subscriber(broker.port)

    def ask(station: str, name: str, deadline_ms: int) -> None:
        body = {"trigger_id": name, "part_id": f"part-{name}", "deadline_ms": deadline_ms}
        subscriber.send(f"plant/agent/{station}/trigger", body)

    with running(load(path)) as (daemon, summaries):
        wait_until(lambda: subscriber.results("line"), PATIENCE_S)
        stalled.set()
        edit(path, daemon, lambda stations: stations.update(press=PRESS))
        ask("press", "at once", 1)
        wait_until(lambda: "at once" in reasons(subscriber, "press"), PATIENCE_S)
        ask("press", "later", 60_000)
        edit(path, daemon, lambda stations: stations.update(stamp=stations.pop("press")))
        ask("stamp", "renamed", 1)
        wait_until(lambda: "renamed" in reasons(subscriber, "stamp"), PATIENCE_S)
        ask("stamp", "gone", 60_000)
        ask("press", "refused", 60_000)
        wait_until(lambda: [a for a in subscriber.answers() if a["station"] == "press"], PATIENCE_S)
        edit(path, daemon, lambda stations: stations.pop("stamp"))
        wait_until(lambda: "gone" in reasons(subscriber, "stamp"), PATIENCE_S)
        stalled.clear()
        count = len(subscriber.results("line"))
        wait_until(lambda: len(subscriber.results("line")) > count + 3, PATIENCE_S)
        assert not summaries
    assert reasons(subscriber, "press") == {"at once": "timeout", "later": "reload"}
    assert reasons(subscriber, "stamp") == {"renamed": "timeout", "gone": "reload"}
    told = {r["trigger"]["id"]: r["trigger"]["part_id"] for r in subscriber.results() if r["trigger"]["id"]}
    assert told == {name: f"part-{name}" for name in ("at once", "later", "renamed", "gone")}
    for station in ("press", "stamp"):
        assert check_complete(subscriber.results(station), 2) == []
    assert subscriber.invalid == []
    subscriber.close()


@pytest.mark.broker
def test_reloads_under_a_storm_of_triggers_lose_none_of_them(
    tiny_bundle: Path, broker: Mosquitto, tmp_path: Path
) -> None:
    """Added, opened anew, made continuous, renamed, disabled, removed: each has one result or one refusal.

    And nothing of a station that is gone stands at the broker, while it is asked for all the time.
    """
    mqtt = at(broker) | {"commands": {"per_s": 1000.0}}
    path = write_config(tmp_path, tiny_bundle, {"line": LINE}, mqtt=mqtt)
    subscriber, over, sent = Subscriber(broker.port), threading.Event(), list[tuple[str, str]]()

    def storm() -> None:
        for number in itertools.count():
            if over.is_set():
                return
            for station in ("press", "stamp"):
                name = f"{station}-{number}"
                sent.append((station, name))
                deadline_ms = (1, 30, 400)[number % 3]
                body = json.dumps({"trigger_id": name, "deadline_ms": deadline_ms}).encode()
                subscriber.send(f"plant/agent/{station}/trigger", body)
            time.sleep(0.1)

    other = {**PRESS, "camera": {"kind": "simulated", "fps": 20, "seed": 7}}
    steps: list[Callable[[Any], Any]] = [
        lambda stations: stations.update(press=PRESS),
        lambda stations: stations.update(press=other),
        lambda stations: stations["press"].update(trigger={"mode": "continuous"}),
        lambda stations: stations["press"].update(trigger=PRESS["trigger"]),
        lambda stations: stations.update(stamp=stations.pop("press")),
        lambda stations: stations["stamp"].update(enabled=False),
        lambda stations: stations["stamp"].update(enabled=True),
        lambda stations: stations.pop("stamp"),
        lambda stations: stations.update(press=PRESS),
        lambda stations: stations.pop("press"),
    ]
    with running(load(path)) as (daemon, summaries):
        wait_until(lambda: subscriber.results("line"), PATIENCE_S)
        thread = threading.Thread(target=storm)
        thread.start()
        for step in steps:
            edit(path, daemon, step)
            count = len(sent)
            wait_until(lambda count=count: len(sent) > count + 10, PATIENCE_S)
            assert not summaries
        over.set()
        thread.join(PATIENCE_S)
        wait_until(lambda: len(ends(subscriber)) == len(sent), PATIENCE_S)
        wait_until(lambda: all(cleared(subscriber, f"{s}/state") for s in ("press", "stamp")), PATIENCE_S)
        assert not summaries
    found = ends(subscriber)
    assert found == Counter(dict.fromkeys(found, 1))
    inspected = [r for r in subscriber.results() if r["trigger"]["id"] and r["verdict"] != "not_inspected"]
    assert inspected, "some were inspected, too"
    for station in ("press", "stamp"):
        results = subscriber.results(station)
        assert check_complete(results, results[-1]["seq"]) == []
        assert cleared(subscriber, f"{station}/state")
        assert cleared(subscriber, f"{station}/recipe/state")
    assert subscriber.invalid == []
    subscriber.close()


def ends(subscriber: Subscriber) -> Counter[str]:
    """Return how often each trigger ended: by a result, or because it was refused."""
    results = Counter(str(r["trigger"]["id"]) for r in subscriber.results() if r["trigger"]["id"])
    refused = sum(a["verb"] == "trigger" for a in subscriber.answers())
    return results + Counter({f"refused {number}": 1 for number in range(refused)})


def cleared(subscriber: Subscriber, name: str) -> bool:
    payloads = [payload for topic, payload, _ in list(subscriber.messages) if topic.endswith(name)]
    return bool(payloads) and payloads[-1] == b""


_STEP = st.one_of(
    st.tuples(st.just("use"), st.sets(st.sampled_from("ab"))),
    st.tuples(st.just("anew"), st.sampled_from("ab")),
    st.tuples(st.just("ask"), st.sampled_from("abc"), st.integers(0, 30), st.sampled_from([1, 5, 60_000])),
    st.tuples(st.just("claim"), st.integers(0, 9)),
    st.tuples(st.just("settle"), st.integers(0, 9)),
    st.tuples(st.just("offline"), st.integers(0, 9), st.booleans()),
)


@given(st.lists(_STEP, max_size=40))
@settings(deadline=None, max_examples=40)
def test_whatever_comes_and_goes_a_trigger_that_was_taken_ends_once(steps: list[Any]) -> None:  # noqa: C901
    """Stations that come and go, gates of cameras that have left, and a thread that ends what is due."""
    delivered: list[tuple[str, str]] = []
    triggers = Triggers(lambda verdicts: delivered.extend(verdicts))
    thread = threading.Thread(target=triggers.run)
    thread.start()
    there: set[str] = set()
    gates, claimed, taken = list[Any](), list[tuple[str, str]](), Counter[tuple[str, str]]()

    def awaited(station: str) -> Awaited:
        def result(reason: str, trigger: Trigger) -> Any:
            return station, trigger.id

        return Awaited(60_000, result)

    def use(anew: str = "") -> None:
        triggers.use({name: awaited(name) for name in there}, anew)
        gates.extend((name, triggers.gate(name)) for name in there)

    for what, *values in steps:
        match what, values:
            case "use", [stations]:
                there = stations
                use()
            case "anew", [station]:
                use(station)
            case "ask", [station, number, deadline_ms]:
                payload = json.dumps({"trigger_id": str(number), "deadline_ms": deadline_ms}).encode()
                assert triggers.receive(station, payload) == (station in there)
                if station in there:
                    taken[station, str(number)] += 1
            case "claim", [index] if gates:
                name, gate = gates[-1 - index % len(gates)]
                if (got := gate.claim(time.monotonic_ns())) is not None:
                    assert gate is triggers.gate(name), "an old gate has no say"
                    claimed.append((name, got[0]))
            case "settle", [index] if claimed:
                name, trigger = claimed.pop(index % len(claimed))
                if triggers.settle([replace(a_verdict(name), trigger=trigger)]):
                    delivered.append((name, trigger))
            case "offline", [index, offline] if gates:
                gates[-1 - index % len(gates)][1].offline(offline=offline)
    there = set()
    use()
    triggers.stop()
    thread.join(20)
    assert not thread.is_alive()
    ended = Counter(delivered)
    assert ended.keys() == taken.keys()
    # The same id at a station that was away and is there again is another trigger.
    assert all(1 <= ended[one] <= count for one, count in taken.items())
    assert triggers.lost == 0
