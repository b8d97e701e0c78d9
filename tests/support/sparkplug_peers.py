"""Peers for Sparkplug that know nothing of the agent's code: bytes, read by the specifications."""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import paho.mqtt.client as paho

from agent.config.models import Config
from agent.sparkplug.metrics import NodeNow
from agent.sparkplug.session import Sparkplug
from camera.feed.stats import FeedStats
from tests.support.mqtt_peers import wait_until

GROUP, NODE = "Paint Shop", "agent"
_METRIC = {1: "name", 2: "alias", 3: "timestamp", 4: "datatype", 5: "is_historical", 7: "is_null"}
_VALUES = {10: "int", 11: "long", 12: "float", 13: "double", 14: "boolean", 15: "string", 16: "bytes"}
_PAYLOAD = {1: "timestamp", 3: "seq"}
FIELD_OF = {4: "long", 8: "long", 10: "double", 11: "boolean", 12: "string"}
"""Datatype of the specification (6.4.16): field of its value."""


# Protobuf, by hand.


def _varint(content: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = content[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at


def _fields(content: bytes) -> Iterator[tuple[int, int, Any]]:
    at = 0
    while at < len(content):
        key, at = _varint(content, at)
        number, wire = key >> 3, key & 7
        if wire == 0:
            value, at = _varint(content, at)
        elif wire == 1:
            value, at = content[at : at + 8], at + 8
        elif wire == 5:
            value, at = content[at : at + 4], at + 4
        else:
            assert wire == 2, f"no wire type of protobuf: {wire}"
            size, at = _varint(content, at)
            value, at = content[at : at + size], at + size
        assert at <= len(content), "cut off"
        yield number, wire, value


def read_payload(content: bytes) -> dict[str, Any]:
    """Read a Sparkplug B payload by the field numbers of chapter 6.4.1; unknown fields are an error."""
    payload: dict[str, Any] = {"metrics": []}
    for number, _, value in _fields(content):
        if number == 2:
            payload["metrics"].append(_read_metric(value))
        else:
            payload[_PAYLOAD[number]] = value
    return payload


def _read_metric(content: bytes) -> dict[str, Any]:
    metric: dict[str, Any] = {}
    for number, _, value in _fields(content):
        if number in _VALUES:
            assert "value" not in metric, "two values in one metric"
            metric["field"], metric["value"] = _VALUES[number], _read_value(number, value)
        elif number == 1:
            metric["name"] = value.decode()
        else:
            metric[_METRIC[number]] = bool(value) if number in (5, 7) else value
    return metric


def _read_value(number: int, value: Any) -> Any:
    match number:
        case 12:
            return struct.unpack("<f", value)[0]
        case 13:
            return struct.unpack("<d", value)[0]
        case 14:
            return bool(value)
        case 15:
            return value.decode()
    return value


# MQTT, by hand.


@dataclass(frozen=True)
class Packet:
    """What a client has said: a packet of the connection with this number."""

    connection: int
    kind: str
    body: dict[str, Any] = field(default_factory=dict)

    def __getattr__(self, name: str) -> Any:
        try:
            return self.body[name]
        except KeyError:
            raise AttributeError(name) from None


_KINDS = {1: "CONNECT", 3: "PUBLISH", 4: "PUBACK", 8: "SUBSCRIBE", 12: "PINGREQ", 14: "DISCONNECT"}


def _text(content: bytes, at: int) -> tuple[bytes, int]:
    size = struct.unpack_from(">H", content, at)[0]
    return content[at + 2 : at + 2 + size], at + 2 + size


def _properties(content: bytes, at: int, level: int) -> tuple[bytes, int]:
    if level < 5:
        return b"", at
    size, at = _varint(content, at)
    return content[at : at + size], at + size


def read_packets(connection: int, content: bytes) -> list[Packet]:
    """Read all whole packets of a connection's first bytes."""
    packets, at, level = [], 0, 4
    while at < len(content):
        try:
            size, start = _varint(content, at + 1)
        except IndexError:
            break
        if start + size > len(content):
            break
        head, body = content[at], content[start : start + size]
        kind = _KINDS[head >> 4]
        if kind == "CONNECT":
            level = body[6]
        packets.append(Packet(connection, kind, _read_packet(kind, head & 15, body, level)))
        at = start + size
    return packets


def _read_packet(kind: str, flags: int, body: bytes, level: int) -> dict[str, Any]:
    match kind:
        case "CONNECT":
            _, at = _text(body, 0)
            flags, at = body[at + 1], at + 4
            properties, at = _properties(body, at, level)
            client, at = _text(body, at)
            will = {}
            if flags & 4:
                will_properties, at = _properties(body, at, level)
                topic, at = _text(body, at)
                payload, at = _text(body, at)
                will = {"topic": topic.decode(), "payload": payload, "properties": will_properties}
                will |= {"qos": flags >> 3 & 3, "retain": bool(flags & 32)}
            clean = bool(flags & 2)
            return {
                "level": level,
                "clean": clean,
                "will": will,
                "properties": properties,
                "client": client.decode(),
            }
        case "PUBLISH":
            qos, at = flags >> 1 & 3, 0
            topic, at = _text(body, at)
            at += 2 if qos else 0
            _, at = _properties(body, at, level)
            return {"topic": topic.decode(), "qos": qos, "retain": bool(flags & 1), "payload": body[at:]}
        case "SUBSCRIBE":
            _, at = _properties(body, 2, level)
            filters = {}
            while at < len(body):
                wanted, at = _text(body, at)
                filters[wanted.decode()] = body[at] & 3
                at += 1
            return {"filters": filters}
        case "DISCONNECT":
            return {"reason": body[0] if body else 0}
    return {}


class Wire:
    """Stands between a client and the broker, notes what the client says, and can be cut."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._said: list[bytearray] = []
        self._open: list[socket.socket] = []
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._server.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def packets(self) -> list[Packet]:
        return [
            packet for number, said in enumerate(self._said) for packet in read_packets(number, bytes(said))
        ]

    def cut(self) -> None:
        """Lose every connection, without a word."""
        for one in self._open:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        self._open.clear()

    def close(self) -> None:
        self._server.close()
        self.cut()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._server.accept()
                broker = socket.create_connection(("127.0.0.1", self._target))
            except ConnectionRefusedError:
                client.close()
                continue
            except OSError:
                return
            said = bytearray()
            self._said.append(said)
            self._open += [client, broker]
            threading.Thread(target=self._pump, args=(client, broker, said), daemon=True).start()
            threading.Thread(target=self._pump, args=(broker, client, None), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, said: bytearray | None) -> None:
        with contextlib.suppress(OSError):
            while content := source.recv(65536):
                if said is not None:
                    said += content
                sink.sendall(content)
        for one in (source, sink):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        source.close()


# A host.


@dataclass(frozen=True)
class Told:
    """A message that a host got."""

    kind: str
    device: str | None
    payload: dict[str, Any]
    content: bytes
    qos: int
    retain: bool


class Host:
    """A strict Sparkplug host: believes nothing that does not follow from a birth, and notes what is wrong.

    Attributes:
        told: every message, in order.
        wrong: what no host could accept.
        values: device (None is the node) -> metric -> value, as births and data say; dead ones are gone.
        past: device -> historical metrics as they came.
    """

    def __init__(self, port: int, group: str = GROUP, node: str = NODE) -> None:
        self.told: list[Told] = []
        self.wrong: list[str] = []
        self.values: dict[str | None, dict[str, Any]] = {}
        self.past: list[tuple[str, dict[str, Any]]] = []
        self.bdseq: int | None = None
        self._group, self._node = group, node
        self._seq = -1
        self._aliases: dict[int, tuple[str | None, str, int]] = {}
        self._ready = threading.Event()
        self._client = paho.Client(paho.CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
        self._client.on_connect = lambda client, *_: client.subscribe(f"spBv1.0/{group}/#", 1)
        self._client.on_subscribe = lambda *_: self._ready.set()
        self._client.on_message = self._on_message
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        assert self._ready.wait(10)

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def kinds(self) -> list[str]:
        return [told.kind for told in list(self.told)]

    def count(self, kind: str) -> int:
        return self.kinds().count(kind)

    def command(self, content: bytes, *, kind: str = "NCMD", tail: str = "", retain: bool = False) -> None:
        topic = f"spBv1.0/{self._group}/{kind}/{self._node}{tail}"
        self._client.publish(topic, content, 0, retain).wait_for_publish(10)

    def state(self, host_id: str, payload: Any) -> None:
        """Say, retained, that a host is there or is not."""
        body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        self._client.publish(f"spBv1.0/STATE/{host_id}", body, 1, True).wait_for_publish(10)

    def _on_message(self, _client: Any, _userdata: Any, message: Any) -> None:
        try:
            self._hear(message)
        except (AssertionError, KeyError, ValueError, IndexError) as error:
            self.wrong.append(f"{message.topic}: {type(error).__name__}: {error}")

    def _hear(self, message: Any) -> None:
        namespace, group, kind, node, *device = message.topic.split("/")
        if kind in ("NCMD", "DCMD"):
            return
        assert (namespace, group, node) == ("spBv1.0", self._group, self._node)
        assert (len(device) == 1) == (kind[0] == "D"), "a device in a node's topic, or none in a device's"
        name = device[0] if device else None
        payload = read_payload(message.payload)
        self.told.append(Told(kind, name, payload, message.payload, message.qos, message.retain))
        getattr(self, f"_{kind.lower()}")(name, payload)

    def _number(self, payload: dict[str, Any]) -> None:
        assert payload["seq"] == (self._seq + 1) % 256, f"seq {payload['seq']} after {self._seq}"
        self._seq = payload["seq"]

    def _nbirth(self, _device: None, payload: dict[str, Any]) -> None:
        self._seq = -1
        assert payload["seq"] == 0
        self._number(payload)
        self._aliases.clear()
        self.values.clear()
        self._learn(None, payload)
        self.bdseq = self.values[None]["bdSeq"]

    def _dbirth(self, device: str, payload: dict[str, Any]) -> None:
        self._number(payload)
        self._aliases = {alias: known for alias, known in self._aliases.items() if known[0] != device}
        self._learn(device, payload)

    def _learn(self, device: str | None, payload: dict[str, Any]) -> None:
        self.values[device] = {}
        for metric in payload["metrics"]:
            if "alias" in metric:
                assert metric["alias"] not in self._aliases, f"alias {metric['alias']} twice"
                self._aliases[metric["alias"]] = (device, metric["name"], metric["datatype"])
            assert metric["name"] not in self.values[device], f"{metric['name']} twice"
            assert metric.get("is_null") or metric["field"] == FIELD_OF[metric["datatype"]]
            self.values[device][metric["name"]] = metric.get("value")

    def _ndata(self, device: str | None, payload: dict[str, Any]) -> None:
        assert device in self.values, f"data of {device}, which is not alive"
        self._number(payload)
        past: dict[str, Any] = {}
        for metric in payload["metrics"]:
            whose, name, datatype = self._aliases[metric["alias"]]
            assert whose == device, f"alias of {whose} in data of {device}"
            assert metric.get("is_null") or metric["field"] == FIELD_OF[datatype]
            if metric.get("is_historical"):
                if name in past:
                    self.past.append((str(device), past))
                    past = {}
                past[name] = metric.get("value")
            else:
                assert self.values[device][name] != metric.get("value"), f"{name} has not changed"
                self.values[device][name] = metric.get("value")
        if past:
            self.past.append((str(device), past))

    _ddata = _ndata

    def _ddeath(self, device: str, payload: dict[str, Any]) -> None:
        self._number(payload)
        del self.values[device]

    def _ndeath(self, _device: None, payload: dict[str, Any]) -> None:
        assert "seq" not in payload
        if payload["metrics"][0]["value"] == self.bdseq:
            self.values.clear()
            self._seq = -1


# The agent's side, without a model.


def a_feed(station: str, **state: Any) -> FeedStats:
    usual = {
        "connected": True, "ended": False, "fps": 5.04, "frames": 10, "dropped": 0, "reconnects": 0,
        "stalls": 0, "last_fault": None, "luma": 100.0, "sharpness": 200.0,
    }  # fmt: skip
    return FeedStats(station, **{**usual, **state})


class Site:
    """A session with cameras and an agent that the test moves."""

    def __init__(self, config: Config, stations: Sequence[str] = ("top", "side")) -> None:
        self.feeds = {name: a_feed(name) for name in stations}
        self.now = NodeNow("tiny", "sha256:1", "ok", 0)
        self.sparkplug = Sparkplug(config, lambda: self.now, lambda: list(self.feeds.values()))
        self.crash: BaseException | None = None
        self._seq: dict[str, int] = {}
        self._thread = threading.Thread(target=self._run, name="sparkplug")

    def _run(self) -> None:
        try:
            self.sparkplug.run()
        except BaseException as error:
            self.crash = error
            raise

    def inspect(self, verdict: Any) -> None:
        """Store a verdict."""
        self._seq[verdict.station] = self._seq.get(verdict.station, 0) + 1
        self.sparkplug.book.stored([verdict], self._seq.__getitem__)

    @contextlib.contextmanager
    def running(self) -> Iterator[Site]:
        self._thread.start()
        try:
            yield self
        finally:
            self.stop()

    def stop(self) -> None:
        self.sparkplug.stop()
        self._thread.join(15)
        assert not self._thread.is_alive()
        assert self.crash is None


def settled(host: Host, quiet_s: float = 0.6) -> None:
    """Wait until a host has heard nothing for a while."""
    last = [time.monotonic(), len(host.told)]

    def quiet() -> bool:
        if len(host.told) != last[1]:
            last[:] = [time.monotonic(), len(host.told)]
        return time.monotonic() - last[0] > quiet_s

    wait_until(quiet)
