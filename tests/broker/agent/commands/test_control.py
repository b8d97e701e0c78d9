"""The whole agent asked over a real broker: commands, answers, settings."""

from __future__ import annotations

import json
import queue
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import pytest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from agent.config.loader import load
from tests.support.mqtt_peers import Mosquitto, Subscriber, mosquitto, wait_until
from tests.support.running_agent import at, running, write_config

pytestmark = pytest.mark.broker

LINE = {"line": {"camera": {"kind": "simulated", "fps": 50}}}


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    folder = tmp_path / "broker"
    folder.mkdir()
    with mosquitto(folder) as running_broker:
        yield running_broker


def commanded(broker: Mosquitto, **commands: Any) -> dict[str, Any]:
    return {**at(broker), "commands": {"allow": ["*"], **commands}}


def test_a_client_asks_and_is_answered(tiny_bundle: Path, broker: Mosquitto, tmp_path: Path) -> None:
    """ping, stats, and what an uncommissioned station says; every answer as its schema says."""
    subscriber = Subscriber(broker.port)
    with running(load(write_config(tmp_path, tiny_bundle, LINE, mqtt=commanded(broker)))):
        wait_until(lambda: subscriber.results("line"))
        assert subscriber.ask("ping")["data"]["up_s"] >= 0
        assert subscriber.ask("stats")["data"]["schema"] == "mekiki.stats.v1"
        no = subscriber.ask("adapter/rollback", {"number": 0})
        assert (no["status"], "not commissioned" in no["reason"]) == ("refused", True)
        assert "no station" in subscriber.ask("adapter/list", {"station": "nowhere"})["reason"]
        wait_until(lambda: subscriber.last("line/recipe/state") is not None)
        assert subscriber.last("line/recipe/state")["value"] == "tiny"
        assert subscriber.last("line/adaptation/state")["value"] == "adaptive"
        assert subscriber.last("line/enabled/state")["value"] is True
    assert subscriber.invalid == []
    subscriber.close()


def test_an_mqtt_5_client_gets_its_answer_where_it_wants_it(
    tiny_bundle: Path, broker: Mosquitto, tmp_path: Path
) -> None:
    """Response topic and correlation data, as MQTT 5 has them; and it expires."""
    with running(load(write_config(tmp_path, tiny_bundle, LINE, mqtt=commanded(broker)))):
        heard: queue.Queue[Any] = queue.Queue()
        client = paho.Client(paho.CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
        client.on_message = lambda _c, _u, message: heard.put(message)
        client.connect("127.0.0.1", broker.port)
        client.subscribe("plant/#", 1)
        client.loop_start()
        properties = Properties(PacketTypes.PUBLISH)
        properties.ResponseTopic, properties.CorrelationData = "plant/mes/7", b"\x00\x07"
        answer = None
        deadline = time.monotonic() + 20
        while answer is None and time.monotonic() < deadline:
            client.publish("plant/agent/cmd/request/ping", b"", 1, properties=properties)
            until = time.monotonic() + 1
            while answer is None and time.monotonic() < until:
                message = heard.get(timeout=10)
                answer = message if message.topic == "plant/mes/7" else None
        client.disconnect()
        client.loop_stop()
    assert answer is not None
    assert answer.properties.CorrelationData == b"\x00\x07"
    assert answer.properties.MessageExpiryInterval <= 60
    assert json.loads(answer.payload)["status"] == "done"


def test_a_retained_command_is_ignored_now_and_at_the_next_start(
    tiny_bundle: Path, broker: Mosquitto, tmp_path: Path
) -> None:
    subscriber = Subscriber(broker.port)
    subscriber.send("plant/agent/cmd/request/ping", {"transaction": "old"}, retain=True)
    with running(load(write_config(tmp_path, tiny_bundle, LINE, mqtt=commanded(broker)))):
        wait_until(lambda: subscriber.results("line"))
        subscriber.send("plant/agent/cmd/request/ping", {"transaction": "new"}, retain=True)
        wait_until(lambda: subscriber.ask("stats")["data"]["commands"]["retained"] == 2)
    assert subscriber.answer("old") is None
    assert subscriber.answer("new") is None
    subscriber.close()


def test_settings_are_changed_and_shown_also_when_refused(
    tiny_bundle: Path, broker: Mosquitto, tmp_path: Path
) -> None:
    """Who set it and was refused hears what is in force."""
    subscriber = Subscriber(broker.port)
    with running(load(write_config(tmp_path, tiny_bundle, LINE, mqtt=commanded(broker)))):

        def shown() -> int:
            return len([t for t, _, _ in list(subscriber.messages) if t.endswith("line/recipe/state")])

        wait_until(lambda: shown() == 1)
        subscriber.send("plant/agent/line/recipe/set", b"other")
        wait_until(lambda: shown() == 2)
        assert subscriber.last("cmd/response/set/recipe")["status"] == "refused"
        assert subscriber.last("line/recipe/state")["value"] == "tiny"
        subscriber.send("plant/agent/line/adaptation/set", b"frozen")
        wait_until(lambda: subscriber.last("line/adaptation/state")["value"] == "frozen")
        wait_until(lambda: (subscriber.last("cmd/response/set/adaptation") or {}).get("status") == "done")
        assert subscriber.ask("reload")["data"]["state"] == "unchanged"
    trail = (tmp_path / "data" / "audit.jsonl").read_text()
    assert '"event":"command:set/adaptation"' in trail
    assert subscriber.invalid == []
    subscriber.close()


def settled(monitor: Subscriber) -> dict[str, Any]:
    """Ask for the counters until a command is obeyed again, as a client does that is told nothing."""
    for attempt in range(40):
        monitor.send("plant/agent/cmd/request/stats", {"transaction": f"after{attempt}"})
        time.sleep(0.5)
        answer = monitor.answer(f"after{attempt}")
        if answer is not None and answer["status"] == "done":
            return dict(answer["data"]["commands"])
    raise AssertionError("no command is obeyed after the flood")


@pytest.mark.slow
def test_a_flood_of_commands_is_counted_and_parts_go_on(
    tiny_bundle: Path, broker: Mosquitto, tmp_path: Path
) -> None:
    """Ten thousand messages as fast as they go: obeyed, refused or counted, each; no result is missed."""
    subscriber = Subscriber(broker.port, "plant/agent/line/result")
    flood = paho.Client(paho.CallbackAPIVersion.VERSION2)
    flood.max_inflight_messages_set(0)
    with running(load(write_config(tmp_path, tiny_bundle, LINE, mqtt=commanded(broker)))):
        wait_until(lambda: len(subscriber.results("line")) > 20)
        before = len(subscriber.results("line"))
        flood.connect("127.0.0.1", broker.port)
        flood.loop_start()
        sent = [flood.publish("plant/agent/line/label", b'{"event_id": "x"}', 1) for _ in range(10_000)]
        wait_until(lambda: all(one.is_published() for one in sent), 60)
        wait_until(lambda: len(subscriber.results("line")) > before + 20, 60)
        flood.disconnect()
        flood.loop_stop()
        monitor = Subscriber(broker.port, "plant/agent/cmd/response/#")
        wait_until(lambda: settled(monitor)["received"] >= 10_000, 60)
        shown = settled(monitor)
    assert shown["received"] <= shown["obeyed"] + shown["refused"] + shown["unanswered"] + 1
    wait_until(lambda: subscriber.results("line")[-1]["seq"] == len(subscriber.results("line")))
    subscriber.close()
    monitor.close()
