"""The agent against brokers of several makes, with a witness on the cable: nothing that OASIS forbids.

The strict reference broker is at hand where PAHO_MQTT_TESTING names a checkout of
eclipse-paho/paho.mqtt.testing, whose interoperability/startbroker.py is run and reports what it found.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from agent.config.loader import load
from agent.mqtt.embedded_broker import embedded_broker
from tests.support.mqtt_peers import Subscriber, answers, free_port, mosquitto, wait_until
from tests.support.mqtt_wire import ALWAYS, FIVE, Cable, Sent, Witness, cable
from tests.support.running_agent import running, write_config

pytestmark = [pytest.mark.broker, pytest.mark.slow]

STATIONS = {
    "line": {"camera": {"kind": "simulated", "fps": 20}, "images": {"last_fail": True}},
    "part": {"camera": {"kind": "simulated", "fps": 20}, "trigger": {"mode": "mqtt"}},
}
_ONLY_5 = {"MQTT-3.2.2-21"}
"""Asked where the broker wants a keep alive of its own; only that run does."""


def go_through_it(folder: Path, bundle: Path, wire: Cable, port: int, protocol: int, **mqtt: Any) -> None:
    """Results, commands right and wrong, labels, triggers, settings, a replay, an outage, a stop."""
    settings = {
        "host": "127.0.0.1",
        "port": wire.port,
        "protocol": protocol,
        "topic_prefix": "plant",
        "reconnect": {"initial_s": 0.1, "max_s": 0.3},
        "stats_interval_s": 1.0,
        "commands": {"allow": ["*"]},
        **mqtt,
    }
    homeassistant = {"enabled": True}
    subscriber = Subscriber(port)
    path = write_config(folder, bundle, STATIONS, mqtt=settings, homeassistant=homeassistant)
    with running(load(path)):
        wait_until(lambda: len(subscriber.results("line")) > 20, 30)
        assert subscriber.ask("ping")["status"] == "done"
        subscriber.send("plant/agent/cmd/request/nonsense", b"\xff\x00")
        subscriber.send(
            "plant/agent/line/label", {"event_id": subscriber.results()[0]["event_id"], "label": "ok"}
        )
        for number in range(10):
            subscriber.send("plant/agent/part/trigger", {"trigger_id": f"t{number}"})
        subscriber.send("plant/agent/line/adaptation/set", b"frozen")
        wait_until(lambda: len(subscriber.results("part")) >= 10)
        subscriber.ask("replay", {"station": "line", "from_seq": 1, "to_seq": 15})
        wait_until(lambda: sum(r["replayed"] for r in subscriber.results("line")) >= 15)
        seen = len(subscriber.results("line"))
        wire.cut()
        wait_until(lambda: len(subscriber.results("line")) > seen + 20, 30)
        subscriber.ask("stats")
    wait_until(lambda: subscriber.last("availability") == "stopped")
    assert subscriber.invalid == []
    subscriber.close()


def judged(wire: Cable, protocol: int) -> None:
    """No violation, and every statement was asked of some packet."""
    assert wire.violations() == []
    assert len(wire.witnesses) >= 2
    assert wire.witnesses[-1].said_goodbye
    wanted = {**ALWAYS, **(FIVE if protocol == 5 else {})}.keys() - _ONLY_5
    checked = wire.checked()
    assert {statement for statement in wanted if not checked[statement]} == set()


@pytest.mark.parametrize("protocol", [311, 5])
def test_against_mosquitto(protocol: int, tiny_bundle: Path, tmp_path: Path) -> None:
    folder = tmp_path / "broker"
    folder.mkdir()
    with (
        mosquitto(folder, "allow_anonymous true\nmax_packet_size 100000\n") as broker,
        cable(broker.port) as wire,
    ):
        go_through_it(tmp_path, tiny_bundle, wire, broker.port, protocol)
        assert {on_sample.version for on_sample in wire.witnesses} == {5 if protocol == 5 else 4}
    judged(wire, protocol)


@pytest.mark.usefixtures("sockets_left_behind")
def test_against_the_embedded_broker(tiny_bundle: Path, tmp_path: Path) -> None:
    with embedded_broker(port := free_port()), cable(port) as wire:
        go_through_it(tmp_path, tiny_bundle, wire, port, 311)
    judged(wire, 311)


def test_a_keep_alive_of_the_broker_counts(tiny_bundle: Path, tmp_path: Path) -> None:
    """We would be silent for minutes; the broker allows ten seconds and is told that we live."""
    folder = tmp_path / "broker"
    folder.mkdir()
    quiet = {"line": {"camera": {"kind": "simulated", "parts": 1}, "trigger": {"mode": "mqtt"}}}
    with mosquitto(folder, "allow_anonymous true\nmax_keepalive 10\n") as broker, cable(broker.port) as wire:
        mqtt = {
            "host": "127.0.0.1", "port": wire.port, "keepalive_s": 60, "stats_interval_s": 600.0,
            "topic_prefix": "plant",
        }  # fmt: skip
        with running(load(write_config(tmp_path, tiny_bundle, quiet, mqtt=mqtt))):
            wait_until(lambda: any(w.packets[12] for w in wire.witnesses), 30)
        assert len(wire.witnesses) == 1
    assert wire.violations() == []
    assert wire.checked()["MQTT-3.2.2-21"] == 1


@pytest.mark.parametrize("protocol", [311, 5])
def test_against_the_strict_reference_broker(protocol: int, tiny_bundle: Path, tmp_path: Path) -> None:
    """It says as an error which statement a client has broken: none."""
    checkout = os.environ.get("PAHO_MQTT_TESTING")
    if checkout is None:
        pytest.skip("PAHO_MQTT_TESTING names no checkout of eclipse-paho/paho.mqtt.testing")
    port, config, told = free_port(), tmp_path / "reference.conf", tmp_path / "reference.log"
    settings = "loglevel debug\nallow_anonymous true\nreceive_maximum 20\nmaximum_packet_size 65536\n"
    config.write_text(f"{settings}listener {port}\n")
    with told.open("wb") as log:
        broker = subprocess.Popen(
            [sys.executable, "startbroker.py", "-c", str(config)],
            cwd=Path(checkout) / "interoperability", stdout=log, stderr=log,
        )  # fmt: skip
        try:
            wait_until(lambda: answers(port), 20)
            with cable(port) as wire:
                go_through_it(tmp_path, tiny_bundle, wire, port, protocol)
            judged(wire, protocol)
        finally:
            time.sleep(1)
            broker.terminate()
            broker.wait(20)
    report = told.read_text(errors="replace").splitlines()
    assert [line for line in report if line.startswith(("ERROR", "CRITICAL", "Traceback"))] == []
    covered = {found for line in report for found in re.findall(r"\[MQTT5?-[0-9.]+-[0-9]+\]", line)}
    assert len(covered) > 10


def packet(kind: int, body: bytes, flags: int = 0) -> Sent:
    return Sent(0.0, True, kind, flags, body, len(body) + 2)


def text(value: bytes) -> bytes:
    return len(value).to_bytes(2, "big") + value


CONNECT_5 = text(b"MQTT") + b"\x05\x02\x00\x14\x00" + text(b"agent")


@pytest.mark.parametrize(
    ("sent", "statement"),
    [
        ([packet(3, text(b"a") + b"\x00")], "MQTT-3.1.0-1"),
        ([packet(1, CONNECT_5), packet(1, CONNECT_5)], "MQTT-3.1.0-2"),
        ([packet(1, CONNECT_5 + b"x")], "MQTT-3.1.3-1"),
        ([packet(1, CONNECT_5.replace(b"agent", b"ag\x00nt"))], "MQTT-1.5.4-2"),
        ([packet(1, CONNECT_5.replace(b"agent", b"ag\xffnt"))], "MQTT-1.5.4-1"),
        ([packet(1, CONNECT_5), packet(3, text(b"a/#") + b"\x00")], "MQTT-3.3.2-2"),
        ([packet(1, CONNECT_5), packet(3, text(b"a") + b"\x00\x00\x00", 2)], "MQTT-2.2.1-3"),
        ([packet(1, CONNECT_5), *[packet(3, text(b"a") + b"\x00\x01\x00", 2)] * 2], "MQTT-2.2.1-3"),
        ([packet(1, CONNECT_5), packet(3, text(b"a") + b"\x00", 8)], "MQTT-3.3.1-2"),
        ([packet(1, CONNECT_5), packet(3, text(b"a") + b"\x02\x01\x01\xff")], "MQTT-3.3.2-6"),
        ([packet(1, CONNECT_5), packet(3, text(b"a") + b"\x05\x11\x00\x00\x00\x01")], "properties"),
        ([packet(1, CONNECT_5), packet(4, b"\x00\x07")], "MQTT-4.3.2-4"),
        ([packet(1, CONNECT_5), packet(8, b"\x00\x01\x00" + text(b"a#") + b"\x01", 2)], "MQTT-4.7.1-1"),
        ([packet(1, CONNECT_5), packet(8, b"\x00\x01\x00", 2)], "MQTT-3.8.3-2"),
        ([packet(1, CONNECT_5), packet(14, b""), packet(12, b"")], "MQTT-3.14.4-1"),
        ([packet(1, CONNECT_5), Sent(30.0, True, 12, 0, b"", 2)], "MQTT-3.1.2-20"),
    ],
)
def test_the_witness_notices(sent: list[Sent], statement: str) -> None:
    """A witness that sees nothing proves nothing."""
    on_sample = Witness()
    for one in sent:
        on_sample.see(one)
    assert statement in {line.partition(":")[0] for line in on_sample.violations}, on_sample.violations


def test_a_good_conversation_is_none_of_its_business() -> None:
    on_sample = Witness()
    for one in (
        packet(1, CONNECT_5),
        packet(8, b"\x00\x01\x00" + text(b"a/+/#") + b"\x01", 2),
        packet(3, text(b"a") + b"\x00\x02\x00x", 2),
        Sent(1.0, False, 4, 0, b"\x00\x02", 4),
        packet(3, text(b"a") + b"\x00\x02\x00x", 2),
        packet(14, b""),
    ):
        on_sample.see(one)
    assert on_sample.violations == []
    assert Counter(on_sample.packets) == Counter({1: 1, 8: 1, 3: 2, 14: 1})
