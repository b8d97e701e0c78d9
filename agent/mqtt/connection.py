"""One connection to the broker: the only module that uses paho's client.

paho keeps a queue of its own that dies with the process and sends messages again behind our back after a
reconnect. So a connection lives once: when it is lost, it is thrown away with its queue, and the publisher
sends what was not acknowledged over the next one, marked as replayed.
"""

from __future__ import annotations

import logging
import ssl
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from agent.config.models_mqtt import MqttSettings
from agent.mqtt.access import tls_context
from agent.mqtt.messages import Inbound, Message, Subscriptions
from agent.mqtt.packets import LARGEST, Protocol, connect_properties, packet_bytes, publish_properties

log = logging.getLogger(__name__)

_UNSUPPORTED_PROTOCOL = 0x84
_TAKEN_OVER = 0x8E
_UNLIMITED = 65_535
_ANSWER_S = 2.0
_WITH_WILL = ReasonCode(PacketTypes.DISCONNECT, "Disconnect with will message")


class LinkState(StrEnum):
    """Life of a connection; it never goes back."""

    CONNECTING = "connecting"
    UP = "up"
    DOWN = "down"


class BrokerConnection:
    """One connection to the broker, from its birth to its loss; never used again.

    Attributes:
        window: messages that the broker takes without having acknowledged any (MQTT 5 Receive Maximum).
        largest: bytes of a packet that the broker takes (MQTT 5 Maximum Packet Size).
        was_up: the broker has taken us.
        explained: it is known why it ended: the broker has said so, or it was we.
        taken_over: the broker has said that somebody else came with our name (MQTT 5).
        speaks_other_protocol: the broker seems not to know the MQTT version that was tried.
        reached: somebody has taken the connection, so that a CONNECT may have gone out.

    Created, used and closed by one thread, its owner's. paho's own thread only appends to a deque, sets
    attributes once, and calls `wake`: a lock of ours around `publish` and in its callbacks would deadlock.

    Args:
        will: what the broker publishes in our name when the connection is lost.
        inlet: what to listen to; None listens to nothing.
        wake: called from paho's thread when something happened.
        tls: from `tls_context`.
    """

    def __init__(
        self,
        settings: MqttSettings,
        client_id: str,
        protocol: Protocol,
        will: Message | None,
        wake: Callable[[], None],
        tls: ssl.SSLContext | None,
        subscriptions: Subscriptions | None = None,
    ) -> None:
        self.protocol: Protocol = protocol
        self.state = LinkState.CONNECTING
        self.reason = ""
        self.speaks_other_protocol = False
        self.was_up = False
        self.taken_over = self.explained = False
        self.reached = True
        self.window = _UNLIMITED
        self.largest = LARGEST
        self._subscriptions = subscriptions
        self._keeps = True
        self._wake = wake
        self._settings = settings
        self._acknowledged: deque[tuple[int, str | None]] = deque()
        self._patience_until = float("inf")
        self._client = _client(settings, client_id, protocol, tls)
        if will is not None:
            self._client.will_set(will.topic, will.payload, will.qos, will.retain)
        self._client.on_connect = self._on_connect
        self._client.on_connect_fail = self._on_connect_fail
        self._client.on_disconnect = self._on_disconnect
        self._client.on_publish = self._on_publish
        if subscriptions is not None:
            self._client.on_subscribe = self._on_subscribe
            self._client.on_message = self._on_message

    def open(self) -> None:
        """Start to connect; `state` tells the outcome."""
        self._patience_until = time.monotonic() + self._settings.connect_timeout_s + _ANSWER_S
        # MQTT 5 says how much we take; 3.1.1 cannot. No session at the broker: our outbox is the session.
        properties = None
        if self.protocol == 5 and self._subscriptions is not None:
            properties = connect_properties(self._settings)
        self._client.connect_async(
            self._settings.host, self._settings.port, int(self._settings.keepalive_s), properties=properties
        )
        self._client.loop_start()

    def check(self) -> LinkState:
        """Return the state, having given up on a broker that took the connection and does not answer."""
        if self.state is LinkState.CONNECTING and time.monotonic() > self._patience_until:
            # Some brokers fall silent at a CONNECT of the MQTT version that they do not know.
            self.speaks_other_protocol = True
            self._down("no answer")
        return self.state

    def publish(self, message: Message) -> int:
        """Hand a message to the connection and return the id that `acknowledged` will name."""
        properties = publish_properties(message) if self.protocol == 5 else None
        retain = message.retain and self._keeps
        info = self._client.publish(message.topic, message.payload, message.qos, retain, properties)
        return info.mid

    def fits(self, message: Message) -> bool:
        """Whether the broker takes a packet as large as this message's."""
        return self.largest >= LARGEST or packet_bytes(message, self.protocol) <= self.largest

    def acknowledged(self) -> list[tuple[int, str | None]]:
        """Return the ids answered since the last call, each with None, or with why it was refused."""
        answers = []
        while self._acknowledged:
            answers.append(self._acknowledged.popleft())
        return answers

    def end(self, reason: str) -> None:
        """Declare the connection lost, for a reason that explains more than what paho saw."""
        self.reason = reason
        self.explained = True
        self.state = LinkState.DOWN

    def close(self, wait_s: float = 0.0, *, with_will: bool = False) -> None:
        """Disconnect, and give paho `wait_s` to say so.

        Its thread may hang in a name server or in a handshake for longer than anybody can wait, and
        paho waits for its thread without a limit: a thread of its own does that.

        Args:
            wait_s: seconds.
            with_will: let the broker publish the will all the same, which MQTT 3.1.1 cannot say.
        """
        reason = _WITH_WILL if with_will and self.protocol == 5 else None
        self._client.disconnect(reason)
        closer = threading.Thread(target=_let_go, args=(self._client,), name="mqtt-close", daemon=True)
        closer.start()
        closer.join(wait_s)

    # From here on: paho's thread.

    def _on_connect(self, _client: Any, _userdata: Any, _flags: Any, code: Any, properties: Any) -> None:
        # paho calls this for a refused connection as well.
        if code.is_failure:
            self.speaks_other_protocol = code.value == _UNSUPPORTED_PROTOCOL
            self._down(f"refused: {code}")
        else:
            self.window = getattr(properties, "ReceiveMaximum", _UNLIMITED)
            self.largest = getattr(properties, "MaximumPacketSize", LARGEST)
            # A broker that keeps nothing, or takes QoS 0 alone, ends the connection of who asks for more.
            self._keeps = bool(getattr(properties, "RetainAvailable", 1))
            if getattr(properties, "MaximumQoS", 2) < 1:
                self._down("it takes QoS 0 alone, which acknowledges nothing: allow QoS 1 at the broker")
                return
            self.was_up = True
            if self._subscriptions is not None:
                _client.subscribe([(wanted, self._options(wanted)) for wanted in self._subscriptions.all])
            self.state = LinkState.UP
            self._wake()

    def _on_connect_fail(self, _client: Any, _userdata: Any) -> None:
        # paho does not say why, but calls from where it caught the reason.
        self.reached = False
        self._down(f"cannot be reached: {sys.exc_info()[1]}")

    def _on_disconnect(self, _client: Any, _userdata: Any, flags: Any, code: Any, _properties: Any) -> None:
        if self.state is LinkState.CONNECTING:
            # A broker that knows only MQTT 3.1.1 may hang up at an MQTT 5 CONNECT without a word.
            self.speaks_other_protocol = True
        if self.state is not LinkState.DOWN:
            self.explained = bool(flags.is_disconnect_packet_from_server)
            self.taken_over = self.explained and code.value == _TAKEN_OVER
        self._down(f"lost: {code}")

    def _options(self, wanted: str) -> Any:
        assert self._subscriptions is not None
        # As published: so that a retained command shows as one also while we are here.
        as_published = wanted not in self._subscriptions.watched
        return SubscribeOptions(qos=1, retainAsPublished=as_published) if self.protocol == 5 else 1

    def _on_subscribe(self, _client: Any, _userdata: Any, _mid: int, codes: Any, _properties: Any) -> None:
        assert self._subscriptions is not None
        refused = [f"{w} ({c})" for w, c in zip(self._subscriptions.all, codes, strict=False) if c.is_failure]
        if refused:
            log.warning("mqtt: the broker does not let us listen to %s: look at its ACL", ", ".join(refused))

    def _on_message(self, _client: Any, _userdata: Any, message: Any) -> None:
        assert self._subscriptions is not None
        try:
            topic = message.topic
        except UnicodeDecodeError:  # a broker that lets that pass; nothing of ours is called so
            return
        told = getattr(message, "properties", None)
        self._subscriptions.receive(
            Inbound(
                topic,
                bytes(message.payload),
                bool(message.retain),
                getattr(told, "ResponseTopic", None),
                getattr(told, "CorrelationData", None),
            )
        )

    def _on_publish(self, _client: Any, _userdata: Any, mid: int, code: Any, _properties: Any) -> None:
        self._acknowledged.append((mid, str(code) if code.is_failure else None))
        self._wake()

    def _down(self, reason: str) -> None:
        if self.state is not LinkState.DOWN:
            self.reason = reason
            self.state = LinkState.DOWN
            self._wake()


@contextmanager
def subscription(
    settings: MqttSettings, topics: Sequence[str], on_message: Callable[[str, bytes], None]
) -> Iterator[None]:
    """Receive messages while the context lasts; for the demo, which watches its own broker.

    Args:
        on_message: called with topic and payload from paho's thread.
    """
    client = _client(settings, "", 4, tls_context(settings))
    client.on_connect = lambda c, *_: c.subscribe([(topic, 1) for topic in topics])
    client.on_message = lambda _c, _u, m: on_message(m.topic, bytes(m.payload))
    client.connect(settings.host, settings.port)
    client.loop_start()
    try:
        yield
    finally:
        client.disconnect()
        client.loop_stop()


def _client(
    settings: MqttSettings, client_id: str, protocol: Protocol, tls: ssl.SSLContext | None
) -> paho.Client:
    client = paho.Client(
        CallbackAPIVersion.VERSION2,
        client_id=client_id,
        protocol=MQTTProtocolVersion(protocol),
        reconnect_on_failure=False,
    )
    client.connect_timeout = settings.connect_timeout_s
    client.max_inflight_messages_set(0)  # our window is the publisher's
    if settings.username is not None:
        password = settings.password.get_secret_value() if settings.password else None
        client.username_pw_set(settings.username, password)
    if tls is not None:
        client.tls_set_context(tls)
    return client


def _let_go(client: paho.Client) -> None:
    """Wait for paho's thread, and untie the client from its connection.

    They hold each other, and paho closes its pair of sockets when the client is freed: what waited for the
    garbage collector was hundreds of files and all that was on its way, one night without a broker.
    """
    client.loop_stop()
    client.on_connect = client.on_connect_fail = client.on_disconnect = None
    client.on_publish = client.on_subscribe = client.on_message = None
