"""Sparkplug 3.0.0, assertion by assertion, on what goes over the wire in one long session."""

from __future__ import annotations

import importlib
import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.sparkplug.metrics import DEVICE as DEVICE_METRICS
from agent.sparkplug.metrics import NODE as NODE_METRICS
from agent.sparkplug.metrics import NodeNow
from tests.support.configs import MINIMAL, load_text, problems_in
from tests.support.mqtt_peers import Mosquitto, mosquitto, wait_until
from tests.support.places import ROOT
from tests.support.sparkplug_peers import (
    FIELD_OF,
    GROUP,
    NODE,
    Host,
    Packet,
    Site,
    Wire,
    a_feed,
    read_payload,
    settled,
)
from tests.support.sparkplug_site import SPARKPLUG, a_config, by_name, rebirth
from tests.support.sparkplug_spec import ALL_IDS, SHOWN, shows
from tests.support.verdicts import a_verdict

pytestmark = pytest.mark.broker


class Run:
    """A session from its first connection to its orderly end, as the wire and a host saw it."""

    def __init__(self, folder: Path, broker: Mosquitto, protocol: int) -> None:
        self.protocol = protocol
        self.began_ms = time.time() * 1000
        self.wire, self.host = Wire(broker.port), Host(broker.port)
        try:
            site = Site(a_config(folder, self.wire.port, protocol))
            with site.running():
                self._script(site)
            wait_until(lambda: self.host.kinds()[-1] == "NDEATH")
            settled(self.host)
        finally:
            self.host.close()
            self.wire.close()
        self.ended_ms = time.time() * 1000
        self.packets = self.wire.packets

    def _script(self, site: Site) -> None:
        host = self.host
        wait_until(lambda: host.count("DBIRTH") == 2)
        for part in range(3):
            site.inspect(a_verdict("top", part))
        site.inspect(a_verdict("side", 9))
        wait_until(
            lambda: host.values["top"]["Result/Part"] == "part-2" and host.values["side"]["Result/Part"]
        )
        site.now = NodeNow("tiny", "sha256:2", "degraded", 1)
        wait_until(lambda: host.values[None]["Health/Conditions"] == 1)
        site.feeds["top"] = a_feed("top", connected=False)
        wait_until(lambda: host.count("DDEATH") == 1)
        site.feeds["top"] = a_feed("top", reconnects=1)
        wait_until(lambda: host.count("DBIRTH") == 3)
        for part in range(270):  # past the end of the sequence numbers
            site.inspect(a_verdict("top", 1000 + part))
            wait_until(lambda want=f"part-{1000 + part}": host.values["top"]["Result/Part"] == want)
        settled(host)
        self.before_rebirth = len(host.told)
        host.command(rebirth())
        wait_until(lambda: host.count("NBIRTH") == 2 and len(host.values) == 3)
        site.inspect(a_verdict("side", 10))
        wait_until(lambda: host.values["side"]["Result/Part"] == "part-10")
        self.wire.cut()
        wait_until(lambda: host.count("NBIRTH") == 3 and len(host.values) == 3)
        site.inspect(a_verdict("side", 11))
        wait_until(lambda: host.values["side"]["Result/Part"] == "part-11")

    def sent(self, *kinds: str) -> list[tuple[Packet, dict[str, Any]]]:
        """Return what the agent published, of these kinds or all, with payloads; in order."""
        found = [p for p in self.packets if p.kind == "PUBLISH"]
        return [(p, read_payload(p.payload)) for p in found if not kinds or kind_of(p) in kinds]

    def connections(self) -> list[list[Packet]]:
        numbers = sorted({p.connection for p in self.packets})
        return [[p for p in self.packets if p.connection == number] for number in numbers]


def kind_of(packet: Packet) -> str:
    return str(packet.topic.split("/")[2])


@pytest.fixture(scope="module", params=[5, 311])
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    folder = tmp_path_factory.mktemp(f"mqtt-{request.param}")
    with mosquitto(folder) as broker:
        yield Run(folder, broker, request.param)


def test_a_strict_host_understands_everything(run: Run) -> None:
    """A host that takes no alias, no number and no value on trust finds nothing wrong from birth to death."""
    assert run.host.wrong == []
    assert run.host.count("DDATA") > 270
    assert run.host.values == {}
    assert len(run.connections()) == 2


# Topics and ids.


@shows(
    "topic-structure", "topic-structure-namespace-a",
    "topic-structure-namespace-device-id-associated-message-types",
    "topic-structure-namespace-device-id-non-associated-message-types",
    "topics-nbirth-topic", "topics-ndata-topic", "topics-dbirth-topic", "topics-ddata-topic",
    "topics-ddeath-topic", "topics-ndeath-topic",
    "message-flow-edge-node-birth-publish-nbirth-topic", "message-flow-device-birth-publish-dbirth-topic",
    "message-flow-device-birth-publish-dbirth-match-edge-node-topic",
    "intro-group-id-string", "intro-edge-node-id-string", "intro-device-id-string",
)  # fmt: skip
def test_topics_are_of_the_form(run: Run) -> None:
    """Node messages go to four levels, device messages to five; the ids are the configured ones."""
    own = {f"spBv1.0/{GROUP}/{kind}/{NODE}" for kind in ("NBIRTH", "NDATA", "NDEATH")}
    kinds = ("DBIRTH", "DDATA", "DDEATH")
    theirs = {f"spBv1.0/{GROUP}/{kind}/{NODE}/{station}" for kind in kinds for station in ("top", "side")}
    theirs.remove(f"spBv1.0/{GROUP}/DDEATH/{NODE}/side")
    assert {p.topic for p, _ in run.sent()} == own | theirs


@shows(
    "intro-group-id-chars", "intro-edge-node-id-chars", "intro-device-id-chars",
    "topic-structure-namespace-valid-group-id", "topic-structure-namespace-valid-edge-node-id",
    "topic-structure-namespace-valid-device-id",
)  # fmt: skip
@pytest.mark.parametrize("bad", ["a+b", "a/b", "#", "", "STATE", "new\nline"])
def test_ids_that_no_topic_can_hold_are_refused(bad: str, tmp_path: Path) -> None:
    """Neither group, edge node, host nor station may be called so."""
    for key in ("group_id", "edge_node_id", "host_id"):
        (problem,) = problems_in(tmp_path, MINIMAL + f"sparkplug: {{{key}: {json.dumps(bad)}}}\n")
        assert f"sparkplug.{key}" in problem
    if bad != "STATE":  # a device may be called so
        assert problems_in(tmp_path, MINIMAL.replace("  top:", f"  {json.dumps(bad)}:"))


@shows("topic-structure-namespace-unique-device-id", "case-sensitivity-sparkplug-ids")
def test_no_two_stations_are_called_alike(tmp_path: Path) -> None:
    """Equal names are no config at all; names that differ in capitals are refused once hosts are told."""
    twice = MINIMAL + MINIMAL[MINIMAL.index("  top:") :]
    assert problems_in(tmp_path, twice)
    alike = MINIMAL + MINIMAL[MINIMAL.index("  top:") :].replace("top", "Top")
    load_text(tmp_path, alike)
    (problem,) = problems_in(tmp_path, alike + SPARKPLUG)
    assert "sparkplug" in problem
    assert "top" in problem


@shows("case-sensitivity-metric-names")
def test_no_two_metrics_are_called_alike() -> None:
    """Not even where a host does not tell capitals."""
    for names in ([*NODE_METRICS, "bdSeq", "Node Control/Rebirth"], [*DEVICE_METRICS]):
        assert len({name.lower() for name in names}) == len(names)


# The connection.


@shows(
    "principles-persistence-clean-session-311", "principles-persistence-clean-session-50",
)  # fmt: skip
def test_the_broker_keeps_no_session(run: Run) -> None:
    """Each CONNECT is clean, and MQTT 5 keeps nothing after it: no Session Expiry Interval is 0."""
    connects = [p for p in run.packets if p.kind == "CONNECT"]
    assert len(connects) == 2
    for packet in connects:
        assert packet.level == (5 if run.protocol == 5 else 4)
        assert packet.clean
        assert 0x11 not in packet.properties[::5]  # a Maximum Packet Size, 5 bytes, is all that is there
        assert len(packet.properties) == (5 if run.protocol == 5 else 0)


@shows(
    "message-flow-edge-node-birth-publish-will-message",
    "message-flow-edge-node-birth-publish-will-message-topic",
    "message-flow-edge-node-birth-publish-will-message-payload",
    "message-flow-edge-node-birth-publish-will-message-qos",
    "message-flow-edge-node-birth-publish-will-message-will-retained",
    "payloads-ndeath-will-message", "payloads-ndeath-will-message-qos", "payloads-ndeath-will-message-retain",
    "payloads-ndeath-seq", "topics-ndeath-seq", "topics-ndeath-payload",
)  # fmt: skip
def test_the_will_is_the_death(run: Run) -> None:
    """QoS 1, not retained, one metric and no sequence number: the will, and the death that is published."""
    wills = [p.will for p in run.packets if p.kind == "CONNECT"]
    deaths = [{**p.body, "properties": b""} for p, _ in run.sent("NDEATH")]
    assert len(wills) == 2
    assert len(deaths) == 1
    for death in [*wills, *deaths]:
        assert (death["topic"], death["qos"], death["retain"]) == (f"spBv1.0/{GROUP}/NDEATH/{NODE}", 1, False)
        payload = read_payload(death["payload"])
        assert "seq" not in payload
        (metric,) = payload["metrics"]
        assert (metric["name"], metric["datatype"], metric["field"]) == ("bdSeq", 4, "long")
        assert death["properties"] == b""  # above all no delay


@shows("message-flow-edge-node-ncmd-subscribe")
def test_each_connection_listens_before_it_is_born(run: Run) -> None:
    """NCMD at QoS 1, and nothing else: nothing of a device can be written."""
    for packets in run.connections():
        kinds = [p.kind for p in packets]
        assert kinds.index("SUBSCRIBE") < kinds.index("PUBLISH")
        (subscribe,) = [p for p in packets if p.kind == "SUBSCRIBE"]
        assert subscribe.filters == {f"spBv1.0/{GROUP}/NCMD/{NODE}": 1}


@shows(
    "topics-nbirth-bdseq-included", "topics-nbirth-bdseq-matching", "topics-nbirth-bdseq-increment",
    "payloads-nbirth-bdseq", "payloads-nbirth-bdseq-repeat", "payloads-ndeath-bdseq",
    "message-flow-edge-node-birth-publish-nbirth-payload-bdSeq",
    "operational-behavior-data-commands-rebirth-action-3",
)  # fmt: skip
def test_births_and_deaths_of_a_connection_have_its_number(run: Run) -> None:
    """0 first, one more with each CONNECT; a rebirth repeats it."""
    for number, packets in enumerate(run.connections()):
        (connect,) = [p for p in packets if p.kind == "CONNECT"]
        own = [read_payload(connect.will["payload"])]
        own += [
            read_payload(p.payload)
            for p in packets
            if p.kind == "PUBLISH" and kind_of(p) in ("NBIRTH", "NDEATH")
        ]
        assert [by_name(p)["bdSeq"]["value"] for p in own] == [number] * len(own)
        assert {by_name(p)["bdSeq"]["datatype"] for p in own} == {4}
    births = [p.connection for p, _ in run.sent("NBIRTH")]
    assert births == [0, 0, 1]


@shows(
    "operational-behavior-edge-node-intentional-disconnect-ndeath",
    "operational-behavior-edge-node-intentional-disconnect-packet",
    "payloads-ndeath-will-message-publisher", "payloads-ndeath-will-message-publisher-disconnect-mqtt311",
    "payloads-ndeath-will-message-publisher-disconnect-mqtt50",
)  # fmt: skip
def test_an_orderly_end_says_so(run: Run) -> None:
    """Death, then DISCONNECT; over MQTT 5 with the reason that lets the broker publish the will too."""
    last = [p for p in run.connections()[-1] if p.kind in ("PUBLISH", "DISCONNECT")][-2:]
    assert [p.kind for p in last] == ["PUBLISH", "DISCONNECT"]
    assert kind_of(last[0]) == "NDEATH"
    assert last[1].reason == (0x04 if run.protocol == 5 else 0)
    assert run.host.count("NDEATH") == (3 if run.protocol == 5 else 2)  # one of them of the cut connection


# Births.


@shows(
    "principles-birth-certificates-order", "message-flow-edge-node-birth-publish-connect",
    "message-flow-device-birth-publish-nbirth-wait", "payloads-dbirth-order", "payloads-ndata-order",
    "payloads-ddata-order",
)  # fmt: skip
def test_births_come_first(run: Run) -> None:
    """In each connection, and at a rebirth: the node, then all devices, then data."""
    for packets in run.connections():
        kinds = [p.kind if p.kind != "PUBLISH" else kind_of(p) for p in packets]
        published = [kind for kind in kinds if kind[0] in "ND"]
        assert kinds[0] == "CONNECT"
        assert published[:3] == ["NBIRTH", "DBIRTH", "DBIRTH"]
        for at, kind in enumerate(published):
            if kind == "NBIRTH":
                assert published[at + 1 : at + 3] == ["DBIRTH", "DBIRTH"]


@shows(
    "topics-nbirth-mqtt", "payloads-nbirth-qos", "payloads-nbirth-retain",
    "message-flow-edge-node-birth-publish-nbirth-qos", "message-flow-edge-node-birth-publish-nbirth-retained",
    "topics-dbirth-mqtt", "payloads-dbirth-qos", "payloads-dbirth-retain",
    "message-flow-device-birth-publish-dbirth-qos", "message-flow-device-birth-publish-dbirth-retained",
    "topics-ndata-mqtt", "payloads-ndata-qos", "payloads-ndata-retain",
    "topics-ddata-mqtt", "payloads-ddata-qos", "payloads-ddata-retain", "topics-ddeath-mqtt",
)  # fmt: skip
def test_all_but_deaths_of_the_node_go_once_and_do_not_stay(run: Run) -> None:
    """QoS 0, not retained."""
    seen = {(kind_of(p), p.qos, p.retain) for p, _ in run.sent()}
    kinds = {"NBIRTH", "DBIRTH", "NDATA", "DDATA", "DDEATH"}
    assert seen == {(kind, 0, False) for kind in kinds} | {("NDEATH", 1, False)}


@shows(
    "topics-nbirth-seq-num", "payloads-nbirth-seq", "payloads-sequence-num-req-nbirth",
    "message-flow-edge-node-birth-publish-nbirth-payload-seq",
    "topics-ndata-seq-num", "payloads-ndata-seq", "payloads-ndata-seq-inc",
    "topics-dbirth-seq", "payloads-dbirth-seq", "payloads-dbirth-seq-inc",
    "message-flow-device-birth-publish-dbirth-payload-seq",
    "topics-ddata-seq-num", "payloads-ddata-seq", "payloads-ddata-seq-inc",
    "topics-ddeath-seq-num", "payloads-ddeath-seq", "payloads-ddeath-seq-inc", "payloads-ddeath-seq-number",
    "payloads-sequence-num-always-included", "payloads-sequence-num-incrementing",
)  # fmt: skip
def test_sequence_numbers_count_to_255_and_start_again(run: Run) -> None:
    """Birth is 0, whatever comes next is one more, and 0 follows on 255."""
    expected, wrapped = 0, 0
    for packet, payload in run.sent():
        kind = kind_of(packet)
        if kind == "NDEATH":
            assert "seq" not in payload
            continue
        if kind == "NBIRTH":
            expected = 0
        assert payload["seq"] == expected, kind
        wrapped += expected == 255
        expected = (expected + 1) % 256
    assert wrapped >= 1


@shows(
    "topics-nbirth-timestamp", "payloads-nbirth-timestamp", "topics-dbirth-timestamp",
    "payloads-dbirth-timestamp", "topics-ndata-timestamp", "payloads-ndata-timestamp",
    "topics-ddata-timestamp", "payloads-ddata-timestamp", "payloads-ddeath-timestamp",
    "payloads-timestamp-in-UTC", "payloads-metric-timestamp-in-UTC", "payloads-name-birth-data-requirement",
)  # fmt: skip
def test_messages_and_metrics_say_when(run: Run) -> None:
    """In milliseconds since 1970, UTC: all of it between the beginning and the end of this test."""
    for _, payload in run.sent():
        times = [payload["timestamp"], *(metric["timestamp"] for metric in payload["metrics"])]
        assert all(run.began_ms - 1000 <= at <= run.ended_ms + 1000 for at in times)


@shows(
    "topics-nbirth-metric-reqs", "operational-behavior-data-publish-nbirth",
    "topics-dbirth-metric-reqs", "operational-behavior-data-publish-dbirth",
)  # fmt: skip
def test_births_hold_all_metrics_there_will_be(run: Run) -> None:
    """Every alias in data is one of the birth before it, and the births hold what the documentation lists."""
    for _, payload in run.sent("NBIRTH"):
        assert set(by_name(payload)) == {*NODE_METRICS, "bdSeq", "Node Control/Rebirth"}
    for _, payload in run.sent("DBIRTH"):
        assert set(by_name(payload)) == set(DEVICE_METRICS)
    born: dict[str, set[int]] = {}
    for packet, payload in run.sent():
        who = packet.topic.split("/", 3)[3]
        aliases = {metric["alias"] for metric in payload["metrics"] if "alias" in metric}
        if kind_of(packet).endswith("BIRTH"):
            born[who] = aliases
        elif kind_of(packet).endswith("DATA"):
            assert aliases <= born[who]


@shows(
    "topics-nbirth-metrics", "topics-dbirth-metrics", "payloads-metric-datatype-req",
    "payloads-metric-datatype-value-type", "payloads-metric-datatype-value", "payloads-name-requirement",
    "operational-behavior-data-publish-nbirth-values", "operational-behavior-data-publish-dbirth-values",
    "message-flow-edge-node-birth-publish-nbirth-payload", "message-flow-device-birth-publish-dbirth-payload",
)  # fmt: skip
def test_each_metric_of_a_birth_is_whole(run: Run) -> None:
    """Name, datatype and the present value in the field of that type; or null, and then no value."""
    nulls = 0
    for _, payload in run.sent("NBIRTH", "DBIRTH"):
        for metric in payload["metrics"]:
            assert metric["name"]
            assert metric["datatype"] in FIELD_OF
            if metric.get("is_null"):
                assert "value" not in metric
                nulls += 1
            else:
                assert metric["field"] == FIELD_OF[metric["datatype"]]
    assert nulls > 0
    newest = by_name([payload for p, payload in run.sent("DBIRTH") if p.topic.endswith("/top")][-1])
    assert newest["Result/Part"]["value"] == "part-1269"
    assert newest["Counts/Pass"]["value"] == 273
    assert newest["Result/Sequence"]["value"] == 273
    node = by_name(run.sent("NBIRTH")[-1][1])
    assert (node["Health/Level"]["value"], node["Properties/Config"]["value"]) == ("degraded", "sha256:2")


@shows(
    "topics-nbirth-rebirth-metric", "payloads-nbirth-rebirth-req",
    "operational-behavior-data-commands-rebirth-name",
    "operational-behavior-data-commands-rebirth-name-aliases",
    "operational-behavior-data-commands-rebirth-datatype", "operational-behavior-data-commands-rebirth-value",
)  # fmt: skip
def test_a_host_can_see_how_to_ask_for_a_rebirth(run: Run) -> None:
    """Boolean, false, without an alias: who has lost the aliases can ask."""
    for _, payload in run.sent("NBIRTH"):
        metric = by_name(payload)["Node Control/Rebirth"]
        assert (metric["datatype"], metric["field"], metric["value"]) == (11, "boolean", False)
        assert "alias" not in metric


@shows("payloads-alias-uniqueness", "payloads-alias-birth-requirement")
def test_aliases_stand_for_one_metric_of_the_whole_node(run: Run) -> None:
    """From birth to birth, too; all have one but the metric that may not have one."""
    known: dict[int, tuple[str, str]] = {}
    for packet, payload in run.sent("NBIRTH", "DBIRTH"):
        for metric in payload["metrics"]:
            assert ("alias" in metric) == (metric["name"] != "Node Control/Rebirth")
            if "alias" in metric:
                whose = (packet.topic.split("/", 3)[3], metric["name"])
                assert known.setdefault(metric["alias"], whose) == whose
    assert len(known) == len(NODE_METRICS) + 1 + 2 * len(DEVICE_METRICS)


# Data.


@shows("payloads-alias-data-cmd-requirement", "payloads-metric-datatype-not-req")
def test_data_says_what_birth_has_said_by_alias_alone(run: Run) -> None:
    """No name, no datatype."""
    for _, payload in run.sent("NDATA", "DDATA"):
        assert payload["metrics"]
        for metric in payload["metrics"]:
            assert "alias" in metric
            assert not {"name", "datatype"} & metric.keys()


@shows(
    "principles-rbe-recommended", "topics-ndata-payload", "topics-ddata-payload",
    "operational-behavior-data-publish-nbirth-change", "operational-behavior-data-publish-dbirth-change",
)  # fmt: skip
def test_data_holds_what_has_changed(run: Run) -> None:
    """All of that, and nothing else."""
    now: dict[tuple[str, int], Any] = {}
    parts = []
    for packet, payload in run.sent():
        who, kind = packet.topic.split("/", 3)[3], kind_of(packet)
        for metric in payload["metrics"]:
            if "alias" not in metric:
                continue
            key = (who, metric["alias"])
            if kind.endswith("DATA"):
                assert now[key] != metric.get("value")
            now[key] = metric.get("value")
            if kind == "DDATA" and str(metric.get("value")).startswith("part-"):
                parts.append(metric["value"])
    many = [f"part-{number}" for number in range(1000, 1270)]
    assert parts == ["part-0", "part-1", "part-2", "part-9", *many, "part-10", "part-11"]


@shows("operational-behavior-data-publish-nbirth-order", "operational-behavior-data-publish-dbirth-order")
def test_what_was_earlier_stands_earlier(run: Run) -> None:
    """In every payload; and a metric that comes twice in one comes with different times."""
    for packet, payload in run.sent():
        times = [metric["timestamp"] for metric in payload["metrics"]]
        assert times == sorted(times)
        if kind_of(packet).endswith("DATA"):
            pairs = [(metric["alias"], metric["timestamp"]) for metric in payload["metrics"]]
            assert len(set(pairs)) == len(pairs)


@shows("operational-behavior-device-ddeath")
def test_a_lost_camera_is_a_dead_device(run: Run) -> None:
    """Its data ends with its death, and begins again with its birth."""
    of_top = [kind_of(p) for p, _ in run.sent() if p.topic.endswith("/top")]
    at = of_top.index("DDEATH")
    assert set(of_top[:at]) == {"DBIRTH", "DDATA"}
    assert of_top[at + 1] == "DBIRTH"


@shows(
    "operational-behavior-data-commands-rebirth-action-1",
    "operational-behavior-data-commands-rebirth-action-2",
)
def test_a_rebirth_is_a_whole_birth(run: Run) -> None:
    """After the request nothing comes before the births of the node and of all devices."""
    assert [told.kind for told in run.host.told[run.before_rebirth :]][:3] == ["NBIRTH", "DBIRTH", "DBIRTH"]
    births = [payload for _, payload in run.sent("NBIRTH")]
    assert {name: m.get("alias") for name, m in by_name(births[0]).items()} == {
        name: m.get("alias") for name, m in by_name(births[1]).items()
    }


# The documentation.

DOCS = ROOT / "docs" / "sparkplug.md"


def test_the_documentation_names_the_test_of_every_assertion() -> None:
    """Each assertion of the specification is there once: with the tests that show it, or with a reason."""
    for module in ("broker.agent.sparkplug.test_sparkplug", "system.agent.sparkplug.test_sparkplug_payload"):
        importlib.import_module(f"tests.{module}")  # their tests show some as well
    shown: dict[str, list[str]] = {}
    excused: dict[str, str] = {}
    for row in DOCS.read_text().splitlines():
        cells = [cell.strip() for cell in row.strip("|").split("|")]
        if cells[0].startswith("`tck-id-"):
            (name,) = re.findall(r"`([^`]+)`", cells[0])
            assert name not in shown
            shown[name] = re.findall(r"`([^`]+)`", cells[1])
        elif len(cells) == 2 and cells[1].startswith("`tck-id-"):
            for name in re.findall(r"`([^`]+)`", cells[1]):
                assert name not in excused
                excused[name] = cells[0]
    assert shown == SHOWN
    assert sorted([*shown, *excused]) == sorted(ALL_IDS)
    assert all(excused.values())


def test_the_documentation_lists_every_metric() -> None:
    """With its type, and none besides."""
    rows = re.findall(r"^\| `([^`]+)` \| (\w+) \|", DOCS.read_text(), re.MULTILINE)
    types = {name: datatype.name for name, datatype in {**NODE_METRICS, **DEVICE_METRICS}.items()}
    own = {"bdSeq": "INT64", "Node Control/Rebirth": "BOOLEAN"}
    assert {name: kind.upper() for name, kind in rows} == {**types, **own}
