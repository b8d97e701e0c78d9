"""The edge node of Sparkplug B: numbers, aliases and what was told already decide what is sent.

Specification: Eclipse Sparkplug 3.0.0, chapters 4 to 6; docs/sparkplug.md names the test of each assertion.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import count

from agent.mqtt.messages import Message
from agent.sparkplug.metrics import DEVICE, NODE, Reading, Readings
from agent.sparkplug.payload import DataType, Metric, Payload, Value, encode

NAMESPACE = "spBv1.0"
BDSEQ = "bdSeq"
REBIRTH = "Node Control/Rebirth"
NUMBERS = 256
"""Of `seq` and of `bdSeq`: 0..255, then 0 again."""
_MOST_STEPS = 32
"""Results in one message: 32 with everything new in them are some 15 kB."""


class EdgeNode:
    """Composes the messages of one edge node and its devices, in the order in which they are to be sent.

    Owns the sequence number, the aliases and what hosts were told since the birth. One thread uses it. What
    it returns has to be sent, all of it and in order: a host counts.

    Args:
        group: the group id.
        node: the edge node id.
    """

    def __init__(self, group: str, node: str) -> None:
        self._group, self._node = group, node
        self._seq = 0
        self._numbers = count(1)
        self._aliases: dict[tuple[str | None, str], int] = {}
        self._told: dict[str | None, dict[str, Value]] = {}

    @property
    def descriptor(self) -> str:
        """Return what no other edge node may be called."""
        return f"{self._group}/{self._node}"

    @property
    def devices(self) -> set[str]:
        """The devices that were born and have not died since."""
        return {device for device in self._told if device is not None}

    def topic(self, kind: str, device: str | None = None) -> str:
        """Return where messages of a kind, such as ``NBIRTH``, go or come from."""
        own = f"{NAMESPACE}/{self._group}/{kind}/{self._node}"
        return own if device is None else f"{own}/{device}"

    def death(self, bdseq: int, now_ms: int) -> Message:
        """Return the NDEATH that belongs to births with `bdseq`: will and last word of a connection."""
        metric = Metric(bdseq, BDSEQ, datatype=DataType.INT64, timestamp=now_ms)
        return Message(self.topic("NDEATH"), encode(Payload(now_ms, (metric,))), 1, False)

    def birth(self, readings: Readings, bdseq: int, now_ms: int) -> Message:
        """Return the NBIRTH; from here on no device is alive until it is born again.

        Args:
            readings: of every metric in `NODE`.
            bdseq: of the connection's will.
            now_ms: milliseconds since 1970, UTC.
        """
        self._seq = 0
        self._told.clear()
        own = [
            Metric(bdseq, BDSEQ, self._alias(None, BDSEQ), DataType.INT64, now_ms),
            # By the specification the one metric without an alias: a host that has lost them can still ask.
            Metric(False, REBIRTH, None, DataType.BOOLEAN, now_ms),
        ]
        return self._send("NBIRTH", None, [*self._born(None, readings, NODE), *own], now_ms)

    def device_birth(self, device: str, readings: Readings, now_ms: int) -> Message:
        """Return the DBIRTH of a device.

        Args:
            device: id of the device.
            readings: of every metric in `DEVICE`.
            now_ms: milliseconds since 1970, UTC.
        """
        return self._send("DBIRTH", device, self._born(device, readings, DEVICE), now_ms)

    def device_death(self, device: str, now_ms: int) -> Message:
        """Return the DDEATH of a device that is alive."""
        del self._told[device]
        return self._send("DDEATH", device, (), now_ms)

    def data(self, device: str | None, steps: Iterable[Readings], now_ms: int) -> list[Message]:
        """Return what has changed since hosts were told last; nothing where nothing has.

        Args:
            device: id of a device that is alive; None is the node itself.
            steps: readings, older ones first, each of one moment.
            now_ms: milliseconds since 1970, UTC.
        """
        told = self._told[device]
        changed = []
        for step in steps:
            new = {name: reading for name, reading in step.items() if told[name] != reading.value}
            told.update({name: reading.value for name, reading in new.items()})
            if new:
                changed.append(new)
        return self._data(device, changed, now_ms, historical=False)

    def history(self, device: str, steps: Iterable[Readings], now_ms: int) -> list[Message]:
        """Return what was so while no host could be told; it does not change what is so now."""
        return self._data(device, steps, now_ms, historical=True)

    def _data(
        self, device: str | None, steps: Iterable[Readings], now_ms: int, *, historical: bool
    ) -> list[Message]:
        types = NODE if device is None else DEVICE
        return [
            self._send(
                "NDATA" if device is None else "DDATA",
                device,
                [
                    Metric(
                        reading.value,
                        alias=self._alias(device, name),
                        timestamp=reading.at_ms,
                        historical=historical,
                        kind=types[name],
                    )
                    for step in batch
                    for name, reading in step.items()
                ],
                now_ms,
            )
            for batch in batches(steps)
        ]

    def _born(self, device: str | None, readings: Readings, types: Mapping[str, DataType]) -> list[Metric]:
        self._told[device] = {name: readings[name].value for name in types}
        metrics = [
            Metric(readings[name].value, name, self._alias(device, name), datatype, readings[name].at_ms)
            for name, datatype in types.items()
        ]
        return sorted(metrics, key=lambda metric: metric.timestamp or 0)

    def _send(self, kind: str, device: str | None, metrics: Sequence[Metric], now_ms: int) -> Message:
        payload = Payload(now_ms, metrics, self._seq)
        self._seq = (self._seq + 1) % NUMBERS
        return Message(self.topic(kind, device), encode(payload), 0, False)

    def _alias(self, device: str | None, name: str) -> int:
        """Return a number that no other metric of the node or of a device has, the same in every birth."""
        if (device, name) not in self._aliases:
            self._aliases[device, name] = next(self._numbers)
        return self._aliases[device, name]


def batches(steps: Iterable[Readings]) -> list[list[Readings]]:
    """Return steps in messages: in one message a metric may come twice, later ones with later times only."""
    found: list[list[Readings]] = []
    last_ms = 0
    for step in steps:
        first_ms = min(_times(step.values()))
        if not found or first_ms <= last_ms or len(found[-1]) >= _MOST_STEPS:
            found.append([])
        found[-1].append(step)
        last_ms = max(_times(step.values()))
    return found


def _times(readings: Iterable[Reading]) -> list[int]:
    return [reading.at_ms for reading in readings]
