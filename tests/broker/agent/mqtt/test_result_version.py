"""`mqtt.result_version` on the wire: one version at a time, whatever was stored; nothing lost or doubled."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from agent.cli.main import main
from agent.config.loader import load
from agent.config.models_mqtt import MqttSettings
from agent.domain.production import Production
from agent.domain.verdict import Verdict
from agent.mqtt.publisher import Publisher
from agent.store.retention import Retention
from camera.core.settings import Reconnect
from tests.support.mqtt_peers import Mosquitto, Subscriber, check_complete, mosquitto, wait_until
from tests.support.running_agent import at, running, write_config
from tests.support.running_publisher import running as publishing
from tests.support.verdicts import a_publisher, a_store, a_verdict

pytestmark = pytest.mark.broker


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    folder = tmp_path / "broker"
    folder.mkdir()
    with mosquitto(folder) as one:
        yield one


def made(part: int) -> Verdict:
    return replace(a_verdict(part=part), production=Production("A"))


def use(publisher: Publisher, port: int, version: int) -> None:
    quick = Reconnect(initial_s=0.1, max_s=0.3)
    settings = MqttSettings(host="127.0.0.1", port=port, reconnect=quick, result_version=version)
    publisher.use(settings)
    publisher.keep(Retention(keep_results=1000, max_waiting=1000), version)


def test_what_waited_and_what_is_replayed_comes_in_the_version_that_is_set_now(
    tmp_path: Path, broker: Mosquitto
) -> None:
    """Stored as 1, then as 2, with the broker away; sent as 2, and replayed as 1 after the way back."""
    subscriber = Subscriber(broker.port)
    store = a_store(tmp_path / "data")
    store.version = 1
    store.commit([made(part) for part in range(5)])
    store.version = 2
    store.commit([made(part) for part in range(5, 10)])
    with publishing(a_publisher(store, broker.port, result_version=2)) as publisher:
        wait_until(lambda: len(subscriber.results()) == 10)
        first = subscriber.results()
        assert {one["schema"] for one in first} == {"mekiki.result.v2"}
        assert [one["order"] for one in first] == [None] * 5 + ["A"] * 5
        assert [one["seq"] for one in first] == [*range(1, 11)]
        use(publisher, broker.port, 1)
        publisher.put([made(10)])
        wait_until(lambda: len(subscriber.results()) == 11)
        publisher.repeat("top", 1, 11)
        wait_until(lambda: len(subscriber.results()) == 22)
        later = subscriber.results()[10:]
        assert {one["schema"] for one in later} == {"mekiki.result.v1"}
        assert [one["replayed"] for one in later] == [False] + [True] * 11
        assert [one["event_id"] for one in later[1:]] == [one["event_id"] for one in first] + [
            later[0]["event_id"]
        ]
        use(publisher, broker.port, 2)
        publisher.put([made(11)])
        wait_until(lambda: len(subscriber.results()) == 23)
        assert (subscriber.results()[-1]["schema"], subscriber.results()[-1]["order"]) == (
            "mekiki.result.v2", "A",
        )  # fmt: skip
    check_complete([*first, *subscriber.results()[10:]], 12)
    assert subscriber.invalid == []
    subscriber.close()


@pytest.mark.parametrize("version", [1, 2])
def test_a_whole_agent_speaks_the_version_that_is_set_and_changes_it_live(
    tiny_bundle: Path, tmp_path: Path, broker: Mosquitto, version: int
) -> None:
    """From one result to the next, over the same connection; order and lot stand in version 2 alone."""
    subscriber = Subscriber(broker.port)
    lines = {name: {"camera": {"kind": "simulated", "fps": 20}} for name in ("top", "side")}
    mqtt = {**at(broker), "result_version": version, "commands": {"allow": ["*"]}}
    path = write_config(tmp_path, tiny_bundle, lines, mqtt=mqtt, production={"shift": "early"})
    with running(load(path)):
        wait_until(lambda: subscriber.results("top"), 60)
        answer = subscriber.ask("production", {"order": "4711", "station": "top", "user": "mes"})
        assert (answer["status"], answer["data"]["stations"]["top"]["order"]) == ("done", "4711")
        refused = subscriber.ask("production", {"order": "a\nb"})
        assert refused["reason"] == "order: holds U+000A LINE FEED as character 2: remove it"
        wait_until(lambda: subscriber.last("top/production")["order"] == "4711")
        assert subscriber.last("side/production")["order"] is None
        assert main(["production", "set", "-c", str(path), "-s", "top", "--lot", "L9"]) == 0
        wait_until(lambda: subscriber.last("top/production")["lot"] == "L9")
        if version == 2:  # what is shown at once may be ahead of the next result
            wait_until(lambda: subscriber.results("top")[-1]["lot"] == "L9")
        other = 3 - version
        written = yaml.safe_load(path.read_text())
        written["mqtt"]["result_version"] = other
        path.write_text(yaml.safe_dump(written))
        wait_until(lambda: subscriber.results("top")[-1]["schema"] == f"mekiki.result.v{other}", 60)
        seen = len(subscriber.results("top"))
        wait_until(lambda: len(subscriber.results("top")) > seen + 3)
    found = subscriber.results("top")
    assert {one["schema"] for one in found} == {"mekiki.result.v1", "mekiki.result.v2"}
    assert [one["schema"] for one in found] == sorted((one["schema"] for one in found), reverse=version == 2)
    assert all(("order" in one) == (one["schema"] == "mekiki.result.v2") for one in found)
    second = [one for one in found if one["schema"] == "mekiki.result.v2"]
    assert {(one["order"], one["lot"]) for one in second} >= {("4711", "L9")}
    assert {one["shift"] for one in second if one["order"]} == {"early"}
    assert {one["order"] for one in subscriber.results("side") if "order" in one} <= {None}
    assert {one["replayed"] for one in found} == {False}
    said = [payload for topic, payload, _ in subscriber.messages if topic.endswith("/availability")]
    assert said.count(b"online") == 1
    check_complete(found, len(found))
    assert subscriber.invalid == []
    subscriber.close()
