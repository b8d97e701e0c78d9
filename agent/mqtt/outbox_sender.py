"""The delivery: results out of the outbox, and what the board shows, over one connection after another."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable

from agent.base.wire import RESULT_SCHEMA
from agent.config.models_mqtt import MqttSettings
from agent.config.types import at_port
from agent.domain.publisher_stats import NOT_YET
from agent.mqtt.access import Access, tls_context
from agent.mqtt.client_id_conflict import ClientIdConflict
from agent.mqtt.connection import BrokerConnection, LinkState
from agent.mqtt.messages import Message, Subscriptions
from agent.mqtt.packets import Protocol, largest_inbound
from agent.mqtt.reconnect import Reconnector
from agent.mqtt.result_replay import ResultReplay
from agent.mqtt.retained_topics import RetainedTopics
from agent.payloads import result_payload
from agent.store.store import Outgoing, Store

log = logging.getLogger(__name__)

WINDOW = 64
"""Results on their way, or acknowledged and not yet struck off: what a crash can deliver twice."""
_GOODBYE_S = 2.0
_LEAVE_S = 0.5


class OutboxSender:
    """Connects, sends what was stored, and notes what the broker acknowledged; reads the outbox only.

    Owns the connection and what is on its way over it; the publisher's thread alone uses it.

    Args:
        store: of the outbox.
        mqtt: the broker's settings; None delivers nothing.
        board: retained topics, published at every connection and whenever they change.
        will: what the broker says in our name when we are gone.
        wake: called, from any thread, when something happened at the connection.
        inlet: what every connection listens to.
        access: certificates and password; read anew where it is None.

    Attributes:
        acknowledged: outbox ids that the broker has, not yet struck off the outbox.
        published: results acknowledged since the start.
        too_large: results that the broker cannot take, since the start; they stay stored.
        same_id: whether another agent uses our id.
        problem: one sentence, or None while all is well.

    Raises:
        ConfigError: the certificate files cannot be used.
    """

    def __init__(
        self,
        store: Store,
        mqtt: MqttSettings | None,
        client_id: str,
        result_topic: Callable[[str], str],
        board: RetainedTopics,
        will: Message,
        wake: Callable[[], None],
        subscriptions: Subscriptions | None = None,
        access: Access | None = None,
    ) -> None:
        self.acknowledged: set[int] = set()
        self.published = self.too_large = 0
        self.same_id = ClientIdConflict()
        self.problem: str | None = None if mqtt is None else NOT_YET

        self._store = store
        self._mqtt = mqtt
        if access is None and mqtt is not None:
            access = Access(mqtt, tls=tls_context(mqtt))
        self._access = access
        self._wanted = (mqtt, access)
        self._client_id = client_id
        self._result_topic = result_topic
        self._board = board
        self._will = will
        self._wake = wake
        self._subscriptions = subscriptions

        self._link: BrokerConnection | None = None
        self._dialing = None if mqtt is None else Reconnector(mqtt)
        self._answered_at = 0.0
        self._on_the_way: dict[int, int] = {}  # paho's message id -> outbox id
        self._repeats = ResultReplay(store, 1.0 if mqtt is None else mqtt.drain_per_s)
        self._repeated: dict[int, int] = {}  # paho's message id -> number of a result sent again
        self._to_show: deque[Message] = deque()  # of the board
        self._shown: dict[int, str] = {}  # paho's message id -> topic
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
        return self.problem is None and (self._sent_to < self._backlog_to or bool(self._repeats))

    @property
    def delivering(self) -> bool:
        """Whether results wait and the broker is there to take them."""
        return self.problem is None and self._mqtt is not None and self._store.waiting > 0

    def committed(self, newest: int) -> None:
        """Send results up to this outbox id too: they are on disk."""
        self._newest = newest

    def begin_again(self) -> None:
        """Send what waits over a new connection, as repeats: the outbox is another one.

        Raises:
            DiskTrouble: the outbox cannot be read now.
        """
        if self._link is not None:
            self._link.end("the store was made anew")
        self.acknowledged = set()
        self._on_the_way.clear()
        self._newest = self._attempted_to = self._backlog_to = self._store.newest_waiting()
        self._sent_to = 0

    def repeat(self, station: str, first: int, last: int) -> bool:
        """Send stored results again, when nothing newer waits; False where too many ranges wait already."""
        return self._repeats.add(station, first, last)

    def struck_off(self) -> None:
        """Forget what was acknowledged: it has left the outbox."""
        self.acknowledged = set()

    def use(self, mqtt: MqttSettings, access: Access | None = None) -> None:
        """Deliver like this from now on, over a new connection where the broker is reached another way.

        Any thread; not for a delivery that was made without a broker.

        Args:
            mqtt: the broker's settings.
            access: made for it, and used by nobody else; read anew where it is None.
        """
        self._wanted = (mqtt, access or Access(mqtt))

    def collect(self) -> None:
        """Take note of what the broker has answered."""
        if self._link is None:
            return
        for mid, refusal in self._link.acknowledged():
            self._answered_at = time.monotonic()
            topic = self._shown.pop(mid, None)
            if topic is not None:
                if refusal is not None and topic not in self._refused:
                    self._refused.add(topic)
                    log.warning("mqtt: the broker refuses %s: %s; not sent again", topic, refusal)
            elif mid in self._repeated and refusal is None:
                self._repeats.answered(self._repeated.pop(mid))
            elif refusal is not None:
                self._link.end(f"publishing refused: {refusal}")
            elif mid in self._on_the_way:
                self.acknowledged.add(self._on_the_way.pop(mid))
                self.published += 1

    def tend(self, now: float, *, ending: bool) -> None:
        """Connect where there is no connection, and give up one that is lost.

        Args:
            ending: no new connection is opened any more.
        """
        if self._mqtt is None:
            return
        self._adopt()
        assert self._dialing is not None
        if self._link is not None and self._silent(now):
            self._link.end("does not acknowledge")
        if self._link is not None and self._link.check() is LinkState.DOWN:
            self._drop(self._link, now)
        if self._link is None:
            if self._dialing.due(now) and not ending:
                self._dial(now, self._dialing.protocol)
        elif self._link.state is LinkState.UP and self.problem is not None:
            log.info("mqtt: connected to %s", at_port(self._mqtt.host, self._mqtt.port))
            self.problem = None
            self._dialing.up(now)
            self._answered_at = now
            self._sent_to = 0
            self._backlog_to = self._newest
            self._board.republish()

    def _dial(self, now: float, protocol: Protocol) -> None:
        """Begin to connect, where what the broker asks of us is there."""
        assert self._mqtt is not None
        assert self._access is not None
        if not self._access.ready(now):
            self.problem = self._access.problem
            return
        self._link = BrokerConnection(
            self._mqtt,
            self._client_id,
            protocol,
            self._will,
            self._wake,
            self._access.tls,
            self._subscriptions,
        )
        self._link.open()

    def send(self, now: float) -> None:
        """Send what changed on the board, then results in their order, as far as the windows allow.

        Raises:
            DiskTrouble: the outbox cannot be read now.
        """
        link = self._link
        # A link that came up just now is `tend`'s first: what the last one lost goes before what is new.
        if link is None or link.state is not LinkState.UP or self.problem is not None:
            return
        self._show(link)
        room = min(
            WINDOW - len(self._on_the_way) - len(self.acknowledged),
            self._window(link),
        )
        if room <= 0:
            return
        if self._sent_to >= self._newest:
            self._repeat(link, room, now)
            return
        rows = self._store.backlog(self._sent_to, room)
        if not rows:
            self._sent_to = self._newest  # over an earlier connection, and acknowledged there
        for row in rows:
            if row.id not in self.acknowledged:
                if row.id <= self._backlog_to and not self._may_drain(now):
                    break
                self._give(link, self._message(row), row, now)
            self._sent_to = row.id

    def _give(self, link: BrokerConnection, message: Message, row: Outgoing, now: float) -> None:
        if not link.fits(message):
            # It would end the connection, now and every time: it leaves the outbox, and stays in the store.
            self._tell_too_large(message.topic, link)
            self.too_large += 1
            self.acknowledged.add(row.id)
            return
        if not self._on_the_way:
            self._answered_at = now  # from here on an answer is due
        self._on_the_way[link.publish(message)] = row.id
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
        for station, stored in self._repeats.take(room - len(self._repeated), now):
            message = self._result(station, result_payload.replayed(stored.payload))
            if link.fits(message):
                self._repeated[link.publish(message)] = stored.seq
            else:
                self._tell_too_large(message.topic, link)
                self._repeats.answered(stored.seq)

    def _window(self, link: BrokerConnection) -> int:
        """Return how many messages the broker takes now."""
        return link.window - len(self._on_the_way) - len(self._shown) - len(self._repeated)

    def leave(self, farewell: Message) -> None:
        """Say farewell where there is a connection, and end it."""
        if self._link is None:
            return
        if self._link.state is LinkState.UP:
            self._show(self._link)
            last = self._link.publish(farewell)
            deadline = time.monotonic() + _GOODBYE_S
            answered = False
            while not answered and time.monotonic() < deadline and self._link.state is LinkState.UP:
                answered = any(mid == last for mid, _ in self._link.acknowledged())
                time.sleep(0.005)
        self._link.close(_LEAVE_S)

    def _adopt(self) -> None:
        """Take over the settings that are wanted."""
        mqtt, access = self._wanted
        if mqtt is self._mqtt:
            return
        assert mqtt is not None
        assert self._mqtt is not None
        assert self._dialing is not None
        self._dialing.use(mqtt)
        self._next_drain_at = 0.0  # a wait by another pace may be a long one
        if _way(mqtt) != _way(self._mqtt):
            self._dialing = Reconnector(mqtt)
            if self._link is not None:
                self._link.end("the settings have changed")
        self._mqtt, self._access = mqtt, access
        self._repeats.use(mqtt.drain_per_s)

    def _silent(self, now: float) -> bool:
        """Say whether a broker that seems well has acknowledged nothing for too long."""
        assert self._mqtt is not None
        return bool(self._on_the_way) and now - self._answered_at > 2 * self._mqtt.keepalive_s

    def _drop(self, link: BrokerConnection, now: float) -> None:
        assert self._mqtt is not None
        assert self._dialing is not None
        if link.was_up:
            up_s = self._dialing.up_s(now)
            self.same_id.lost(now, up_s=up_s, taken_over=link.taken_over, explained=link.explained)
        fought_over = link.was_up and self.same_id.problem(now) is not None
        wait_s = self._dialing.lost(link, now, fought_over=fought_over)
        self.collect()
        problem = f"{at_port(self._mqtt.host, self._mqtt.port)}: {link.reason}"
        if problem != self.problem:
            log.warning("mqtt: %s; results wait on disk, next try in %.1f s", problem, wait_s)
        self.problem = problem
        self._on_the_way.clear()
        self._shown.clear()
        self._repeated.clear()
        self._repeats.rewind()
        self._to_show.clear()
        link.close()
        self._link = None

    def _show(self, link: BrokerConnection) -> None:
        """Send what changed on the board, as far as the broker's window allows."""
        self._to_show.extend(self._board.take(set(self._shown.values()), link.largest))
        while self._to_show and self._window(link) > 0:
            message = self._to_show.popleft()
            # mosquitto 2.0.11 ends an MQTT 5 connection after each refusal: one such topic would end all.
            if not link.fits(message):
                self._tell_too_large(message.topic, link)
            elif message.topic not in self._refused:
                self._shown[link.publish(message)] = message.topic

    def _may_drain(self, now: float) -> bool:
        """Pace the backlog, so that a broker that comes back is not flooded by every agent of the plant."""
        assert self._mqtt is not None
        if now < self._next_drain_at:
            return False
        self._next_drain_at = max(self._next_drain_at, now - 0.1) + 1.0 / self._mqtt.drain_per_s
        return True

    def _message(self, row: Outgoing) -> Message:
        text = result_payload.replayed(row.payload) if row.id <= self._attempted_to else row.payload
        return self._result(row.station, text)

    def _result(self, station: str, text: str) -> Message:
        return Message(self._result_topic(station), text.encode(), 1, False, RESULT_SCHEMA)


def _way(mqtt: MqttSettings) -> tuple[object, ...]:
    """Return what a connection is made with."""
    made = mqtt.model_dump(exclude={"reconnect", "drain_per_s", "stats_interval_s", "commands"})
    return made, largest_inbound(mqtt)
