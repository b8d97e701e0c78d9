"""What the agent shows of itself: retained topics for whoever connects late, and single events."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Set
from dataclasses import dataclass, field
from datetime import UTC, datetime

from agent.base.codec import JSON, dumps
from agent.base.wire import STATE_SCHEMA
from agent.domain.verdict import Verdict
from agent.mqtt.messages import Message
from agent.payloads import result_payload

MAX_EVENTS = 1000
"""Events that may wait for a connection; the audit trail on disk has all of them."""
MAX_ANSWERS = 1000
"""Answers to commands that may wait for a connection; they are of no use for long."""
MAX_CLEARED = 10_000
"""Topics of stations that are gone which are known to be cleared; the broker has forgotten older ones."""
_STATE_EVERY_S = 1.0
_ANY_SIZE = 268_435_460
_LONG_AGO = datetime.min.replace(tzinfo=UTC)


class RetainedTopics:
    """A topic that changes twice before it is sent is sent once, with its newest content.

    Of events and of answers each is sent; when 1000 wait for a connection the oldest is lost first, and
    counted.
    A topic that was cleared stays cleared, whoever comes late with something for it, until it is expected
    again.
    Any thread may write; the publisher's thread takes.

    Args:
        state_topic: station -> topic of its retained state.
    """

    def __init__(self, state_topic: Callable[[str], str]) -> None:
        self.on_change: Callable[[], None] = lambda: None
        self._state_topic = state_topic
        self._lock = threading.Lock()
        self._retained: dict[str, Message] = {}
        self._changed: dict[str, Message] = {}
        self._later: dict[str, Callable[[int], Message | None]] = {}
        self._stations: dict[str, _StationState] = {}
        self._cleared: dict[str, None] = {}  # topics, the oldest first
        self._events: deque[Message] = deque()
        self._answers: deque[Message] = deque()
        self.lost_events = self.lost_answers = 0

    def tell(self, event: Message) -> None:
        """Send something that happened, once there is a connection."""
        with self._lock:
            if len(self._events) >= MAX_EVENTS:
                self._events.popleft()
                self.lost_events += 1
            self._events.append(event)
        self.on_change()

    def answer(self, message: Message) -> None:
        """Send what a client asked for, once there is a connection."""
        with self._lock:
            if len(self._answers) >= MAX_ANSWERS:
                self._answers.popleft()
                self.lost_answers += 1
            self._answers.append(message)
        self.on_change()

    def again(self, topic: str) -> None:
        """Send what is retained under a topic once more, though it has not changed."""
        with self._lock:
            if topic in self._retained:
                self._changed[topic] = self._retained[topic]
        self.on_change()

    def set(self, message: Message) -> None:
        """Show a message under its topic; one that is not retained is sent once, if connected soon."""
        with self._lock:
            if message.topic in self._cleared:
                return
            if message.retain:
                if self._retained.get(message.topic) == message:
                    return
                self._retained[message.topic] = message
            self._changed[message.topic] = message
        self.on_change()

    def shown(self, topic: str) -> bytes | None:
        """Return what is retained under a topic; None where nothing is."""
        with self._lock:
            found = self._retained.get(topic)
        return None if found is None else found.payload

    def clear(self, station: str, topics: Iterable[str]) -> None:
        """Show nothing more under these topics of a station, and have the broker forget them."""
        with self._lock:
            for topic in topics:
                self._retained.pop(topic, None)
                self._later.pop(topic, None)
                self._changed[topic] = _nothing(topic)
                self._cleared[topic] = None
                if topic == self._state_topic(station):
                    self._stations.pop(station, None)
            while len(self._cleared) > MAX_CLEARED:
                del self._cleared[next(iter(self._cleared))]
        self.on_change()

    def expect(self, topics: Iterable[str]) -> None:
        """Show what comes for these topics from now on, also where they were cleared."""
        with self._lock:
            for topic in topics:
                self._cleared.pop(topic, None)

    def defer(self, topic: str, compose: Callable[[int], Message | None]) -> None:
        """Show under `topic` what `compose` returns once there is a connection; only the newest is asked.

        Args:
            topic: of the message.
            compose: takes the bytes of a packet that the broker takes; None where it cannot be so small.
        """
        with self._lock:
            if topic in self._cleared:
                return
            self._later[topic] = compose
        self.on_change()

    def count(self, verdicts: Iterable[Verdict], last_seq: Callable[[str], int]) -> None:
        """Bring the stations' states up to date with verdicts that were stored.

        Args:
            verdicts: in order.
            last_seq: station -> number of the last one.
        """
        with self._lock:
            for verdict in verdicts:
                if self._state_topic(verdict.station) in self._cleared:
                    continue
                state = self._stations.setdefault(verdict.station, _StationState())
                state.add(verdict)
                state.seq = last_seq(verdict.station)

    def take(self, busy: Set[str] = frozenset(), largest: int = _ANY_SIZE) -> list[Message]:
        """Return what happened and what changed since the last call.

        Args:
            busy: topics whose last message is still on its way. A picture for one of them is not composed
                yet, so that on a slow line the newest waits, not a queue of all of them.
            largest: bytes of a packet that the broker takes.
        """
        now = time.monotonic()
        with self._lock:
            due = {name: state.shown(now) for name, state in self._stations.items() if state.due(now)}
        for station, shown in due.items():
            body = dumps(shown).encode()
            self.set(Message(self._state_topic(station), body, 1, True, STATE_SCHEMA))
        with self._lock:
            later = {topic: compose for topic, compose in self._later.items() if topic not in busy}
            self._later = {topic: self._later[topic] for topic in self._later.keys() - later.keys()}
        for compose in later.values():
            if (message := compose(largest)) is not None:
                self.set(message)
        with self._lock:
            changed, self._changed = self._changed, {}
            told = [*self._events, *self._answers]
            self._events.clear()
            self._answers.clear()
        return [*told, *changed.values()]

    def republish(self) -> None:
        """Send every retained topic again; a broker that was restarted may have forgotten them.

        That a topic was cleared is sent again too: the connection before may have lost it.
        """
        with self._lock:
            gone = {topic: _nothing(topic) for topic in self._cleared}
            self._changed = {**gone, **self._retained, **self._changed}


def _nothing(topic: str) -> Message:
    """Return the message by which a broker forgets what it keeps under a topic."""
    return Message(topic, b"", 1, True)


@dataclass(slots=True)
class _StationState:
    """Present verdict and counters of one station; whoever uses it holds the lock of the retained topics."""

    newest: Verdict | None = None
    seq: int = 0
    since: datetime = _LONG_AGO
    counts: Counter[str] = field(default_factory=Counter)
    changed: bool = False
    dirty: bool = False
    shown_at: float = 0.0

    def add(self, verdict: Verdict) -> None:
        if self.newest is None or self.newest.decision.verdict is not verdict.decision.verdict:
            self.since = verdict.decided_at
            self.changed = True
        self.newest = verdict
        self.counts[verdict.decision.verdict.value] += 1
        self.dirty = True

    def due(self, now: float) -> bool:
        """A new verdict is shown at once, mere counting once a second."""
        return self.changed or (self.dirty and now - self.shown_at >= _STATE_EVERY_S)

    def shown(self, now: float) -> JSON:
        assert self.newest is not None
        self.changed = self.dirty = False
        self.shown_at = now
        return result_payload.state(self.newest, self.seq, self.since, self.counts)
