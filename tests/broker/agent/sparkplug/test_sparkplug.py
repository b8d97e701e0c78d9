"""Sparkplug beyond the ordinary: restarts, hosts that come and go, strangers, floods, and the whole agent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from agent.config.loader import load
from agent.sparkplug.bd_seq import BdSeq
from agent.sparkplug.buffer import CAPACITY, Book
from agent.sparkplug.payload import DataType, Metric, Payload, encode
from tests.support.configs import MINIMAL, problems_in
from tests.support.mqtt_peers import Mosquitto, Subscriber, free_port, mosquitto, wait_until
from tests.support.running_agent import at, running, write_config, write_pictures
from tests.support.sparkplug_peers import GROUP, NODE, Host, Site, Wire, a_feed, read_payload, settled
from tests.support.sparkplug_site import HOST_ID, SPARKPLUG, a_config, by_name, rebirth
from tests.support.sparkplug_spec import shows
from tests.support.verdicts import a_verdict

pytestmark = pytest.mark.broker


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    folder = tmp_path / "broker"
    folder.mkdir()
    with mosquitto(folder) as running:
        yield running


@pytest.fixture
def host(broker: Mosquitto) -> Iterator[Host]:
    listening = Host(broker.port)
    yield listening
    listening.close()


@pytest.fixture
def wire(broker: Mosquitto) -> Iterator[Wire]:
    between = Wire(broker.port)
    yield between
    between.close()


def wills(wire: Wire) -> list[int]:
    """Return the bdSeq of each CONNECT so far."""
    found = [read_payload(p.will["payload"]) for p in wire.packets if p.kind == "CONNECT"]
    return [by_name(payload)["bdSeq"]["value"] for payload in found]


# bdSeq.


@shows("message-flow-edge-node-birth-publish-will-message-payload-bdSeq")
def test_bdseq_goes_on_over_restarts_and_past_255(tmp_path: Path) -> None:
    """One more with each connection, 0 after 255; another edge node starts at 0."""
    numbers = []
    for _ in range(100):
        run = BdSeq(tmp_path, "g/n")
        numbers += [run.next(), run.next(), run.next()]
    assert numbers == [number % 256 for number in range(300)]
    assert BdSeq(tmp_path, "g/other").next() == 0


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b'{"bdSeq": "x", "edge_node": "g/n"}',
        b'{"bdSeq": 1e999, "edge_node": "g/n"}',
        b"\xff\xfe",
    ],
)
def test_a_damaged_file_is_no_reason_not_to_tell(content: bytes, tmp_path: Path) -> None:
    """Numbers start at 0, and the file is good again."""
    (tmp_path / "sparkplug.json").write_bytes(content)
    assert BdSeq(tmp_path, "g/n").next() == 0
    assert BdSeq(tmp_path, "g/n").next() == 1


def test_a_restarted_agent_is_another_birth(
    broker: Mosquitto, host: Host, wire: Wire, tmp_path: Path
) -> None:
    """The second run's births and deaths have the next number."""
    for number in range(2):
        with Site(a_config(tmp_path, wire.port)).running():
            wait_until(lambda want=number + 1: host.count("NBIRTH") == want and len(host.values) == 3)
            assert host.bdseq == number
        wait_until(lambda: host.values == {})
    assert wills(wire) == [0, 1]
    assert host.wrong == []


def test_a_broker_that_never_heard_a_number_hears_it_later(tmp_path: Path) -> None:
    """Only a CONNECT takes a number: to knock at a closed door does not."""
    folder = tmp_path / "broker"
    folder.mkdir()
    port = free_port()
    config = a_config(tmp_path, port)
    site = Site(config)
    with site.running():
        wait_until(lambda: "cannot be reached" in str(site.sparkplug.conditions()))
        broker = Mosquitto(folder, port=port)
        host = None
        broker.start()
        try:
            host = Host(port)
            host.command(rebirth())  # it may have been born before we listened
            wait_until(lambda: host.bdseq == 0)
            wait_until(lambda: site.sparkplug.conditions() == [])
        finally:
            site.stop()
            if host is not None:
                host.close()
            broker.kill()


# The primary host application.


@pytest.mark.parametrize("protocol", [5, 311])
@shows(
    "message-flow-edge-node-birth-publish-phid-wait", "message-flow-edge-node-birth-publish-phid-wait-id",
    "message-flow-edge-node-birth-publish-phid-wait-online",
    "message-flow-edge-node-birth-publish-phid-wait-timestamp",
    "message-flow-edge-node-birth-publish-phid-offline",
    "operational-behavior-edge-node-termination-host-offline",
    "operational-behavior-edge-node-termination-host-offline-reconnect",
    "operational-behavior-edge-node-termination-host-offline-timestamp",
    "operational-behavior-edge-node-birth-sequence-wait",
    "operational-behavior-primary-application-state-with-multiple-servers-state-subs",
)  # fmt: skip
def test_births_wait_for_the_primary_host(
    protocol: int, broker: Mosquitto, host: Host, wire: Wire, tmp_path: Path
) -> None:
    """Nothing is told before the right host says it is there; when it goes the session ends and waits."""
    site = Site(a_config(tmp_path, wire.port, protocol, host_id=HOST_ID))
    with site.running():
        wait_until(lambda: any(p.kind == "SUBSCRIBE" for p in wire.packets))
        (subscribe,) = [p for p in wire.packets if p.kind == "SUBSCRIBE"]
        assert subscribe.filters == {f"spBv1.0/{GROUP}/NCMD/{NODE}": 1, f"spBv1.0/STATE/{HOST_ID}": 1}
        host.state("other", {"online": True, "timestamp": 5000})
        host.state(HOST_ID, {"online": False, "timestamp": 1000})
        host.state(HOST_ID, {"online": True, "timestamp": 999})  # older than what was heard
        for bad in (b"", b"ONLINE", b"[]", {"online": "true", "timestamp": 2000}, {"online": True}, b"\xff"):
            host.state(HOST_ID, bad)
        host.command(rebirth())
        settled(host, 1.0)
        assert host.told == []
        assert site.sparkplug.conditions() == []

        host.state(HOST_ID, {"online": True, "timestamp": 1000, "more": 1})
        wait_until(lambda: host.count("DBIRTH") == 2)
        host.state(HOST_ID, {"online": False, "timestamp": 999})  # an old death
        site.inspect(a_verdict("top", 1))
        wait_until(lambda: host.values["top"]["Result/Part"] == "part-1")
        assert host.count("NDEATH") == 0

        host.state(HOST_ID, {"online": False, "timestamp": 1000})
        wait_until(lambda: sum(p.kind == "CONNECT" for p in wire.packets) == 2)
        wait_until(lambda: [p.kind for p in wire.packets if p.connection == 0][-1] == "DISCONNECT")
        wait_until(lambda: "NDEATH" in host.kinds())
        settled(host, 1.0)
        assert host.count("NBIRTH") == 1
        host.state(HOST_ID, {"online": True, "timestamp": 3000})
        wait_until(lambda: host.count("NBIRTH") == 2 and len(host.values) == 3)
        assert wills(wire) == [0, 1]
    wait_until(lambda: host.values == {})
    assert host.wrong == []


def test_each_connection_hears_anew_whether_the_primary_host_is_there(
    broker: Mosquitto, host: Host, wire: Wire, tmp_path: Path
) -> None:
    """What was true over the last one is not believed over the next."""
    with Site(a_config(tmp_path, wire.port, host_id=HOST_ID)).running():
        host.state(HOST_ID, {"online": True, "timestamp": 1})
        wait_until(lambda: len(host.values) == 3)
        host.state(HOST_ID, b"")  # the broker forgets it
        wire.cut()
        wait_until(lambda: sum(p.kind == "SUBSCRIBE" for p in wire.packets) == 2)
        settled(host, 1.0)
        assert host.values == {}
        assert host.count("NBIRTH") == 1
        host.state(HOST_ID, {"online": True, "timestamp": 1})
        wait_until(lambda: host.count("NBIRTH") == 2 and len(host.values) == 3)
    assert host.wrong == []


# What happened while nobody listened.


def test_results_from_before_a_birth_are_told_as_past(broker: Mosquitto, host: Host, tmp_path: Path) -> None:
    """The newest stands in the birth, the others follow as historical, complete and in order."""
    site = Site(a_config(tmp_path, broker.port, host_id=HOST_ID))
    verdicts = [a_verdict("top", part) for part in range(100)] + [a_verdict("side", 7)]
    with site.running():
        for verdict in verdicts:
            site.inspect(verdict)
        host.state(HOST_ID, {"online": True, "timestamp": 1})
        wait_until(lambda: len(host.past) == 99)
        settled(host)
        assert host.values["top"]["Result/Part"] == "part-99"
        assert host.values["side"]["Result/Part"] == "part-7"
        assert [(station, past["Result/Part"]) for station, past in host.past] == [
            ("top", f"part-{part}") for part in range(99)
        ]
        assert [past["Result/Sequence"] for _, past in host.past] == list(range(1, 100))
        assert [past["Result/Event"] for _, past in host.past] == [v.event_id for v in verdicts[:99]]
        assert host.values[None]["Results/Not reported"] == 0
    assert host.wrong == []


def test_more_than_can_wait_is_counted(broker: Mosquitto, host: Host, tmp_path: Path) -> None:
    """The oldest results go first, and a metric says how many."""
    site = Site(a_config(tmp_path, broker.port, host_id=HOST_ID))
    with site.running():
        for part in range(CAPACITY + 5):
            site.inspect(a_verdict("top", part))
        host.state(HOST_ID, {"online": True, "timestamp": 1})
        wait_until(lambda: len(host.past) == CAPACITY - 1)
        assert host.past[0][1]["Result/Part"] == "part-5"
        assert host.values[None]["Results/Not reported"] == 5
        assert host.values["top"]["Counts/Pass"] == CAPACITY + 5
    assert host.wrong == []


def test_a_book_that_is_full_loses_the_oldest() -> None:
    """What is newest of a station's learning stays, whatever is lost of its results."""
    woken: list[int] = []
    book = Book(lambda: woken.append(1))
    verdicts = [a_verdict("top", part) for part in range(CAPACITY + 3)]
    book.stored(verdicts, {"top": len(verdicts)}.__getitem__)
    for distance in (0.1, 0.2):
        drift = {"distance": distance, "gradual": None, "jump": None, "drifting": False}
        book.learned("top", "drift", drift)
    book.learned("top", "adapter/event", {"event": "promoted"})
    steps = book.take(CAPACITY + 3)
    assert book.lost == 3
    assert [s.readings["Result/Sequence"].value for s in steps if s.result] == list(range(4, CAPACITY + 4))
    (learned,) = [s.readings for s in steps if not s.result]
    assert learned["Drift/Distance"].value == 0.2
    assert len(woken) == 3
    assert book.take(1) == []


# Cameras and stations.


def test_a_station_that_is_removed_dies_and_one_that_is_added_is_born(
    broker: Mosquitto, host: Host, tmp_path: Path
) -> None:
    """Without a birth of the node; a file that has ended stays alive."""
    site = Site(a_config(tmp_path, broker.port), ["top"])
    site.feeds["away"] = a_feed("away", connected=False)
    site.feeds["file"] = a_feed("file", connected=False, ended=True)
    with site.running():
        wait_until(lambda: set(host.values) == {None, "top", "file"})
        site.inspect(a_verdict("away", 1))  # a camera that is offline has nothing to tell
        del site.feeds["top"]
        site.feeds["new"] = a_feed("new")
        wait_until(lambda: set(host.values) == {None, "file", "new"})
        site.inspect(a_verdict("new", 3))
        wait_until(lambda: host.values["new"]["Result/Part"] == "part-3")
        assert host.count("NBIRTH") == 1
        wait_until(lambda: host.values[None]["Results/Not reported"] == 1)
        site.feeds["away"] = a_feed("away")
        wait_until(lambda: host.values.get("away", {}).get("Result/Part") == "part-1")
    assert host.wrong == []


def test_what_is_learned_is_told(broker: Mosquitto, host: Host, tmp_path: Path) -> None:
    """Drift and the version that answers, null before there is any."""
    site = Site(a_config(tmp_path, broker.port), ["top"])
    with site.running():
        wait_until(lambda: "top" in host.values)
        assert host.values["top"]["Drift/Distance"] is None
        drift = {"distance": 0.5, "gradual": 1.25, "jump": 0.0, "drifting": True}
        site.sparkplug.book.learned("top", "drift", drift)
        adapter = {"number": 3, "mode": "adaptive", "phase": "learn"}
        site.sparkplug.book.learned("top", "adapter", adapter)
        wait_until(lambda: host.values["top"]["Adapter/Phase"] == "learn")
        told = host.values["top"]
        assert (told["Drift/Distance"], told["Drift/Drifting"], told["Adapter/Number"]) == (0.5, True, 3)
    assert host.wrong == []


def test_results_of_one_moment_go_in_messages_of_their_own(
    broker: Mosquitto, host: Host, tmp_path: Path
) -> None:
    """Also where the clock was set back: no host gets a metric twice with one time in one message."""
    site = Site(a_config(tmp_path, broker.port, host_id=HOST_ID), ["top"])
    first = a_verdict("top", 0)
    back = replace(a_verdict("top", 2), captured_at=first.captured_at - timedelta(seconds=9))
    with site.running():
        for verdict in (first, replace(a_verdict("top", 1), captured_at=first.captured_at), back):
            site.inspect(verdict)
        site.inspect(a_verdict("top", 3))
        host.state(HOST_ID, {"online": True, "timestamp": 1})
        wait_until(lambda: len(host.past) == 3)
        for told in [told for told in host.told if told.kind == "DDATA"]:
            pairs = [(m["alias"], m["timestamp"]) for m in told.payload["metrics"]]
            assert len(set(pairs)) == len(pairs)
            times = [m["timestamp"] for m in told.payload["metrics"]]
            assert times == sorted(times)
    assert host.wrong == []


# Strangers.


def test_nothing_but_a_rebirth_is_obeyed(broker: Mosquitto, host: Host, tmp_path: Path) -> None:
    """Noise, large payloads, retained requests, unknown metrics, requests with false: the agent goes on."""
    site = Site(a_config(tmp_path, broker.port), ["top"])
    with site.running():
        wait_until(lambda: "top" in host.values)
        alias = next(m["alias"] for m in host.told[0].payload["metrics"] if m["name"] == "bdSeq")
        limit = 16 * 1024
        for content in (
            b"", b"\xff" * 100, os.urandom(300), b"\x12\xff\xff\xff\xff\x0f", rebirth(name="Rebirth"),
            rebirth(value=False), rebirth(value="true", datatype=DataType.STRING),
            rebirth(value=1, datatype=DataType.INT64), rebirth(name=None, alias=alias),
            encode(Payload(1, (Metric(True, "Node Control/Reboot", datatype=DataType.BOOLEAN),))),
            rebirth() + encode(Payload(None, (Metric("x" * limit, "filler", datatype=DataType.STRING),))),
        ):  # fmt: skip
            host.command(content)
        host.command(rebirth(), retain=True)
        host.command(rebirth(), kind="DCMD", tail="/top")
        settled(host)
        assert host.count("NBIRTH") == 1
        host.command(rebirth())
        wait_until(lambda: host.count("NBIRTH") == 2)
        host.command(b"", retain=True)
    assert host.wrong == []


def test_a_retained_request_is_not_obeyed_at_each_connection(
    broker: Mosquitto, host: Host, wire: Wire, tmp_path: Path
) -> None:
    """It would be born twice every time."""
    host.command(rebirth(), retain=True)
    for protocol in (5, 311):
        before = host.count("NBIRTH")
        with Site(a_config(tmp_path, wire.port, protocol), ["top"]).running():
            wait_until(lambda: "top" in host.values)
            settled(host)
            assert host.count("NBIRTH") == before + 1
        wait_until(lambda: host.values == {})


def test_a_flood_of_requests_gives_few_births(broker: Mosquitto, host: Host, tmp_path: Path) -> None:
    """As many as there are seconds, and the data that was held back comes after them."""
    site = Site(a_config(tmp_path, broker.port), ["top"])
    with site.running():
        wait_until(lambda: "top" in host.values)
        for part in range(200):
            host.command(rebirth())
            site.inspect(a_verdict("top", part))
        wait_until(lambda: (host.values.get("top") or {}).get("Result/Part") == "part-199")
        settled(host)
        assert 2 <= host.count("NBIRTH") <= 20
        heard = [past["Result/Sequence"] for _, past in host.past]
        assert heard == sorted(set(heard))
    assert host.wrong == []


def test_a_broker_that_takes_small_packets_only_is_told_of(tmp_path: Path) -> None:
    """Over MQTT 5 it says so; the condition names the message and the remedy."""
    folder = tmp_path / "broker"
    folder.mkdir()
    with mosquitto(folder, "allow_anonymous true\nmax_packet_size 600\n") as broker:
        site = Site(a_config(tmp_path, broker.port))
        with site.running():
            wait_until(lambda: "allow larger packets" in str(site.sparkplug.conditions()))


def test_other_settings_of_the_broker_are_another_session(
    broker: Mosquitto, host: Host, wire: Wire, tmp_path: Path
) -> None:
    """The old one ends with a death; what does not concern the connection leaves it alone."""
    config = a_config(tmp_path, wire.port)
    site = Site(config)
    with site.running():
        wait_until(lambda: len(host.values) == 3)
        site.sparkplug.use(config.mqtt.model_copy(update={"stats_interval_s": 7.0}), None)
        settled(host)
        assert host.count("NDEATH") == 0
        site.sparkplug.use(config.mqtt.model_copy(update={"keepalive_s": 7}), None)
        wait_until(lambda: host.count("NBIRTH") == 2 and len(host.values) == 3)
        assert "NDEATH" in host.kinds()
        assert wills(wire) == [0, 1]
    assert host.wrong == []


# The whole agent.


def test_the_agent_is_an_edge_node(tiny_bundle: Path, broker: Mosquitto, host: Host, tmp_path: Path) -> None:
    """Every result of a station is told, with the numbers that the JSON topics have."""
    pictures = write_pictures(tmp_path / "pictures", 30)
    stations: dict[str, Any] = {
        "folder": {"camera": {"kind": "folder", "path": str(pictures)}},
        "again": {"camera": {"kind": "folder", "path": str(pictures), "loop": True, "fps": 20}},
    }
    subscriber = Subscriber(broker.port, "plant/#")
    told = {"enabled": True, "group_id": GROUP}
    path = write_config(tmp_path, tiny_bundle, stations, mqtt=at(broker), sparkplug=told)
    with running(load(path)) as (daemon, summaries):
        wait_until(lambda: len(subscriber.results("folder")) == 30, 60)
        wait_until(lambda: host.values.get("folder", {}).get("Result/Sequence") == 30)
        wait_until(lambda: (host.values["again"]["Result/Sequence"] or 0) > 10)
        assert host.values[None]["Health/Level"] == "ok"
        daemon.stop()
        wait_until(lambda: bool(summaries), 30)
    wait_until(lambda: host.values == {})
    settled(host)
    results = {(r["station"], r["seq"]): r for r in subscriber.results()}
    subscriber.close()
    assert host.wrong == []
    assert subscriber.invalid == []
    aliases: dict[int, str] = {}
    seen: list[tuple[str, int, str]] = []
    for message in host.told:
        now: dict[str, Any] = {}
        for metric in message.payload["metrics"]:
            if "name" in metric and "alias" in metric:
                aliases[metric["alias"]] = metric["name"]
            name = aliases.get(metric.get("alias", 0), "")
            if name == "Result/Event":
                now["event"] = metric.get("value")
            elif name == "Result/Sequence" and message.device and metric.get("value"):
                seen.append((message.device, metric["value"], now["event"]))
    assert all(results[station, seq]["event_id"] == event for station, seq, event in seen)
    assert sorted(n for s, n, _ in seen if s == "folder") == list(range(1, 31))
    numbers = [n for s, n, _ in seen if s == "again"]
    assert sorted(numbers) == list(range(1, len(numbers) + 1))
    assert len(numbers) > 10


def test_a_killed_agent_is_dead_by_its_will(
    tiny_bundle: Path, broker: Mosquitto, host: Host, tmp_path: Path
) -> None:
    """After kill -9 the broker says the death that the birth belongs to."""
    pictures = write_pictures(tmp_path / "pictures", 10)
    stations = {"top": {"camera": {"kind": "folder", "path": str(pictures), "loop": True, "fps": 20}}}
    told = {"enabled": True, "group_id": GROUP}
    path = write_config(tmp_path, tiny_bundle, stations, mqtt=at(broker), sparkplug=told)
    agent = subprocess.Popen([sys.executable, "-m", "agent", "run", "-c", str(path)])
    try:
        wait_until(lambda: (host.values.get("top") or {}).get("Result/Sequence"), 60)
    finally:
        agent.send_signal(signal.SIGKILL)
        agent.wait(10)
    wait_until(lambda: host.values == {})
    assert host.kinds()[-1] == "NDEATH"
    assert host.wrong == []


def test_without_protobuf_the_agent_says_what_to_install(tiny_bundle: Path, tmp_path: Path) -> None:
    """Exit code 78 and one line; switched off it runs without."""
    pictures = write_pictures(tmp_path / "pictures", 3)
    stations = {"top": {"camera": {"kind": "folder", "path": str(pictures)}}}
    without = (
        "import sys; sys.modules['google.protobuf'] = None; from agent.cli.main import main; sys.exit(main())"
    )
    for enabled, code in ((False, 0), (True, 78)):
        mqtt = {"host": "127.0.0.1", "port": 1, "enabled": enabled}
        folder = tmp_path / str(enabled)  # the config that was good last would stand in for the other
        folder.mkdir()
        path = write_config(folder, tiny_bundle, stations, mqtt=mqtt, sparkplug={"enabled": enabled})
        asked = subprocess.run(
            [sys.executable, "-c", without, "doctor", "-c", str(path)],
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert ("FAIL sparkplug: " in asked.stdout) == enabled
        done = subprocess.run(
            [sys.executable, "-c", without, "run", "-c", str(path)],
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == code, done.stderr
        assert ("pip install 'mekiki[sparkplug]'" in done.stderr) == enabled
        assert "Traceback" not in done.stderr


def test_sparkplug_wants_a_broker(tmp_path: Path) -> None:
    """Without MQTT there is nobody to tell."""
    (problem,) = problems_in(tmp_path, MINIMAL + "mqtt: {enabled: false}\n" + SPARKPLUG)
    assert "sparkplug" in problem
    assert "mqtt.enabled" in problem
