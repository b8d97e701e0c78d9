"""A cable with a witness: what a client sends, parsed strictly, against what OASIS demands of clients.

Own words for each statement; the numbers are those of MQTT 5.0, whose texts of the same content 3.1.1 has as
well, mostly under other numbers. MQTT 5 statements are not asked of a 3.1.1 connection.
"""

from __future__ import annotations

import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

ALWAYS = {
    "MQTT-1.5.4-1": "text is well-formed UTF-8 without surrogates",
    "MQTT-1.5.4-2": "text holds no U+0000",
    "MQTT-2.1.3-1": "reserved flags of the fixed header are as listed",
    "MQTT-2.2.1-3": "a packet id is not zero and not in use",
    "MQTT-3.1.0-1": "the first packet is CONNECT",
    "MQTT-3.1.0-2": "there is one CONNECT",
    "MQTT-3.1.2-1": "the protocol name is MQTT",
    "MQTT-3.1.2-3": "the reserved connect flag is 0",
    "MQTT-3.1.2-12": "the will's QoS is not 3",
    "MQTT-3.1.2-20": "something is sent within the keep alive",
    "MQTT-3.1.3-1": "the fields of CONNECT are in their order, and no byte is left over",
    "MQTT-3.3.1-2": "DUP is 0 where QoS is 0",
    "MQTT-3.3.1-4": "QoS is not 3",
    "MQTT-3.3.2-2": "a topic holds no wildcard",
    "MQTT-3.8.1-1": "SUBSCRIBE has the flags 0010",
    "MQTT-3.8.3-2": "SUBSCRIBE holds a filter at least",
    "MQTT-3.14.1-1": "DISCONNECT has no flags",
    "MQTT-3.14.4-1": "nothing is sent behind DISCONNECT",
    "MQTT-4.3.2-2": "a new message of QoS 1 has DUP 0",
    "MQTT-4.3.2-4": "each message of QoS 1 is acknowledged by its packet id",
    "MQTT-4.6.0-2": "acknowledgements come in the order of the messages",
    "MQTT-4.7.1-1": "in a filter wildcards stand where they may",
    "MQTT-4.7.3-1": "topics and filters are one character long at least",
}
FIVE = {
    "MQTT-2.2.2-1": "there are properties, if only their length 0",
    "MQTT-3.2.2-11": "no message goes beyond the broker's Maximum QoS",
    "MQTT-3.2.2-14": "nothing is retained where the broker keeps nothing",
    "MQTT-3.2.2-15": "no packet is larger than the broker takes",
    "MQTT-3.2.2-21": "the broker's keep alive counts, where it has one",
    "MQTT-3.3.2-6": "what says that it is text is UTF-8",
    "MQTT-3.3.4-7": "no more is on its way than the broker's Receive Maximum",
    "MQTT-3.8.3-5": "reserved bits of subscription options are 0",
    "properties": "each property is one of its packet, and only user properties come twice",
}

CONNECT, CONNACK, PUBLISH, PUBACK, SUBSCRIBE, SUBACK, PINGREQ, DISCONNECT = 1, 2, 3, 4, 8, 9, 12, 14
_WILL = -1
_KINDS = {  # property id -> type
    1: "b", 2: "4", 3: "s", 8: "s", 9: "d", 11: "v", 17: "4", 18: "s", 19: "2", 21: "s", 22: "d", 23: "b",
    24: "4", 25: "b", 26: "s", 28: "s", 31: "s", 33: "2", 34: "2", 35: "2", 36: "b", 37: "b", 38: "p",
    39: "4", 40: "b", 41: "b", 42: "b",
}  # fmt: skip
_ALLOWED = {
    CONNECT: {17, 21, 22, 23, 25, 33, 34, 38, 39},
    _WILL: {1, 2, 3, 8, 9, 24, 38},
    CONNACK: {17, 18, 19, 21, 22, 26, 28, 31, 33, 34, 36, 37, 38, 39, 40, 41, 42},
    PUBLISH: {1, 2, 3, 8, 9, 35, 38},
    PUBACK: {31, 38},
    SUBSCRIBE: {11, 38},
    SUBACK: {31, 38},
    DISCONNECT: {17, 28, 31, 38},
}
_KEEP_ALIVE_GRACE_S = 1.0


@dataclass(frozen=True)
class Sent:
    """One packet: when, by whom, what."""

    at_s: float
    ours: bool
    kind: int
    flags: int
    body: bytes
    size: int


class Reader:
    """Takes fields off a packet's body; a field that is cut short raises ValueError."""

    def __init__(self, body: bytes, check: Callable[[str, bool, str], None]) -> None:
        self.body, self.at, self._check = body, 0, check

    @property
    def left(self) -> int:
        return len(self.body) - self.at

    def take(self, count: int) -> bytes:
        if self.left < count:
            raise ValueError("a packet is cut short")
        self.at += count
        return self.body[self.at - count : self.at]

    def number(self, count: int) -> int:
        return int.from_bytes(self.take(count), "big")

    def data(self) -> bytes:
        return self.take(self.number(2))

    def text(self) -> str:
        raw = self.data()
        try:
            text = raw.decode()
        except UnicodeDecodeError:
            text = raw.decode(errors="replace")
            self._check("MQTT-1.5.4-1", False, repr(raw))
        else:
            self._check("MQTT-1.5.4-1", True, "")
        self._check("MQTT-1.5.4-2", "\0" not in text, text)
        return text

    def varint(self) -> int:
        value = shift = 0
        while True:
            byte = self.number(1)
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value
            if shift > 21:
                raise ValueError("a length of more than four bytes")

    def properties(self, packet: int) -> dict[int, object]:
        found: dict[int, object] = {}
        end = self.varint() + self.at
        while self.at < end:
            name = self.varint()
            good = name in _ALLOWED[packet] and (name == 38 or name not in found)
            self._check("properties", good, f"{name} in packet {packet}")
            match _KINDS.get(name):
                case "b":
                    found[name] = self.number(1)
                case "2":
                    found[name] = self.number(2)
                case "4":
                    found[name] = self.number(4)
                case "v":
                    found[name] = self.varint()
                case "d":
                    found[name] = self.data()
                case "s":
                    found[name] = self.text()
                case "p":
                    found[name] = (self.text(), self.text())
                case _:
                    raise ValueError(f"property {name} is unknown")
        if self.at != end:
            raise ValueError("properties are not as long as they say")
        return found


@dataclass
class Witness:
    """Judges one connection; `checked` counts by statement, `violations` says what was wrong."""

    checked: Counter[str] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)
    version: int = 0
    keepalive_s: float = 0.0
    window: int = 65_535
    largest: int = 268_435_460
    takes: object = None
    max_qos: int = 2
    keeps: bool = True
    flying: set[int] = field(default_factory=set)
    owed: list[int] = field(default_factory=list)
    asked: set[int] = field(default_factory=set)
    packets: Counter[int] = field(default_factory=Counter)
    said_goodbye: bool = False
    last_s: float = 0.0

    def check(self, statement: str, good: bool, what: str = "") -> None:
        self.checked[statement] += 1
        if not good:
            known = {**ALWAYS, **FIVE}
            self.violations.append(f"{statement}: {known[statement]}: {what}")

    def see(self, packet: Sent) -> None:
        if packet.ours:
            self._ours(packet)
        else:
            self._theirs(packet)

    def _ours(self, packet: Sent) -> None:  # noqa: C901 - one branch a kind
        first = not self.packets
        self.check("MQTT-3.14.4-1", not self.said_goodbye, str(packet.kind))
        self.packets[packet.kind] += 1
        if first:
            self.check("MQTT-3.1.0-1", packet.kind == CONNECT, str(packet.kind))
        else:
            self.check("MQTT-3.1.0-2", packet.kind != CONNECT)
            late_s = packet.at_s - self.last_s
            if self.keepalive_s:
                good = late_s <= self.keepalive_s + _KEEP_ALIVE_GRACE_S
                self.check("MQTT-3.1.2-20", good, f"{late_s:.1f} s of silence")
        self.last_s = packet.at_s
        if packet.kind != PUBLISH:
            wanted = 2 if packet.kind == SUBSCRIBE else 0
            self.check("MQTT-2.1.3-1", packet.flags == wanted, f"{packet.kind}: {packet.flags}")
        reader = Reader(packet.body, self.check)
        match packet.kind:
            case 1:
                self._connect(reader)
            case 3:
                self._publish(packet, reader)
            case 4:
                self._puback(reader)
            case 8:
                self._subscribe(packet, reader)
            case 12:
                pass
            case 14:
                self.said_goodbye = True
                self.check("MQTT-3.14.1-1", packet.flags == 0)
                if self.version == 5 and reader.left > 1:
                    reader.take(1)
                    reader.properties(DISCONNECT)
                elif self.version == 5:
                    reader.take(reader.left)
            case _:
                self.violations.append(f"a packet of kind {packet.kind}")
        if packet.kind != PUBLISH and reader.left:
            self.violations.append(f"{reader.left} bytes left over in a packet of kind {packet.kind}")
        if self.version == 5:
            self.check("MQTT-3.2.2-15", packet.size <= self.largest, str(packet.size))

    def _connect(self, reader: Reader) -> None:
        self.check("MQTT-3.1.2-1", reader.text() == "MQTT")
        self.version = reader.number(1)
        flags = reader.number(1)
        self.check("MQTT-3.1.2-3", not flags & 1)
        self.keepalive_s = float(reader.number(2))
        if self.version == 5:
            self.takes = reader.properties(CONNECT).get(39)
        reader.text()
        self.check("MQTT-3.1.2-12", flags >> 3 & 3 != 3)
        if flags & 4:
            if self.version == 5:
                reader.properties(_WILL)
            self._topic(reader.text())
            reader.data()
        if flags & 128:
            reader.text()
        if flags & 64:
            reader.data()
        self.check("MQTT-3.1.3-1", reader.left == 0, f"{reader.left} bytes left over")

    def _publish(self, packet: Sent, reader: Reader) -> None:
        qos, dup, retain = packet.flags >> 1 & 3, packet.flags >> 3 & 1, packet.flags & 1
        self.check("MQTT-3.3.1-4", qos != 3)
        if not qos:
            self.check("MQTT-3.3.1-2", not dup)
        self._topic(reader.text())
        if qos:
            number = reader.number(2)
            self.check("MQTT-2.2.1-3", number != 0 and number not in self.flying, str(number))
            # A connection of ours lives once and has no session: nothing is ever sent again by id.
            self.check("MQTT-4.3.2-2", not dup)
            self.flying.add(number)
        if self.version == 5:
            properties = reader.properties(PUBLISH)
            self.check("MQTT-2.2.2-1", True)
            self.check("MQTT-3.3.4-7", len(self.flying) <= self.window, str(len(self.flying)))
            self.check("MQTT-3.2.2-11", qos <= self.max_qos)
            self.check("MQTT-3.2.2-14", self.keeps or not retain)
            if properties.get(1) == 1:
                payload = reader.take(reader.left)
                try:
                    payload.decode()
                except UnicodeDecodeError:
                    self.check("MQTT-3.3.2-6", False, repr(payload[:50]))
                else:
                    self.check("MQTT-3.3.2-6", True)

    def _puback(self, reader: Reader) -> None:
        number = reader.number(2)
        self.check("MQTT-4.3.2-4", number in self.owed, str(number))
        self.check("MQTT-4.6.0-2", bool(self.owed) and self.owed[0] == number, f"{number} of {self.owed}")
        if number in self.owed:
            self.owed.remove(number)
        if self.version == 5 and reader.left:
            reader.take(1)
            if reader.left:
                reader.properties(PUBACK)

    def _subscribe(self, packet: Sent, reader: Reader) -> None:
        self.check("MQTT-3.8.1-1", packet.flags == 2)
        number = reader.number(2)
        self.check("MQTT-2.2.1-3", number != 0 and number not in self.flying | self.asked, str(number))
        self.asked.add(number)
        if self.version == 5:
            reader.properties(SUBSCRIBE)
        count = 0
        while reader.left:
            levels = (wanted := reader.text()).split("/")
            good = "#" not in levels[:-1] and all(len(one) == 1 or not set("+#") & set(one) for one in levels)
            self.check("MQTT-4.7.1-1", good, wanted)
            self.check("MQTT-4.7.3-1", bool(wanted))
            options, count = reader.number(1), count + 1
            if self.version == 5:
                self.check("MQTT-3.8.3-5", not options & 0b1100_0000 and options & 3 != 3)
        self.check("MQTT-3.8.3-2", count > 0)

    def _topic(self, topic: str) -> None:
        self.check("MQTT-3.3.2-2", not set("+#") & set(topic), topic)
        self.check("MQTT-4.7.3-1", bool(topic))

    def _theirs(self, packet: Sent) -> None:
        reader = Reader(packet.body, lambda *_: None)
        if packet.kind == CONNACK and self.version == 5:
            reader.take(2)
            told = reader.properties(CONNACK)
            self.window = int(str(told.get(33, 65_535)))
            self.largest = int(str(told.get(39, 268_435_460)))
            self.max_qos = int(str(told.get(36, 2)))
            self.keeps = told.get(37, 1) == 1
            if 19 in told:
                self.keepalive_s = float(str(told[19]))
                self.check("MQTT-3.2.2-21", True)
        elif packet.kind == PUBACK:
            self.flying.discard(reader.number(2))
        elif packet.kind == SUBACK:
            self.asked.discard(reader.number(2))
        elif packet.kind == PUBLISH and packet.flags >> 1 & 3 == 1:
            reader.data()
            self.owed.append(reader.number(2))


class _Stream:
    """Cuts a stream of bytes into packets."""

    def __init__(self, ours: bool) -> None:
        self._ours, self._buffer = ours, b""

    def feed(self, data: bytes) -> Iterator[Sent]:
        self._buffer += data
        while len(self._buffer) >= 2:
            length = shift = 0
            at = 1
            while True:
                if at >= len(self._buffer):
                    return
                byte = self._buffer[at]
                length |= (byte & 127) << shift
                shift, at = shift + 7, at + 1
                if byte < 128:
                    break
            if len(self._buffer) < at + length:
                return
            head, body = self._buffer[0], self._buffer[at : at + length]
            self._buffer = self._buffer[at + length :]
            yield Sent(time.monotonic(), self._ours, head >> 4, head & 15, body, at + length)


class Cable:
    """Passes bytes on between clients and a broker, and has a `Witness` for each connection."""

    def __init__(self, port: int) -> None:
        self._to = port
        self._server = socket.create_server(("127.0.0.1", 0))
        self._server.settimeout(0.1)
        self.port = int(self._server.getsockname()[1])
        self.witnesses: list[Witness] = []
        self._sockets: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._spawn(self._accept)

    def cut(self) -> None:
        """Break every connection, without a word."""
        for one in self._sockets:
            try:
                one.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue

    def close(self) -> None:
        self._over.set()
        self.cut()
        for thread in list(self._threads):
            thread.join(10)
        for one in (*self._sockets, self._server):
            one.close()

    def checked(self) -> Counter[str]:
        return sum((on_sample.checked for on_sample in self.witnesses), Counter())

    def violations(self) -> list[str]:
        return [line for on_sample in self.witnesses for line in on_sample.violations]

    def _spawn(self, target: Callable[..., None], *args: object) -> None:
        thread = threading.Thread(target=target, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self._over.is_set():
            try:
                client = self._server.accept()[0]
            except TimeoutError:
                continue
            self._sockets.append(client)
            try:
                broker = socket.create_connection(("127.0.0.1", self._to), 5)
            except OSError:
                client.shutdown(socket.SHUT_RDWR)
                continue
            broker.settimeout(None)
            client.settimeout(None)
            self._sockets.append(broker)
            on_sample = Witness()
            self.witnesses.append(on_sample)
            self._spawn(self._pass, client, broker, _Stream(ours=True), on_sample)
            self._spawn(self._pass, broker, client, _Stream(ours=False), on_sample)

    def _pass(self, source: socket.socket, sink: socket.socket, stream: _Stream, on_sample: Witness) -> None:
        try:
            while data := source.recv(65536):
                with self._lock:
                    for packet in stream.feed(data):
                        try:
                            on_sample.see(packet)
                        except ValueError as error:
                            on_sample.violations.append(f"packet {packet.kind}: {error}")
                sink.sendall(data)
        except OSError:
            pass
        for one in (source, sink):
            try:
                one.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue


@contextmanager
def cable(port: int) -> Iterator[Cable]:
    one = Cable(port)
    try:
        yield one
    finally:
        one.close()
