"""Thread `publisher`: verdicts to disk, then to the broker, and the retained picture of the agent."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future

from agent.base.call_queue import CallQueue
from agent.clock.time_book import TimeBook
from agent.config.models_mqtt import MqttSettings
from agent.domain.command_answer import Answer, refused
from agent.domain.publisher_stats import PublisherStats, Unsaved
from agent.domain.verdict import Verdict
from agent.mqtt.access import Access
from agent.mqtt.in_flight import WINDOW
from agent.mqtt.messages import Message, Subscriptions
from agent.mqtt.outbox_sender import OutboxSender
from agent.mqtt.retained_topics import RetainedTopics
from agent.store.database import Damaged, DiskTrouble
from agent.store.image_files import Written
from agent.store.image_writer import ImageWriter
from agent.store.retention import Retention
from agent.store.store import Store

log = logging.getLogger(__name__)

MAX_PENDING = 10_000
"""Verdicts that may wait in memory for the disk: at 100 parts a second, a full disk for 100 seconds."""
_RETRY_STORE_S = 1.0
_STRIKE_OFF_S = 0.25
_MEND_AGAIN_S = 60.0
"""A disk that damages the database twice in a minute is none to go on with."""
_LOOK_S = 5.0
"""How often it is asked whether there is too much."""
_ERRANDS_S = 1.0
"""For what others ask in one turn: each may wait for a busy database."""
_LAST_WRITES_S = 1.0
"""Beyond the time for delivery, for results that are not on disk yet."""


class Publisher:
    """When 10 000 verdicts wait for the disk, `put` waits; is the disk full, the oldest are lost, counted.

    Owns the store and the delivery: everything that touches either happens in `run`, in one thread.
    A verdict is committed first and published then. It leaves the outbox at its PUBACK. After a lost
    connection or a restart everything unacknowledged is sent again, in order, with `replayed` true.

    Args:
        mqtt: the broker's settings; None stores without publishing.
        board: retained topics, published at every connection and whenever they change.
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
        board: RetainedTopics,
        will: Message,
        evidence: ImageWriter | None = None,
        subscriptions: Subscriptions | None = None,
        stored: Callable[[Sequence[Verdict], Callable[[str], int]], None] | None = None,
        access: Access | None = None,
    ) -> None:
        self.turned_at = time.monotonic()
        self._told_stored = stored
        self._store = store
        self._time = TimeBook(store.path.parent, store.numbers(), store.newest_at)
        self._board = board
        self._wake = threading.Event()
        self._delivery = OutboxSender(
            store, mqtt, client_id, result_topic, board, will, self._wake.set, subscriptions, access
        )
        board.on_change = self._wake.set
        self._calls = CallQueue(refused("too many wait for the store: ask again later"), self._wake.set)
        self._stop_at: float | None = None
        self._farewell = will
        self._space = threading.Condition()
        self._pending: deque[Verdict] = deque()
        self._struck_at = 0.0
        self._stored = self._lost = 0
        self._unwritten: frozenset[str] = frozenset()  # event ids, once the store is closed
        self._retry_store_at = self._tidy_at = 0.0
        self._mended_at = float("-inf")
        self._met: Damaged | None = None  # while somebody was answered
        self._evidence = evidence
        self._to_file: list[Written] = []
        self._store_problem: str | None = None

    def put(self, verdicts: Sequence[Verdict]) -> None:
        """Take verdicts over, in order; from any thread."""
        with self._space:
            while len(self._pending) >= MAX_PENDING and self._store_problem is None:
                self._space.wait(0.1)
            self._pending.extend(verdicts)
        self._wake.set()

    def keep(self, retention: Retention) -> None:
        """Go by another retention from the next commit on; from any thread."""
        self._store.retention = retention
        self._tidy_at = 0.0
        self._wake.set()

    def label(self, act: Callable[[Store], Answer]) -> Future[Answer]:
        """Let `act` write a label, in the publisher's thread; any thread may ask.

        256 may wait; the next one is refused.
        """
        return self._calls.leave(lambda: self._answer(lambda: act(self._store)))

    def repeat(self, station: str, first: int, last: int | None) -> Future[Answer]:
        """Publish stored results of a station again, marked as replayed; any thread may ask.

        256 may wait for their answer; the next one is refused. Sixteen ranges may wait for their turn.

        Args:
            last: None is the newest there is now.
        """
        return self._calls.leave(lambda: self._answer(lambda: self._repeat(station, first, last)))

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
        return PublisherStats(
            stored=self._stored,
            published=self._delivery.in_flight.published,
            waiting=self._store.waiting + len(self._pending),
            lost=self._lost,
            given_up=self._store.given_up,
            store_problem=self._store_problem,
            link_problem=self._delivery.link.problem,
            kept=self._store.kept,
            damage=self._store.damage,
            pictures_dropped=0 if self._evidence is None else self._evidence.dropped,
            pictures_problem=None if self._evidence is None else self._evidence.problem,
            too_large=self._delivery.too_large,
            same_id=self._delivery.link.same_id.problem(time.monotonic()),
        )

    def unsaved(self) -> Unsaved:
        """Return what is not on disk at the end, also of a thread that was left behind; from any thread."""
        with self._space:
            lost = self._unwritten.union(verdict.event_id for verdict in self._pending)
        staged, unwritten = list(self._to_file), 0
        if self._evidence is not None:
            staged += self._evidence.staged()
            unwritten = self._evidence.unwritten
        # What is staged and has its result is recorded at the next start.
        unwritten += sum(picture.event_id in lost for picture in staged)
        return Unsaved(len(lost), unwritten, self._store_problem)

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
        if self._store_problem is None:
            self._file(time.monotonic())
        self._calls.close(_ERRANDS_S)
        self._time.write()
        self._store.close()
        with self._space:
            self._unwritten = frozenset(verdict.event_id for verdict in self._pending)
            self._lost += len(self._unwritten)
            while self._pending:
                _lose(self._pending.popleft())

    def _turn(self, now: float) -> None:
        self._calls.run(_ERRANDS_S)
        if self._met is not None:
            met, self._met = self._met, None
            raise met
        self._write(now)
        self._delivery.tend(now, ending=self._stop_at is not None)
        self._send(now)
        self._file(now)
        self._tidy(now)

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
        if (not due and self._stop_at is None) or now < self._retry_store_at:
            return
        with self._space:
            batch = list(self._pending)
        try:
            rows = self._store.commit(batch, sorted(acknowledged))
        except DiskTrouble as error:
            self._trouble(error, now)
            self._lose_oldest()
            if batch and not error.busy:
                self._strike_off(now)
            return
        self._works_again()
        self._delivery.in_flight.struck_off()
        self._struck_at = now
        if rows:
            self._delivery.committed(rows[-1].id)
        self._stored += len(batch)
        with self._space:
            for _ in batch:
                self._pending.popleft()
            self._space.notify_all()
        self._board.count(batch, self._store.last_seq)
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

    def _trouble(self, error: DiskTrouble, now: float) -> None:
        self._retry_store_at = now + _RETRY_STORE_S
        if self._store_problem is None:
            log.error("%s; inspection goes on, %d verdicts wait in memory", error, len(self._pending))
        self._store_problem = str(error)
        if error.full:
            try:
                at = self._time.look(self._store.numbers())
                freed = self._store.make_room(at, self._time.doubts)
            except DiskTrouble as worse:
                log.error("%s", worse)
                return
            if freed:
                log.warning("store: gave %.1f MB back to the full disk", freed / 1e6)
                self._retry_store_at = self._tidy_at = now

    def _works_again(self) -> None:
        if self._store_problem is not None:
            log.warning("store: works again, %d verdicts were lost meanwhile", self._lost)
        self._store_problem = None

    def _lose_oldest(self) -> None:
        with self._space:
            while len(self._pending) > MAX_PENDING:
                _lose(self._pending.popleft())
                self._lost += 1

    # What is kept.

    def _file(self, now: float) -> None:
        """Record the pictures that were written, once their results are on disk."""
        if self._evidence is None or now < self._retry_store_at:
            return
        # Not taken while some wait, so that the evidence thread notices and keeps no more.
        if not self._to_file:
            self._to_file = self._evidence.take()
        if not self._to_file:
            return
        with self._space:
            expected = {verdict.event_id for verdict in self._pending}
        try:
            filed = self._store.file(self._to_file, expected)
        except DiskTrouble as error:
            self._trouble(error, now)
            return
        self._to_file = filed

    def _tidy(self, now: float) -> None:
        """Delete a little of what is too much; never more than half of the time."""
        if now < self._tidy_at or self._stop_at is not None:
            return
        began, more = time.monotonic(), False
        try:
            now_by_clocks = self._time.look(self._store.numbers())
            more = self._store.tidy(now_by_clocks, self._time.doubts)
            if not self._pending and not self._to_file:  # otherwise they tell, when they are written
                self._works_again()
        except DiskTrouble as error:
            self._trouble(error, now)
        ended = time.monotonic()
        self._tidy_at = ended + (ended - began if more else _LOOK_S)

    # What is asked for.

    def _answer(self, act: Callable[[], Answer]) -> Answer:
        try:
            return act()
        except Damaged as error:
            self._met = error
            return refused("the store is damaged, and is mended now: ask again later")

    def _repeat(self, station: str, first: int, last: int | None) -> Answer:
        newest = self._store.last_seq(station)
        last = newest if last is None else min(last, newest)
        if first > last:
            return refused(f"there is no such result: the newest has number {newest}")
        try:
            found = self._store.between(station, first, last, 1)
        except DiskTrouble:  # the next write tells
            return refused("the store cannot be read now: ask again later")
        missing = None if found and found[0].seq == first else [first, found[0].seq - 1 if found else last]
        if found and not self._delivery.repeat(station, found[0].seq, last):
            return refused("too many replays wait: ask again later")
        data = {
            "station": station,
            "from_seq": found[0].seq if found else None,
            "to_seq": last if found else None,
            "missing": missing,
        }
        why = None if missing is None else f"{missing[0]} to {missing[1]} are no longer stored"
        return Answer("accepted" if found else "refused", why, data)

    # Delivery.

    def _send(self, now: float) -> None:
        try:
            self._delivery.send(now)
        except DiskTrouble as error:
            self._trouble(error, now)

    # Ending.

    def _patience(self) -> float:
        if self._stop_at is not None:
            return 0.01
        waits_s = 0.02 if self._delivery.draining else _STRIKE_OFF_S
        return min(waits_s, max(0.001, self._tidy_at - time.monotonic()))

    def _finished(self) -> bool:
        if self._stop_at is None:
            return False
        if not self._pending and not self._delivery.in_flight.acknowledged and not self._delivery.delivering:
            return True
        # What is not delivered is on disk, and is sent after the next start; what is not on disk is lost.
        return time.monotonic() >= self._stop_at + (_LAST_WRITES_S if self._pending else 0.0)


def _lose(verdict: Verdict) -> None:
    """Tell the source, where it must know, that this verdict is stored by nobody."""
    if verdict.receipt is not None:
        verdict.receipt.lost()
