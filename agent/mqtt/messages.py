"""What goes over MQTT and what comes: values between the connection and everybody else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Message:
    """What is published.

    Attributes:
        schema: of the JSON payload; over MQTT 5 it is told beside it.
        expiry_s: after so long a broker that speaks MQTT 5 throws it away; None keeps it.
        correlation: what the MQTT 5 client who asked wants back.
    """

    topic: str
    payload: bytes
    qos: Literal[0, 1] = 1
    retain: bool = False
    schema: str | None = None
    expiry_s: int | None = None
    correlation: bytes | None = None


@dataclass(frozen=True, slots=True)
class Inbound:
    """What somebody sent us, as it came.

    Attributes:
        retained: it was published to stay; said of every message over MQTT 5, of old ones over 3.1.1.
        response_topic: where MQTT 5 asks for the answer.
        correlation: what MQTT 5 wants back with the answer.
    """

    topic: str
    payload: bytes
    retained: bool = False
    response_topic: str | None = None
    correlation: bytes | None = None


@dataclass(frozen=True, slots=True)
class Subscriptions:
    """What a connection listens to.

    Attributes:
        filters: topic filters, subscribed to at QoS 1 at every connection; retained messages show as such.
        watched: the same, but what comes while we are here does not show as retained.
        receive: takes each message, in paho's thread: it must be quick and raise nothing.
    """

    filters: tuple[str, ...]
    receive: Callable[[Inbound], None]
    watched: tuple[str, ...] = ()

    @property
    def all(self) -> tuple[str, ...]:
        """Every topic filter, in the order in which they are subscribed to."""
        return self.filters + self.watched
