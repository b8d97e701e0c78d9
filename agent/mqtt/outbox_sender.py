"""Sends results out of the outbox, and retained topics, over the link to the broker."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable

from agent.config.models_mqtt import MqttSettings
from agent.mqtt.access import Access
from agent.mqtt.broker_link import BrokerLink
from agent.mqtt.connection import BrokerConnection
from agent.mqtt.in_flight import WINDOW, InFlight
from agent.mqtt.messages import Message, Subscriptions
from agent.mqtt.result_replay import ResultReplay
from agent.mqtt.retained_topics import RetainedTopics
from agent.payloads import result_payload
from agent.store.outbox import Outgoing
from agent.store.store import Store

log = logging.getLogger(__name__)


class OutboxSender:
    """Connects, sends what was stored, and notes what the broker acknowledged; reads the outbox only.

    Owns how far the outbox was sent; the publisher's thread alone uses it.

    Args:
        store: of the outbox.
        mqtt: the broker's settings; None delivers nothing.
        retained: retained topics, published at every connection and whenever they change.
        will: what the broker says in our name when we are gone.
        wake: called, from any thread, when something happened at the connection.
        inlet: what every connection listens to.
        access: certificates and password; read anew where it is None.

    Attributes:
        in_flight: what is on its way over the connection, or acknowledged and not yet struck off.
        too_large: results that the broker cannot take, since the start; they stay stored.
        link: the connection, and what is wrong with it.

    Raises:
        ConfigError: the certificate files cannot be used.
    """

    def __init__(
        self,
        store: Store,
        mqtt: MqttSettings | None,
        client_id: str,
        result_topic: Callable[[str], str],
        retained: RetainedTopics,
        will: Message,
        wake: Callable[[], None],
        subscriptions: Subscriptions | None = None,
        access: Access | None = None,
    ) -> None:
        self.in_flight = InFlight()
        self.too_large = 0
        self.link = BrokerLink(mqtt, client_id, will, wake, subscriptions, access)
        self._store = store
        self._result_topic = result_topic
        self._retained = retained
        self._repeats = ResultReplay(store, 1.0 if mqtt is None else mqtt.drain_per_s)
        self._to_show: deque[Message] = deque()  # of the retained topics
        self._too_large: set[str] = set()  # topics of messages that the broker cannot take
        self._refused: set[str] = set()  # topics that the broker does not take, until a restart
        self._sent_to = 0  # highest outbox id given to the present connection
        self._newest = store.newest_waiting()  # highest outbox id that was committed
        self._attempted_to = self._newest  # highest outbox id that any connection may have carried
        self._backlog_to = self._newest  # up to here the drain is paced
        self._next_drain_at = 0.0

    @property
    def draining(self) -> bool:
        """Whether results from before the present connection, or asked for again, are to be sent over it."""
        return self.link.problem is None and (self._sent_to < self._backlog_to or bool(self._repeats))

    @property
    def delivering(self) -> bool:
        """Whether results wait and the broker is there to take them."""
        return self.link.problem is None and self.link.mqtt is not None and self._store.waiting > 0

    def committed(self, newest: int) -> None:
        """Send results up to this outbox id too: they are on disk."""
        self._newest = newest

    def begin_again(self) -> None:
        """Send what waits over a new connection, as repeats: the outbox is another one.

        Raises:
            DiskTrouble: the outbox cannot be read now.
        """
        self.link.end("the store was made anew")
        self.in_flight.struck_off()
        self.in_flight.clear_results()
        self._newest = self._attempted_to = self._backlog_to = self._store.newest_waiting()
        self._sent_to = 0

    def repeat(self, station: str, first: int, last: int) -> bool:
        """Send stored results again, when nothing newer waits; False where too many ranges wait already."""
        return self._repeats.add(station, first, last)

    def use(self, mqtt: MqttSettings, access: Access | None = None) -> None:
        """Deliver like this from now on, over a new connection where the broker is reached another way.

        Any thread; not for a delivery that was made without a broker.

        Args:
            mqtt: the broker's settings.
            access: made for it, and used by nobody else; read anew where it is None.
        """
        self.link.use(mqtt, access)

    def collect(self) -> None:
        """Take note of what the broker has answered."""
        link, sent = self.link.connection, self.in_flight
        if link is None:
            return
        for mid, refusal in link.acknowledged():
            sent.answered(time.monotonic())
            topic = sent.shown.pop(mid, None)
            if topic is not None:
                if refusal is not None and topic not in self._refused:
                    self._refused.add(topic)
                    log.warning("mqtt: the broker refuses %s: %s; not sent again", topic, refusal)
            elif mid in sent.repeated and refusal is None:
                self._repeats.answered(sent.repeated.pop(mid))
            elif refusal is not None:
                link.end(f"publishing refused: {refusal}")
            else:
                sent.acknowledge(mid)

    def tend(self, now: float, *, ending: bool) -> None:
        """Connect where there is no connection, and give up one that is lost.

        Args:
            ending: no new connection is opened any more.
        """
        link = self.link
        if link.mqtt is None:
            return
        if link.adopt():
            self._next_drain_at = 0.0  # a wait by another pace may be a long one
            self._repeats.use(link.mqtt.drain_per_s)
        if self.in_flight.silent(now, 2 * link.mqtt.keepalive_s):
            link.end("does not acknowledge")
        if link.drop_lost(now, self.collect):
            self.in_flight.clear()
            self._repeats.rewind()
            self._to_show.clear()
        if link.connection is None:
            if not ending:
                link.dial(now)
        elif link.came_up(now):
            self.in_flight.answered(now)
            self._sent_to = 0
            self._backlog_to = self._newest
            self._retained.republish()

    def send(self, now: float) -> None:
        """Send what changed on the retained topics, then results in their order, as far as the windows allow.

        Raises:
            DiskTrouble: the outbox cannot be read now.
        """
        # A link that came up just now is `tend`'s first: what the last one lost goes before what is new.
        link = self.link.up
        if link is None:
            return
        self._show(link)
        room = min(WINDOW - self.in_flight.results(), self._window(link))
        if room <= 0:
            return
        if self._sent_to >= self._newest:
            self._repeat(link, room, now)
            return
        rows = self._store.backlog(self._sent_to, room)
        if not rows:
            self._sent_to = self._newest  # over an earlier connection, and acknowledged there
        for row in rows:
            if row.id not in self.in_flight.acknowledged:
                if row.id <= self._backlog_to and not self._may_drain(now):
                    break
                self._give(link, self._message(row), row, now)
            self._sent_to = row.id

    def _give(self, link: BrokerConnection, message: Message, row: Outgoing, now: float) -> None:
        if not link.fits(message):
            # It would end the connection, now and every time: it leaves the outbox, and stays in the store.
            self._tell_too_large(message.topic, link)
            self.too_large += 1
            self.in_flight.acknowledged.add(row.id)
            return
        self.in_flight.expect_answer(now)
        self.in_flight.add(link.publish(message), row.id)
        self._attempted_to = max(self._attempted_to, row.id)

    def _tell_too_large(self, topic: str, link: BrokerConnection) -> None:
        if topic not in self._too_large:
            self._too_large.add(topic)
            log.warning(
                "mqtt: %s: not sent, the broker takes %d bytes at most (its max_packet_size)",
                topic,
                link.largest,
            )

    def _repeat(self, link: BrokerConnection, room: int, now: float) -> None:
        """Send what was asked for again; what is new goes before it."""
        for station, stored in self._repeats.take(room - len(self.in_flight.repeated), now):
            message = self._result(station, stored.payload, replayed=True)
            if link.fits(message):
                self.in_flight.repeated[link.publish(message)] = stored.seq
            else:
                self._tell_too_large(message.topic, link)
                self._repeats.answered(stored.seq)

    def _window(self, link: BrokerConnection) -> int:
        """Return how many messages the broker takes now."""
        return link.window - self.in_flight.unanswered()

    def leave(self, farewell: Message) -> None:
        """Say farewell where there is a connection, and end it."""
        self.link.leave(self._show, farewell)

    def _show(self, link: BrokerConnection) -> None:
        """Send what changed on the retained topics, as far as the broker's window allows."""
        self._to_show.extend(self._retained.take(set(self.in_flight.shown.values()), link.largest))
        while self._to_show and self._window(link) > 0:
            message = self._to_show.popleft()
            # mosquitto 2.0.11 ends an MQTT 5 connection after each refusal: one such topic would end all.
            if not link.fits(message):
                self._tell_too_large(message.topic, link)
            elif message.topic not in self._refused:
                self.in_flight.shown[link.publish(message)] = message.topic

    def _may_drain(self, now: float) -> bool:
        """Pace the backlog, so that a broker that comes back is not flooded by every agent of the plant."""
        assert self.link.mqtt is not None
        if now < self._next_drain_at:
            return False
        self._next_drain_at = max(self._next_drain_at, now - 0.1) + 1.0 / self.link.mqtt.drain_per_s
        return True

    def _message(self, row: Outgoing) -> Message:
        return self._result(row.station, row.payload, replayed=row.id <= self._attempted_to)

    def _result(self, station: str, stored: str, *, replayed: bool) -> Message:
        """Return a result in the version that is wanted now: it may have been stored in another one."""
        assert self.link.mqtt is not None
        text, schema = result_payload.published(stored, self.link.mqtt.result_version, replayed=replayed)
        return Message(self._result_topic(station), text.encode(), 1, False, schema)
