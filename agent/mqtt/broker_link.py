"""The link to the broker: one connection after another, as the settings and the broker allow."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from agent.config.models_mqtt import MqttSettings
from agent.config.types import at_port
from agent.domain.publisher_stats import NOT_YET
from agent.mqtt.access import Access, tls_context
from agent.mqtt.connection import BrokerConnection, LinkState
from agent.mqtt.messages import Message, Subscriptions
from agent.mqtt.packets import largest_inbound
from agent.mqtt.reconnect import Reconnector

log = logging.getLogger(__name__)

HOLD_S = 300.0
"""After the last sign for so long; two agents that make room for each other show one at least this often."""
SHORT_S = 10.0
"""A connection that the broker ended sooner than this is short."""
SHORT_ONES = 3
"""So many in a row speak for it where the broker does not say why."""

_GOODBYE_S = 2.0
_LEAVE_S = 0.5


class BrokerLink:
    """Owns the connection, and the settings that it is made with; the publisher's thread alone uses it.

    Args:
        mqtt: the broker's settings; None connects to nothing.
        will: what the broker says in our name when we are gone.
        wake: called, from any thread, when something happened at the connection.
        subscriptions: what every connection listens to.
        access: certificates and password; read anew where it is None.

    Attributes:
        mqtt: the settings by which it goes now.
        connection: the present one; None while there is none.
        same_id: whether another agent uses our id.
        problem: one sentence, or None while all is well.

    Raises:
        ConfigError: the certificate files cannot be used.
    """

    def __init__(
        self,
        mqtt: MqttSettings | None,
        client_id: str,
        will: Message,
        wake: Callable[[], None],
        subscriptions: Subscriptions | None,
        access: Access | None,
    ) -> None:
        self.mqtt = mqtt
        self.connection: BrokerConnection | None = None
        self.same_id = ClientIdConflict()
        self.problem: str | None = None if mqtt is None else NOT_YET
        if access is None and mqtt is not None:
            access = Access(mqtt, tls=tls_context(mqtt))
        self._access = access
        self._wanted = (mqtt, access)
        self._client_id = client_id
        self._will = will
        self._wake = wake
        self._subscriptions = subscriptions
        self._reconnector = None if mqtt is None else Reconnector(mqtt)

    @property
    def up(self) -> BrokerConnection | None:
        """Return the connection where it takes messages, and `came_up` has told so."""
        link = self.connection
        return None if link is None or link.state is not LinkState.UP or self.problem is not None else link

    def use(self, mqtt: MqttSettings, access: Access | None = None) -> None:
        """Connect like this from now on, anew where the broker is reached another way; any thread."""
        self._wanted = (mqtt, access or Access(mqtt))

    def adopt(self) -> bool:
        """Take over the settings that are wanted; False where they are in use already."""
        mqtt, access = self._wanted
        if mqtt is self.mqtt:
            return False
        assert mqtt is not None
        assert self.mqtt is not None
        assert self._reconnector is not None
        self._reconnector.use(mqtt)
        if _way(mqtt) != _way(self.mqtt):
            self._reconnector = Reconnector(mqtt)
            self.end("the settings have changed")
        self.mqtt, self._access = mqtt, access
        return True

    def end(self, reason: str) -> None:
        """Declare the connection lost, where there is one."""
        if self.connection is not None:
            self.connection.end(reason)

    def dial(self, now: float) -> None:
        """Begin to connect, where it is time to, and what the broker asks of us is there."""
        assert self.mqtt is not None
        assert self._access is not None
        assert self._reconnector is not None
        if not self._reconnector.due(now):
            return
        if not self._access.ready(now):
            self.problem = self._access.problem
            return
        self.connection = BrokerConnection(
            self.mqtt,
            self._client_id,
            self._reconnector.protocol,
            self._will,
            self._wake,
            self._access.tls,
            self._subscriptions,
        )
        self.connection.open()

    def came_up(self, now: float) -> bool:
        """Whether the connection takes messages since the last call."""
        if self.connection is None or self.connection.state is not LinkState.UP or self.problem is None:
            return False
        assert self.mqtt is not None
        assert self._reconnector is not None
        log.info("mqtt: connected to %s", at_port(self.mqtt.host, self.mqtt.port))
        self.problem = None
        self._reconnector.up(now)
        return True

    def drop_lost(self, now: float, collect: Callable[[], None]) -> bool:
        """Give up a connection that is lost; False where none is.

        Args:
            collect: takes note of what the broker has answered over it, before it goes.
        """
        link = self.connection
        if link is None or link.check() is not LinkState.DOWN:
            return False
        assert self.mqtt is not None
        assert self._reconnector is not None
        if link.was_up:
            up_s = self._reconnector.up_s(now)
            self.same_id.lost(now, up_s=up_s, taken_over=link.taken_over, explained=link.explained)
        fought_over = link.was_up and self.same_id.problem(now) is not None
        wait_s = self._reconnector.lost(link, now, fought_over=fought_over)
        collect()
        problem = f"{at_port(self.mqtt.host, self.mqtt.port)}: {link.reason}"
        if problem != self.problem:
            log.warning("mqtt: %s; results wait on disk, next try in %.1f s", problem, wait_s)
        self.problem = problem
        link.close()
        self.connection = None
        return True

    def leave(self, show: Callable[[BrokerConnection], None], farewell: Message) -> None:
        """Say farewell where there is a connection, and end it.

        Args:
            show: sends what is to go before it.
        """
        link = self.connection
        if link is None:
            return
        if link.state is LinkState.UP:
            show(link)
            last = link.publish(farewell)
            deadline = time.monotonic() + _GOODBYE_S
            answered = False
            while not answered and time.monotonic() < deadline and link.state is LinkState.UP:
                answered = any(mid == last for mid, _ in link.acknowledged())
                time.sleep(0.005)
        link.close(_LEAVE_S)


class ClientIdConflict:
    """Does another agent use our id? What speaks for it, and for how long it is believed.

    Owns the signs. The publisher's thread uses it; `foreign` may be called by any.
    """

    def __init__(self) -> None:
        self._seen_at = float("-inf")
        self._short = 0

    def lost(self, now: float, *, up_s: float, taken_over: bool, explained: bool) -> None:
        """Note how a connection ended.

        Args:
            now: by a clock that does not go back.
            up_s: how long it was up.
            taken_over: the broker says that somebody came with our name.
            explained: the broker has said why, or it was we who ended it. Over MQTT 3.1.1 no broker does, and
                over MQTT 5 not every one (mosquitto 2.0.11 does not).
        """
        self._short = 0 if explained or up_s >= SHORT_S else self._short + 1
        still = self.problem(now) is not None and not explained
        if taken_over or still or self._short >= SHORT_ONES:
            self._seen_at = now

    def foreign(self, now: float) -> None:
        """Note that somebody else has said who they are under our topics."""
        self._seen_at = now

    def problem(self, now: float) -> str | None:
        """Return what to tell people; None while nothing speaks for it."""
        if now - self._seen_at > HOLD_S:
            return None
        return "another agent seems to use this agent.id at the broker: give each its own, or stop one"


def _way(mqtt: MqttSettings) -> tuple[object, ...]:
    """Return what a connection is made with."""
    other = {"reconnect", "drain_per_s", "stats_interval_s", "commands", "result_version"}
    made = mqtt.model_dump(exclude=other)
    return made, largest_inbound(mqtt)
