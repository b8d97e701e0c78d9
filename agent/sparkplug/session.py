"""Thread `sparkplug`: the agent as an edge node of Sparkplug B, its stations as devices."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from agent import __version__
from agent.base.rate_limiter import RateLimiter
from agent.config.models import Config
from agent.config.models_mqtt import MqttSettings
from agent.domain.conditions import Condition
from agent.mqtt.access import Access
from agent.mqtt.bounded_inbox import Inbox
from agent.mqtt.connection import BrokerConnection
from agent.mqtt.messages import Inbound, Message, Subscriptions
from agent.sparkplug.buffer import CAPACITY, Book, LearningEvent
from agent.sparkplug.connection import Connection
from agent.sparkplug.edge_node import REBIRTH, EdgeNode
from agent.sparkplug.metrics import DEVICE, NodeNow, Reading, Readings, nothing, of_camera, of_node
from agent.sparkplug.payload import PayloadError, decode, require_protobuf
from agent.sparkplug.primary_host import PrimaryHost
from camera.feed.stats import FeedStats

log = logging.getLogger(__name__)

_TICK_S = 0.25
_CAMERA_EVERY_S = 10.0
_REBIRTHS_PER_S = 1.0
_COMPLAINTS_PER_S = 0.1
_Compose = Callable[[str, Sequence[Readings], int], list[Message]]


class Sparkplug:
    """When 1000 results wait for a host, the oldest is lost, and counted in a metric.

    Owns the edge node, its connection and what hosts were told; everything that touches either happens in
    `run`, in one thread. What waits for it waits in the `book`.

    Args:
        config: whose section `sparkplug` is enabled.
        node: asked how the agent is doing; from the session's thread.
        feeds: asked how the cameras are doing; from the session's thread.
        access: certificates and password of the broker; read anew where it is None.

    Attributes:
        book: takes results that are on disk, and what is learned.

    Raises:
        ConfigError: protobuf is not installed, or certificate files cannot be used.
    """

    def __init__(
        self,
        config: Config,
        node: Callable[[], NodeNow],
        feeds: Callable[[], Sequence[FeedStats]],
        access: Access | None = None,
    ) -> None:
        require_protobuf()
        settings = config.sparkplug
        self._wake = threading.Event()
        self.book = Book(self._wake.set)
        self._now_of_node, self._feeds = node, feeds
        self._largest = config.mqtt.commands.max_payload_kb * 1024
        self._node = EdgeNode(settings.group_id, settings.edge_node_id or config.agent.id)
        self._host = PrimaryHost(settings.host_id)
        self._connection = Connection(
            config.mqtt,
            f"mekiki-{config.agent.id}-sparkplug",
            self._node,
            Path(config.agent.data_dir),
            self._subscriptions,
            self._wake.set,
            access,
        )
        self._session: BrokerConnection | None = None  # the connection that this is about
        self._born = self._rebirth_asked = False
        self._inbox = Inbox()
        self._rebirths = RateLimiter(_REBIRTHS_PER_S)
        self._complaints = RateLimiter(_COMPLAINTS_PER_S)
        self._stopping = threading.Event()
        self._stations: dict[str, dict[str, Reading]] = {}
        self._past: deque[LearningEvent] = deque()
        self._not_told = 0
        self._camera_at = 0.0

    def use(self, mqtt: MqttSettings, access: Access | None = None) -> None:
        """Reach the broker like this from now on, over a new connection where that differs; any thread."""
        self._connection.use(mqtt, access)
        self._wake.set()

    def conditions(self) -> list[Condition]:
        """Return what is wrong; any thread may ask. To wait for the primary host is not."""
        problem = self._connection.problem
        return [] if problem is None else [Condition("sparkplug", "sparkplug", problem)]

    def stop(self) -> None:
        """Let `run` say goodbye and end; any thread."""
        self._stopping.set()
        self._wake.set()

    def run(self) -> None:
        """Connect, be born, tell, until `stop`."""
        while not self._stopping.is_set():
            self._wake.wait(_TICK_S)
            self._wake.clear()
            self._connection.tend(time.monotonic())
            self._turn()
        self._turn()  # what was stored last
        self._connection.leave()

    def _begin(self, link: BrokerConnection) -> None:
        self._session = link
        self._born = self._rebirth_asked = False
        self._camera_at = 0.0

    # What comes.

    def _subscriptions(self, mqtt: MqttSettings) -> Subscriptions:
        """Return what a connection that is about to be made listens to."""
        self._host.forget()
        self._inbox.take()  # what came over another one
        self._largest = mqtt.commands.max_payload_kb * 1024
        filters = [self._node.topic("NCMD"), *([self._host.topic] if self._host.topic else [])]
        return Subscriptions(tuple(filters), self._receive)

    def _receive(self, inbound: Inbound) -> None:
        """Take a message over, from the connection's thread; a too large one is cut, to be refused."""
        if len(inbound.payload) > self._largest:
            inbound = Inbound(inbound.topic, b"\xff", inbound.retained)
        self._inbox.put(inbound)
        self._wake.set()

    def _listen(self, now: float) -> None:
        waiting, too_many = self._inbox.take()
        for inbound in [*waiting, *too_many]:
            try:
                if inbound.topic == self._host.topic:
                    self._host.receive(inbound.payload)
                elif inbound.topic == self._node.topic("NCMD"):
                    self._execute(inbound)
            except PayloadError as error:
                if self._complaints.allows(now):
                    log.warning("sparkplug: what came under %s is ignored: %s", inbound.topic, error)

    def _execute(self, inbound: Inbound) -> None:
        if inbound.retained:
            raise PayloadError("it is retained: publish commands without retain")
        metrics = decode(inbound.payload).metrics
        if any(metric.name == REBIRTH and metric.value is True for metric in metrics):
            self._rebirth_asked = True
        if any(metric.name != REBIRTH for metric in metrics):
            raise PayloadError(f"{REBIRTH} alone can be written, by its name")

    # What goes.

    def _turn(self) -> None:
        link, now = self._connection.up, time.monotonic()
        if link is None:
            return
        if link is not self._session:
            self._begin(link)
        self._listen(now)
        if not self._host.online:
            if self._born:
                log.info("sparkplug: the primary host application is offline, the session ends")
                self._connection.leave()
            return
        if not self._born or (self._rebirth_asked and self._rebirths.allows(now)):
            self._bear()
        if not self._rebirth_asked:
            self._tell(now)

    def _bear(self) -> None:
        """Publish what there is: the node, then every station with a camera that delivers."""
        waited = self.book.take(CAPACITY)
        self._note(waited)
        # What waited is past: of each station the newest is in its birth.
        newest = {step.station: step for step in waited if step.result}
        self._past.extend(step for step in waited if step.result and step is not newest[step.station])
        while len(self._past) > CAPACITY:
            self._past.popleft()
            self._not_told += 1
        now_ms = _now_ms()
        self._connection.publish(self._node.birth(self._of_node(now_ms), self._connection.bdseq, now_ms))
        for feed in self._feeds():
            if _alive(feed):
                self._bear_device(feed)
        if not self._born:
            log.info("sparkplug: %s is born, bdSeq %d", self._node.descriptor, self._connection.bdseq)
        self._born, self._rebirth_asked = True, False

    def _bear_device(self, feed: FeedStats) -> None:
        now_ms = _now_ms()
        readings = self._station(feed.station)
        readings.update(of_camera(feed, now_ms))
        self._connection.publish(self._node.device_birth(feed.station, readings, now_ms))

    def _tell(self, now: float) -> None:
        """Publish what is new, as far as the connection takes it."""
        room = self._connection.room
        if room <= 0:
            return
        # In this order: what a camera saw is told after it has come and before it is gone.
        new = self.book.take(room)
        feeds = {feed.station: feed for feed in self._feeds()}
        for station, feed in feeds.items():
            if _alive(feed) and station not in self._node.devices:
                self._bear_device(feed)
        past = [self._past.popleft() for _ in range(min(room, len(self._past)))]
        self._tell_steps(past, self._node.history)
        self._note(new)
        self._tell_steps(new, self._node.data)
        self._tell_cameras(feeds, now)
        self._send(self._node.data(None, [self._of_node(_now_ms())], _now_ms()))
        if self._past:
            self._wake.set()

    def _tell_steps(self, steps: Sequence[LearningEvent], compose: _Compose) -> None:
        """Publish steps of stations that are alive; of others hosts hear when they are born."""
        by_station: dict[str, list[LearningEvent]] = {}
        for step in steps:
            by_station.setdefault(step.station, []).append(step)
        for station, its in by_station.items():
            if station in self._node.devices:
                self._send(compose(station, [step.readings for step in its], _now_ms()))
            else:
                self._not_told += sum(step.result for step in its)

    def _tell_cameras(self, feeds: Mapping[str, FeedStats], now: float) -> None:
        """Publish which cameras are gone, and now and then how the others are doing."""
        for station in self._node.devices:
            if station not in feeds or not _alive(feeds[station]):
                self._connection.publish(self._node.device_death(station, _now_ms()))
        for station in self._stations.keys() - feeds.keys():
            del self._stations[station]  # another one of its name begins with nothing
        if now - self._camera_at < _CAMERA_EVERY_S:
            return
        self._camera_at = now
        for station in self._node.devices:
            readings = of_camera(feeds[station], _now_ms())
            self._station(station).update(readings)
            self._send(self._node.data(station, [readings], _now_ms()))

    def _send(self, messages: Sequence[Message]) -> None:
        for message in messages:
            self._connection.publish(message)

    def _note(self, steps: Sequence[LearningEvent]) -> None:
        """Know what the next birth says."""
        for step in steps:
            self._station(step.station).update(step.readings)

    def _station(self, name: str) -> dict[str, Reading]:
        """Return all that is known of a station, null where nothing is."""
        return self._stations.setdefault(name, nothing(DEVICE, _now_ms()))

    def _of_node(self, now_ms: int) -> dict[str, Reading]:
        return dict(of_node(__version__, self._now_of_node(), self.book.lost + self._not_told, now_ms))


def _alive(feed: FeedStats) -> bool:
    """A file that has come to its end is no camera that is offline."""
    return feed.connected or feed.ended


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
