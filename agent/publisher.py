"""Thread `publisher`: verdicts to disk, then to the broker, and the retained picture of the agent."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from agent import payloads
from agent.board import Board
from agent.config import MqttSettings
from agent.mqtt import Link, LinkState, Message, Protocol, tls_context
from agent.store import DiskTrouble, Outgoing, Store
from agent.verdict import Verdict

log = logging.getLogger(__name__)

MAX_PENDING = 10_000
"""Verdicts that may wait in memory for the disk: at 100 parts a second, a full disk for 100 seconds."""
WINDOW = 64
"""Results on their way, or acknowledged and not yet struck off: what a crash can deliver twice."""
_RETRY_STORE_S = 1.0
_STRIKE_OFF_S = 0.25
_GOODBYE_S = 2.0
_LEAVE_S = 0.5


@dataclass(frozen=True, slots=True)
class PublisherStats:
    """What the publisher has done since the start.

    Attributes:
        lost: verdicts that never reached the disk, because it was full for too long.
        given_up: verdicts on disk whose delivery was given up, because too many waited.
        waiting: results not yet delivered.
        store_problem, link_problem: one sentence, or None while all is well.
    """

    stored: int
    published: int
    waiting: int
    lost: int
    given_up: int
    store_problem: str | None
    link_problem: str | None


class Publisher:
    """When 10 000 verdicts wait for the disk, `put` waits; is the disk full, the oldest are lost, counted.

    Owns the store and the connection: everything that touches either happens in `run`, in one thread.
    A verdict is committed first and published then. It leaves the outbox at its PUBACK. After a lost
    connection or a restart everything unacknowledged is sent again, in order, with `replayed` true.

    Args:
        mqtt: the broker's settings; None stores without publishing.
        board: retained topics, published at every connection and whenever they change.
        will: what the broker says in our name when we are gone.

    Raises:
        ConfigError: the certificate files cannot be used.
    """

    def __init__(
        self,
        store: Store,
        mqtt: MqttSettings | None,
        client_id: str,
        result_topic: Callable[[str], str],
        board: Board,
        will: Message,
    ) -> None:
        self._store = store
        self._mqtt = mqtt
        self._tls = None if mqtt is None else tls_context(mqtt)
        self._client_id = client_id
        self._result_topic = result_topic
        self._board = board
        self._will = will

        self._wake = threading.Event()
        board.on_change = self._wake.set
        self._stop_at: float | None = None
        self._farewell = will
        self._space = threading.Condition()
        self._pending: deque[Verdict] = deque()

        self._link: Link | None = None
        self._protocol: Protocol = _first_protocol(mqtt)
        self._retry_link_at = 0.0
        self._delay_s = 0.0
        self._up_at = self._answered_at = 0.0
        self._on_the_way: dict[int, int] = {}  # paho's message id -> outbox id
        self._to_show: deque[Message] = deque()  # of the board
        self._shown: dict[int, str] = {}  # paho's message id -> topic
        self._refused: set[str] = set()  # topics that the broker does not take, until a restart
        self._struck: set[int] = set()  # acknowledged, not yet struck off the outbox
        self._struck_at = 0.0
        self._sent_to = 0  # highest outbox id given to the present connection
        self._newest = store.newest_waiting()  # highest outbox id that was committed
        self._attempted_to = self._newest  # highest outbox id that any connection may have carried
        self._backlog_to = self._newest  # up to here the drain is paced
        self._next_drain_at = 0.0

        self._stored = self._published = self._lost = 0
        self._retry_store_at = 0.0
        self._store_problem: str | None = None
        self._link_problem: str | None = None if mqtt is None else "not connected yet"

    def put(self, verdicts: Sequence[Verdict]) -> None:
        """Take verdicts over, in order; from any thread."""
        with self._space:
            while len(self._pending) >= MAX_PENDING and self._store_problem is None:
                self._space.wait(0.1)
            self._pending.extend(verdicts)
        self._wake.set()

    def stop(self, drain_s: float, farewell: Message) -> None:
        """Let `run` end: everything stored, and delivered as far as the broker takes it within `drain_s`.

        Args:
            farewell: the last message, in place of the will.
        """
        self._farewell = farewell
        self._stop_at = time.monotonic() + drain_s
        self._wake.set()

    def stats(self) -> PublisherStats:
        """Return the present numbers; from any thread."""
        return PublisherStats(
            stored=self._stored,
            published=self._published,
            waiting=self._store.waiting + len(self._pending),
            lost=self._lost,
            given_up=self._store.given_up,
            store_problem=self._store_problem,
            link_problem=self._link_problem,
        )

    def run(self) -> None:
        """Store, connect, send, until `stop`."""
        while not self._finished():
            self._wake.wait(self._patience())
            self._wake.clear()
            now = time.monotonic()
            self._write(now)
            self._tend_link(now)
            self._send(now)
        self._say_goodbye()
        self._store.close()
        with self._space:
            unwritten, self._lost = len(self._pending), self._lost + len(self._pending)
            self._pending.clear()
        if unwritten:
            log.error("store: the end came before %d verdicts were on disk, they are lost", unwritten)

    # Store.

    def _write(self, now: float) -> None:
        """Commit what waits, and strike off what was acknowledged; one transaction for both."""
        self._collect_acknowledged()
        due = (
            bool(self._pending)
            or len(self._struck) >= WINDOW // 2
            or (bool(self._struck) and now - self._struck_at >= _STRIKE_OFF_S)
        )
        if (not due and self._stop_at is None) or now < self._retry_store_at:
            return
        with self._space:
            batch = list(self._pending)
        try:
            rows = self._store.commit(batch, sorted(self._struck))
        except DiskTrouble as error:
            self._trouble(error, now)
            self._lose_oldest()
            if batch:
                self._strike_off(now)
            return
        if self._store_problem is not None:
            log.warning("store: works again, %d verdicts were lost meanwhile", self._lost)
        self._store_problem = None
        self._struck, self._struck_at = set(), now
        self._newest = rows[-1].id if rows else self._newest
        self._stored += len(batch)
        with self._space:
            for _ in batch:
                self._pending.popleft()
            self._space.notify_all()
        self._board.count(batch)

    def _strike_off(self, now: float) -> None:
        """Strike off what was acknowledged, where the disk has room for that at least."""
        try:
            self._store.commit([], sorted(self._struck))
        except DiskTrouble:
            return  # told a moment ago
        self._struck, self._struck_at = set(), now

    def _trouble(self, error: DiskTrouble, now: float) -> None:
        self._retry_store_at = now + _RETRY_STORE_S
        if self._store_problem is None:
            log.error("%s; inspection goes on, %d verdicts wait in memory", error, len(self._pending))
        self._store_problem = str(error)

    def _lose_oldest(self) -> None:
        with self._space:
            while len(self._pending) > MAX_PENDING:
                self._pending.popleft()
                self._lost += 1

    # Connection.

    def _tend_link(self, now: float) -> None:
        if self._mqtt is None:
            return
        if self._link is not None and self._silent(now):
            self._link.end("does not acknowledge")
        if self._link is not None and self._link.check() is LinkState.DOWN:
            self._drop_link(self._link, now)
        if self._link is None and now >= self._retry_link_at and self._stop_at is None:
            self._link = Link(
                self._mqtt, self._client_id, self._protocol, self._will, self._wake.set, self._tls
            )
            self._link.open()
        elif self._link is not None and self._link.state is LinkState.UP and self._link_problem is not None:
            log.info("mqtt: connected to %s:%d", self._mqtt.host, self._mqtt.port)
            self._link_problem = None
            self._up_at = self._answered_at = now
            self._sent_to = 0
            self._backlog_to = self._newest
            self._board.republish()

    def _silent(self, now: float) -> bool:
        """Say whether a broker that seems well has acknowledged nothing for too long."""
        assert self._mqtt is not None
        return bool(self._on_the_way) and now - self._answered_at > 2 * self._mqtt.keepalive_s

    def _drop_link(self, link: Link, now: float) -> None:
        assert self._mqtt is not None
        reconnect = self._mqtt.reconnect
        if link.was_up:
            # What it spoke may have been the fallback of a bad moment.
            self._protocol = _first_protocol(self._mqtt)
            # A broker that takes us and throws us out again is not called every second.
            if now - self._up_at > reconnect.max_s:
                self._delay_s = 0.0
        elif link.speaks_other_protocol and _first_protocol(self._mqtt) == 5:
            self._protocol = 4 if link.protocol == 5 else 5
            log.info(
                "mqtt: the broker does not take MQTT %s, trying the other",
                "5" if link.protocol == 5 else "3.1.1",
            )
        self._delay_s = min(max(2 * self._delay_s, reconnect.initial_s), reconnect.max_s)
        wait_s = self._delay_s * (1 + reconnect.jitter * random.uniform(-1, 1))  # noqa: S311 - no secret
        self._retry_link_at = now + wait_s
        self._collect_acknowledged()
        problem = f"{self._mqtt.host}:{self._mqtt.port}: {link.reason}"
        if problem != self._link_problem:
            log.warning("mqtt: %s; results wait on disk, next try in %.1f s", problem, wait_s)
        self._link_problem = problem
        self._on_the_way.clear()
        self._shown.clear()
        self._to_show.clear()
        link.close()
        self._link = None

    def _collect_acknowledged(self) -> None:
        if self._link is None:
            return
        for mid, refusal in self._link.acknowledged():
            self._answered_at = time.monotonic()
            topic = self._shown.pop(mid, None)
            if topic is not None:
                if refusal is not None and topic not in self._refused:
                    self._refused.add(topic)
                    log.warning("mqtt: the broker refuses %s: %s; not sent again", topic, refusal)
            elif refusal is not None:
                self._link.end(f"publishing refused: {refusal}")
            elif mid in self._on_the_way:
                self._struck.add(self._on_the_way.pop(mid))
                self._published += 1

    # Sending.

    def _send(self, now: float) -> None:
        link = self._link
        if link is None or link.state is not LinkState.UP:
            return
        self._show(link)
        room = min(
            WINDOW - len(self._on_the_way) - len(self._struck),
            link.window - len(self._on_the_way) - len(self._shown),
        )
        if room <= 0 or self._sent_to >= self._newest:
            return
        try:
            rows = self._store.backlog(self._sent_to, room)
        except DiskTrouble as error:
            self._trouble(error, now)
            return
        for row in rows:
            if row.id not in self._struck:
                if row.id <= self._backlog_to and not self._may_drain(now):
                    break
                if not self._on_the_way:
                    self._answered_at = now  # from here on an answer is due
                self._on_the_way[link.publish(self._message(row))] = row.id
                self._attempted_to = max(self._attempted_to, row.id)
            self._sent_to = row.id

    def _show(self, link: Link) -> None:
        """Send what changed on the board, as far as the broker's window allows."""
        self._to_show.extend(self._board.take(set(self._shown.values())))
        while self._to_show and len(self._on_the_way) + len(self._shown) < link.window:
            message = self._to_show.popleft()
            # mosquitto 2.0.11 ends an MQTT 5 connection after each refusal: one such topic would end all.
            if message.topic not in self._refused:
                self._shown[link.publish(message)] = message.topic

    def _may_drain(self, now: float) -> bool:
        """Pace the backlog, so that a broker that comes back is not flooded by every agent of the plant."""
        assert self._mqtt is not None
        if now < self._next_drain_at:
            return False
        self._next_drain_at = max(self._next_drain_at, now - 0.1) + 1.0 / self._mqtt.drain_per_s
        return True

    def _message(self, row: Outgoing) -> Message:
        text = payloads.replayed(row.payload) if row.id <= self._attempted_to else row.payload
        return Message(self._result_topic(row.station), text.encode(), 1, False, payloads.RESULT_SCHEMA)

    # Ending.

    def _patience(self) -> float:
        if self._stop_at is not None:
            return 0.01
        draining = self._link_problem is None and self._sent_to < self._backlog_to
        return 0.02 if draining else _STRIKE_OFF_S

    def _finished(self) -> bool:
        if self._stop_at is None:
            return False
        if time.monotonic() >= self._stop_at:
            return True
        undelivered = self._link_problem is None and self._mqtt is not None and self._store.waiting > 0
        return not self._pending and not self._struck and not undelivered

    def _say_goodbye(self) -> None:
        if self._link is None:
            return
        if self._link.state is LinkState.UP:
            self._show(self._link)
            farewell = self._link.publish(self._farewell)
            deadline = time.monotonic() + _GOODBYE_S
            answered = False
            while not answered and time.monotonic() < deadline and self._link.state is LinkState.UP:
                answered = any(mid == farewell for mid, _ in self._link.acknowledged())
                time.sleep(0.005)
        self._link.close(_LEAVE_S)


def _first_protocol(mqtt: MqttSettings | None) -> Protocol:
    """Return what a broker is addressed in first; the embedded one knows 3.1.1 only."""
    return 4 if mqtt is not None and (mqtt.protocol == 311 or mqtt.embedded_broker) else 5
