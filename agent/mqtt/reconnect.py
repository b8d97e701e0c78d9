"""When to connect again after a connection was lost, and in which version of MQTT."""

from __future__ import annotations

import logging
import random

from agent.config.models_mqtt import MqttSettings
from agent.mqtt.connection import BrokerConnection
from agent.mqtt.packets import Protocol

log = logging.getLogger(__name__)


class Reconnector:
    """Owns the wait before the next connection and its protocol; one thread uses it.

    Waits double up to `reconnect.max_s`, jittered, and start anew after a connection that has held longer
    than that. A broker that seems not to know MQTT 5 is tried with 3.1.1, and the other way round.

    Args:
        mqtt: the broker's settings.

    Attributes:
        protocol: of the next connection.
    """

    def __init__(self, mqtt: MqttSettings) -> None:
        self._mqtt = mqtt
        self.protocol: Protocol = self._first()
        self._retry_at = 0.0
        self._delay_s = 0.0
        self._up_at: float | None = None

    def due(self, now: float) -> bool:
        """Whether it is time to connect."""
        return now >= self._retry_at

    def use(self, mqtt: MqttSettings) -> None:
        """Wait as these settings say, for the same broker; where they say it otherwise, try at once."""
        if mqtt.reconnect != self._mqtt.reconnect:
            self._delay_s = self._retry_at = 0.0
        self._mqtt = mqtt

    def up_s(self, now: float) -> float:
        """Return how long the present connection has held, 0 without one."""
        return 0.0 if self._up_at is None else now - self._up_at

    def up(self, now: float) -> None:
        """Note that the broker has taken us; noting it again changes nothing."""
        if self._up_at is None:
            self._up_at = now

    def lost(self, link: BrokerConnection, now: float, *, fought_over: bool = False) -> float:
        """Note that a connection was lost, or never came; return the seconds until the next one.

        Args:
            link: that was lost.
            now: by `time.monotonic`.
            fought_over: another agent has our name: waits go on growing however long each lets the other be.
        """
        reconnect = self._mqtt.reconnect
        if link.was_up:
            # What it spoke may have been the fallback of a bad moment.
            self.protocol = self._first()
            # A broker that takes us and throws us out again is not called every second.
            if self.up_s(now) > reconnect.max_s and not fought_over:
                self._delay_s = 0.0
        elif link.speaks_other_protocol and self._first() == 5:
            self.protocol = 4 if link.protocol == 5 else 5
            other = "5" if link.protocol == 5 else "3.1.1"
            log.info("mqtt: the broker does not take MQTT %s, trying the other", other)
        self._delay_s = min(max(2 * self._delay_s, reconnect.initial_s), reconnect.max_s)
        wait_s = self._delay_s * (1 + reconnect.jitter * random.uniform(-1, 1))  # noqa: S311 - no secret
        self._retry_at = now + wait_s
        self._up_at = None
        return wait_s

    def _first(self) -> Protocol:
        """Return what the broker is addressed in first; the embedded one knows 3.1.1 only."""
        return 4 if self._mqtt.protocol == 311 or self._mqtt.embedded_broker else 5
