"""The agent as a device of Home Assistant: what is described is really published, and goes when it goes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jinja2
import pytest

from agent.config.loader import Loaded, load
from agent.homeassistant.announcer import Announcer
from agent.homeassistant.description import discovery, discovery_topic
from agent.mqtt.retained_topics import RetainedTopics
from tests.support.mqtt_peers import Mosquitto, Subscriber, mosquitto, wait_until
from tests.support.running_agent import at, running, write_config

ON = {"enabled": True, "discovery_prefix": "ha"}
LINE = {"camera": {"kind": "simulated", "fps": 30}, "images": {"last_fail": True}}
FAILS = {
    "templates": ["a photo of {}"],
    "classes": {
        "one": {"verdict": "fail", "phrases": ["a part"]},
        "two": {"verdict": "fail", "phrases": ["a thing"]},
    },
}

# https://www.home-assistant.io/integrations/: what each platform must have, and what of it we may use.
COMMON = {"platform", "name", "unique_id", "entity_category", "json_attributes_topic"}
READS = COMMON | {"state_topic", "value_template"}
MAY = {
    "sensor": READS | {"device_class", "options", "state_class", "unit_of_measurement"},
    "binary_sensor": READS | {"device_class"},
    "switch": READS | {"command_topic"},
    "select": READS | {"command_topic", "options"},
    "image": COMMON | {"image_topic", "content_type"},
}
MUST = {
    "sensor": {"state_topic"},
    "binary_sensor": {"state_topic"},
    "switch": {"command_topic"},
    "select": {"command_topic", "options"},
    "image": {"image_topic"},
}


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    folder = tmp_path / "broker"
    folder.mkdir()
    with mosquitto(folder) as one:
        yield one


def site(folder: Path, bundle: Path, stations: dict[str, Any], mqtt: dict[str, Any], **more: Any) -> Loaded:
    sections = {"homeassistant": ON, "recipes": {"tiny": FAILS}, **more}
    return load(write_config(folder, bundle, stations, mqtt=mqtt, **sections))


def described(subscriber: Subscriber) -> list[dict[str, Any] | None]:
    found = [p for t, p, _ in list(subscriber.messages) if t.startswith("ha/device/")]
    return [json.loads(p) if p else None for p in found]


def rendered(template: str, payload: bytes) -> str:
    """Render as Home Assistant does; a field that is not there is an error here."""
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, autoescape=False)
    text = payload.decode()
    value = json.loads(text) if text.startswith("{") else None
    return environment.from_string(template).render(value=text, value_json=value)


@pytest.mark.broker
def test_everything_that_is_described_is_published_and_can_be_set(
    tiny_bundle: Path, broker: Mosquitto, tmp_path: Path
) -> None:
    """Topics, fields, values and options; a switch and a select do what they say."""
    mqtt = {**at(broker), "commands": {"allow": ["set/*"]}}
    stations = {"line": LINE, "side": {"camera": {"kind": "simulated", "fps": 5}}}
    subscriber = Subscriber(broker.port)
    with running(site(tmp_path, tiny_bundle, stations, mqtt)):
        wait_until(lambda: described(subscriber))
        device = described(subscriber)[0]
        assert device is not None
        shown = {topic: payload for topic, payload, _ in list(subscriber.messages)}
        parts = device["components"]
        topics = {
            v for part in parts.values() for k, v in part.items() if k in ("state_topic", "image_topic")
        }

        def there() -> bool:
            shown.update({topic: payload for topic, payload, _ in list(subscriber.messages)})
            return {*topics, device["availability_topic"]} <= shown.keys()

        wait_until(there, 30)
        assert rendered(device["availability_template"], shown[device["availability_topic"]]) == "online"
        for word in (b"stopped", b"offline"):
            assert rendered(device["availability_template"], word) == "offline"
        for part in parts.values():
            kind = part["platform"]
            assert MUST[kind] <= part.keys() <= MAY[kind], part
            if kind == "image":
                assert shown[part["image_topic"]].startswith(b"\xff\xd8")
                continue
            value = rendered(part["value_template"], shown[part["state_topic"]])
            if "options" in part:
                assert value in part["options"], part
            if kind in ("binary_sensor", "switch"):
                assert value in ("ON", "OFF")
            if part.get("state_class"):
                assert value == "None" or float(value) >= 0
        assert len({part["unique_id"] for part in parts.values()}) == len(parts)

        select, switch = parts["line_recipe"], parts["side_enabled"]
        assert "line" in select["options"]
        subscriber.send(select["command_topic"], b"line")
        wait_until(lambda: subscriber.last("line/recipe/state")["value"] == "line")
        subscriber.send(switch["command_topic"], b"OFF")
        wait_until(lambda: subscriber.last("side/enabled/state")["value"] is False)

        before = len(described(subscriber))
        subscriber.send("ha/status", b"online")
        wait_until(lambda: len(described(subscriber)) > before)
    assert subscriber.invalid == []
    subscriber.close()


@pytest.mark.broker
def test_what_is_turned_off_goes_from_home_assistant_also_after_a_restart(
    tiny_bundle: Path, broker: Mosquitto, tmp_path: Path
) -> None:
    """A station that is gone leaves its platform alone behind; discovery that is off, an empty message."""
    subscriber = Subscriber(broker.port)
    with running(site(tmp_path, tiny_bundle, {"line": LINE, "side": LINE}, at(broker))):
        wait_until(lambda: described(subscriber))
    with running(site(tmp_path, tiny_bundle, {"line": LINE}, at(broker))):
        wait_until(lambda: described(subscriber)[-1]["components"]["side_verdict"] == {"platform": "sensor"})
        device = described(subscriber)[-1]
        assert device is not None
        assert "unique_id" in device["components"]["line_verdict"]
    with running(site(tmp_path, tiny_bundle, {"line": LINE}, at(broker), homeassistant={"enabled": False})):
        wait_until(lambda: described(subscriber)[-1] is None)
    subscriber.close()
    late = Subscriber(broker.port, "ha/#")
    late.send("ha/end", b"x")
    wait_until(lambda: late.messages)
    assert [topic for topic, _, _ in late.messages] == ["ha/end"]
    late.close()


def test_what_may_not_be_set_is_only_shown(tiny_bundle: Path, tmp_path: Path) -> None:
    """By default nothing can be set over MQTT: no switch that does nothing."""
    config = site(tmp_path, tiny_bundle, {"line": LINE}, {"host": "127.0.0.1"}).config
    found = discovery(config, "m", {})
    assert {part["platform"] for part in found["components"].values()} == {"sensor", "binary_sensor", "image"}
    assert not [part for part in found["components"].values() if "command_topic" in part]


def test_ids_are_what_home_assistant_takes(tiny_bundle: Path, tmp_path: Path) -> None:
    for agent in ("line-1", "Linie.ä", "目利き"):
        config = site(
            tmp_path, tiny_bundle, {"line": LINE}, {"host": "x"}, agent={"id": agent, "data_dir": "data"}
        ).config
        assert re.fullmatch(r"ha/device/[a-zA-Z0-9_-]+/config", discovery_topic(config))


def test_nothing_is_said_where_nothing_ever_was(tiny_bundle: Path, tmp_path: Path) -> None:
    config = site(
        tmp_path, tiny_bundle, {"line": LINE}, {"host": "x"}, homeassistant={"enabled": False}
    ).config
    retained = RetainedTopics(lambda station: station)
    Announcer(tmp_path, retained, "m").show(config)
    assert retained.take() == []
    (tmp_path / "homeassistant.json").write_text("{broken")
    Announcer(tmp_path, retained, "m").show(config)
    assert retained.take() == []
