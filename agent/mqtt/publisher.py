"""Thread `publisher`: verdicts to disk, then to the broker, and the retained picture of the agent."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future

from agent.config.models_mqtt import MqttSettings
from agent.domain.command_answer import Answer
from agent.domain.publisher_stats import PublisherStats, Unsaved
from agent.domain.verdict import Verdict
from agent.mqtt.access import Access
from agent.mqtt.in_flight import WINDOW
from agent.mqtt.messages import Message, Subscriptions
from agent.mqtt.outbox_sender import OutboxSender
from agent.mqtt.pending_results import PendingResults
from agent.mqtt.retained_topics import RetainedTopics
from agent.mqtt.store_requests import StoreRequests
from agent.mqtt.store_upkeep import StoreUpkeep
from agent.store.database import Damaged, DiskTrouble
from agent.store.image_writer import ImageWriter
from agent.store.retention import Retention
from agent.store.store import Store

_STRIKE_OFF_S = 0.25
_MEND_AGAIN_S = 60.0
"""A disk that damages the database twice in a minute is none to go on with."""
_LAST_WRITES_S = 1.0
"""Beyond the time for delivery, for results that are not on disk yet."""


class Publisher:
    """When 10 000 verdicts wait for the disk, `put` waits; is the disk full, the oldest are lost, counted.

    Owns the store and the delivery: everything that touches either happens in `run`, in one thread.
    A verdict is committed first and published then. It leaves the outbox at its PUBACK. After a lost
    connection or a restart everything unacknowledged is sent again, in order, with `replayed` true.

    Args:
        mqtt: the broker's settings; None stores without publishing.
        retained: retained topics, published at every connection and whenever they change.
        will: what the broker says in our name when we are gone.
        evidence: pictures to record beside the results; None where nobody keeps any.
        inlet: what every connection listens to; None listens to nothing.
        stored: told of verdicts that are on disk now, with station -> number of its last one.
        access: certificates and password of the broker; read anew where it is None.

    Attributes:
        turned_at: when the loop last turned, by `time.monotonic`.

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
        evidence: ImageWriter | None = None,
        subscriptions: Subscriptions | None = None,
        stored: Callable[[Sequence[Verdict], Callable[[str], int]], None] | None = None,
        access: Access | None = None,
    ) -> None:
        self.turned_at = time.monotonic()
        self._told_stored = stored
        self._store = store
        self._pending = PendingResults()
        self._upkeep = StoreUpkeep(store, self._pending, evidence)
        self._retained = retained
        self._wake = threading.Event()
        self._delivery = OutboxSender(
            store, mqtt, client_id, result_topic, retained, will, self._wake.set, subscriptions, access
        )
        retained.on_change = self._wake.set
        self._requests = StoreRequests(store, self._delivery.repeat, self._wake.set)
        self._stop_at: float | None = None
        self._farewell = will
        self._struck_at = 0.0
        self._stored = 0
        self._mended_at = float("-inf")

    def put(self, verdicts: Sequence[Verdict]) -> None:
        """Take verdicts over, in order; from any thread."""
        self._pending.put(verdicts, lambda: self._upkeep.problem is None)
        self._wake.set()

    def keep(self, retention: Retention, version: int) -> None:
        """Go by another retention, and write results of this version, from the next commit on; any thread."""
        self._store.retention, self._store.version = retention, version
        self._upkeep.collect_at = 0.0
        self._wake.set()

    def label(self, act: Callable[[Store], Answer]) -> Future[Answer]:
        """Let `act` write a label, in the publisher's thread; any thread may ask.

        256 may wait; the next one is refused.
        """
        return self._requests.label(act)

    def repeat(self, station: str, first: int, last: int | None) -> Future[Answer]:
        """Publish stored results of a station again, marked as replayed; any thread may ask.

        256 may wait for their answer; the next one is refused. Sixteen ranges may wait for their turn.

        Args:
            last: None is the newest there is now.
        """
        return self._requests.repeat(station, first, last)

    def stop(self, drain_s: float, farewell: Message) -> None:
        """Let `run` end: everything stored, and delivered as far as the broker takes it within `drain_s`.

        Args:
            farewell: the last message, in place of the will.
        """
        self._farewell = farewell
        self._stop_at = time.monotonic() + drain_s
        self._wake.set()

    def use(self, mqtt: MqttSettings, access: Access | None = None) -> None:
        """Deliver like this from now on; any thread. See `OutboxSender.use`."""
        self._delivery.use(mqtt, access)
        self._wake.set()

    def saw_client_id_conflict(self) -> None:
        """Note that another agent shows itself under our topics; any thread."""
        self._delivery.link.same_id.foreign(time.monotonic())

    def stats(self) -> PublisherStats:
        """Return the present numbers; from any thread."""
        evidence = self._upkeep.evidence
        return PublisherStats(
            stored=self._stored,
            published=self._delivery.in_flight.published,
            waiting=self._store.waiting + len(self._pending),
            lost=self._pending.lost,
            given_up=self._store.given_up,
            store_problem=self._upkeep.problem,
            link_problem=self._delivery.link.problem,
            kept=self._store.kept,
            damage=self._store.damage,
            pictures_dropped=0 if evidence is None else evidence.dropped,
            pictures_problem=None if evidence is None else evidence.problem,
            too_large=self._delivery.too_large,
            same_id=self._delivery.link.same_id.problem(time.monotonic()),
        )

    def unsaved(self) -> Unsaved:
        """Return what is not on disk at the end, also of a thread that was left behind; from any thread."""
        return self._upkeep.unsaved()

    def run(self) -> None:
        """Store, connect, send, until `stop`."""
        try:
            self._work()
        finally:
            self._store.close()  # also where it ends in an error: the next start needs the folder

    def _work(self) -> None:
        while not self._finished():
            self._wake.wait(self._patience())
            self._wake.clear()
            now = self.turned_at = time.monotonic()
            try:
                self._turn(now)
            except Damaged as error:
                self._mend(error, now)
        self._close_store()
        self._delivery.leave(self._farewell)

    def _close_store(self) -> None:
        """Record the last pictures, and count the results that are not on disk."""
        if self._upkeep.problem is None:
            self._upkeep.file(time.monotonic())
        self._requests.close()
        self._upkeep.close()
        self._store.close()
        self._pending.lose_all()

    def _turn(self, now: float) -> None:
        self._requests.answer()
        self._write(now)
        self._delivery.tend(now, ending=self._stop_at is not None)
        self._send(now)
        self._upkeep.file(now)
        if self._stop_at is None:
            self._upkeep.collect_garbage(now)

    def _mend(self, error: Damaged, now: float) -> None:
        """Go on with what can be read of a damaged database; inspection goes on meanwhile."""
        if now < self._mended_at + _MEND_AGAIN_S:
            raise error
        self._mended_at = now
        self._store.mend(error)
        self._delivery.begin_again()

    # Store.

    def _write(self, now: float) -> None:
        """Commit what waits, and strike off what was acknowledged; one transaction for both."""
        self._delivery.collect()
        acknowledged = self._delivery.in_flight.acknowledged
        due = (
            bool(self._pending)
            or len(acknowledged) >= WINDOW // 2
            or (bool(acknowledged) and now - self._struck_at >= _STRIKE_OFF_S)
        )
        if (not due and self._stop_at is None) or now < self._upkeep.retry_at:
            return
        batch = self._pending.batch()
        try:
            rows = self._store.commit(batch, sorted(acknowledged))
        except DiskTrouble as error:
            self._upkeep.trouble(error, now)
            self._pending.lose_oldest()
            if batch and not error.busy:
                self._strike_off(now)
            return
        self._upkeep.works_again()
        self._delivery.in_flight.struck_off()
        self._struck_at = now
        if rows:
            self._delivery.committed(rows[-1].id)
        self._stored += len(batch)
        self._pending.stored(len(batch))
        self._retained.count(batch, self._store.last_seq)
        if self._told_stored is not None:
            self._told_stored(batch, self._store.last_seq)
        for verdict in batch:
            if verdict.receipt is not None:
                verdict.receipt.stored(verdict.quality.fault)

    def _strike_off(self, now: float) -> None:
        """Strike off what was acknowledged, where the disk has room for that at least."""
        try:
            self._store.commit([], sorted(self._delivery.in_flight.acknowledged))
        except DiskTrouble:
            return  # told a moment ago
        self._delivery.in_flight.struck_off()
        self._struck_at = now

    # Delivery.

    def _send(self, now: float) -> None:
        try:
            self._delivery.send(now)
        except DiskTrouble as error:
            self._upkeep.trouble(error, now)

    # Ending.

    def _patience(self) -> float:
        if self._stop_at is not None:
            return 0.01
        waits_s = 0.02 if self._delivery.draining else _STRIKE_OFF_S
        return min(waits_s, max(0.001, self._upkeep.collect_at - time.monotonic()))

    def _finished(self) -> bool:
        if self._stop_at is None:
            return False
        if not self._pending and not self._delivery.in_flight.acknowledged and not self._delivery.delivering:
            return True
        # What is not delivered is on disk, and is sent after the next start; what is not on disk is lost.
        return time.monotonic() >= self._stop_at + (_LAST_WRITES_S if self._pending else 0.0)
