"""The connection of an edge node: one after the other, each with its death as the broker's last word."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path

from agent.config.models_mqtt import MqttSettings
from agent.config.types import at_port
from agent.mqtt.access import Access, tls_context
from agent.mqtt.connection import BrokerConnection, LinkState
from agent.mqtt.messages import Message, Subscriptions
from agent.mqtt.reconnect import Reconnector
from agent.sparkplug.bd_seq import BdSeq
from agent.sparkplug.edge_node import EdgeNode

log = logging.getLogger(__name__)

WINDOW = 64
"""Messages handed to the connection and not on the wire yet; more wait where they are counted."""
# Together what an orderly stop of the agent can spare; a broker that is slower publishes the will.
_GOODBYE_S = 0.5
_LEAVE_S = 0.25


class Connection:
    """Connects, and says goodbye. The session's thread alone uses it, but for `use`.

    Args:
        mqtt: the broker's settings.
        client_id: of these connections.
        node: whose they are.
        folder: the data folder, where the number of the last connection is.
        inlet: what every connection listens to, by the settings in force.
        wake: called, from any thread, when something happened.
        access: certificates and password; read anew where it is None.

    Attributes:
        bdseq: number of the present connection, or of the next one where none was heard by a broker since.
        problem: why the last one ended or did not come, in one sentence; None before, and while there is one.

    Raises:
        ConfigError: the certificate files cannot be used.
    """

    def __init__(
        self,
        mqtt: MqttSettings,
        client_id: str,
        node: EdgeNode,
        folder: Path,
        subscriptions: Callable[[MqttSettings], Subscriptions],
        wake: Callable[[], None],
        access: Access | None = None,
    ) -> None:
        self.bdseq = -1
        self.problem: str | None = None
        self._wanted = (mqtt, access or Access(mqtt, tls=tls_context(mqtt)))
        self._mqtt, self._access = self._wanted
        self._client_id, self._node, self._subscriptions, self._wake = client_id, node, subscriptions, wake
        self._numbers = BdSeq(folder, node.descriptor)
        self._heard = True  # a broker may know the number
        self._reconnector = Reconnector(mqtt)
        self._link: BrokerConnection | None = None
        self._unwritten: set[int] = set()

    @property
    def up(self) -> BrokerConnection | None:
        """The present connection, while it is there; another one is another object."""
        link = self._link
        return link if link is not None and link.state is LinkState.UP else None

    @property
    def room(self) -> int:
        """How many messages may be published now."""
        if self._link is not None:
            self._unwritten -= {mid for mid, _ in self._link.acknowledged()}
        return WINDOW - len(self._unwritten)

    def use(self, mqtt: MqttSettings, access: Access | None = None) -> None:
        """Reach the broker like this from now on, over a new connection where that differs; any thread."""
        self._wanted = (mqtt, access or Access(mqtt))

    def tend(self, now: float) -> None:
        """Connect where there is no connection, and give up one that is lost."""
        mqtt, access = self._wanted
        if mqtt is not self._mqtt:
            if _way(mqtt) != _way(self._mqtt):
                self.leave()
                self._reconnector = Reconnector(mqtt)
            self._reconnector.use(mqtt)
            self._mqtt, self._access = mqtt, access
        link = self._link
        if link is None:
            if not self._reconnector.due(now):
                return
            if self._access.ready(now):
                self._open()
            else:
                self.problem = self._access.problem
        elif link.check() is LinkState.DOWN:
            wait_s = self._reconnector.lost(link, now)
            problem = f"{at_port(self._mqtt.host, self._mqtt.port)}: {link.reason}"
            if problem != self.problem:
                log.warning("sparkplug: %s; next try in %.1f s", problem, wait_s)
            self.problem = problem
            self._drop(link)
        elif link.state is LinkState.UP:
            self._reconnector.up(now)
            self.problem = None

    def publish(self, message: Message) -> None:
        """Send one message; a connection that cannot take it is ended, for a host counts them."""
        link = self.up
        if link is None:
            return
        if not link.fits(message):
            size = len(message.payload)
            link.end(
                f"{message.topic} has {size} bytes, the broker takes {link.largest}: allow larger packets"
            )
            return
        self._unwritten.add(link.publish(message))

    def leave(self) -> None:
        """Say that the node dies, where there is a connection, and end it."""
        link = self._link
        if link is None:
            return
        if link.state is LinkState.UP:
            last = link.publish(self._node.death(self.bdseq, time.time_ns() // 1_000_000))
            until = time.monotonic() + _GOODBYE_S
            answered = False
            while not answered and time.monotonic() < until and link.state is LinkState.UP:
                answered = any(mid == last for mid, _ in link.acknowledged())
                time.sleep(0.005)
        # By the specification the will is sent as well, over MQTT 5: hosts know it by its bdSeq.
        self._drop(link, _LEAVE_S, with_will=True)

    def _open(self) -> None:
        if self._heard:
            self.bdseq = self._numbers.next()
        self._heard = True
        self._link = BrokerConnection(
            self._mqtt,
            self._client_id,
            self._reconnector.protocol,
            self._node.death(self.bdseq, time.time_ns() // 1_000_000),
            self._wake,
            self._access.tls,
            self._subscriptions(self._mqtt),
        )
        self._link.open()

    def _drop(self, link: BrokerConnection, wait_s: float = 0.0, *, with_will: bool = False) -> None:
        link.close(wait_s, with_will=with_will)
        self._heard = link.reached
        self._link = None
        self._unwritten = set()


def _way(mqtt: MqttSettings) -> tuple[object, ...]:
    """Return what a connection depends on."""
    return (
        mqtt.host,
        mqtt.port,
        mqtt.protocol,
        mqtt.username,
        mqtt.password,
        mqtt.tls,
        mqtt.keepalive_s,
        mqtt.commands.max_payload_kb,
    )
