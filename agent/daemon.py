"""The agent as a whole: builds the parts, starts the threads, watches them, ends in order."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from adapters.engine import Engine
from adapters.runtime import runtime_problem
from agent import payloads
from agent.board import Board
from agent.broker import embedded_broker
from agent.commissioned import Commissioned, Uncommissioned
from agent.configfile import Loaded
from agent.health import LearnerStats
from agent.inspector import Inspector
from agent.last_exit import LastExit, RunRecord
from agent.learners import Learners
from agent.metrics import metrics_server
from agent.opening import open_feed, open_model, open_sources, open_stations
from agent.payloads import JSON
from agent.plans import check_prompts, station_plans
from agent.priority import SERVING, step_back
from agent.publisher import Publisher
from agent.status import Status
from agent.store import Store
from agent.systemd import READY, STOPPING, notify, watchdog_s
from agent.tally import Tally
from agent.verdict import Verdict
from agent.watchdog import Watchdog
from camera.feed import Feed
from camera.frame import Frame
from camera.mailbox import Mailbox
from camera.source import Source

log = logging.getLogger(__name__)

_TICK_S = 0.25
# Together below 10 s, which is what an orderly stop may take; learners end while the others do.
_INSPECTOR_S = 3.0
_DRAIN_S = 2.5
_PUBLISHER_S = _DRAIN_S + 3.0
_CAMERAS_S = 1.0
_LEARNER_S = 2.0


@dataclass(frozen=True, slots=True)
class Summary:
    """What a run has done, for its last line."""

    inspected: int
    stored: int
    published: int
    waiting: int
    lost: int


class Daemon:
    """Owns every thread. `run` is called once, from the main thread.

    Threads: one ``camera-<station>`` each, ``inspector``, ``publisher``, paho's own, those of `Learners`, and
    this one, which watches. Nothing restarts a thread: unexpected trouble in any of them ends the process
    with its traceback, and systemd starts it again. What learns is a process of its own, which is restarted.

    Args:
        frames: end after so many frames.
        engine: for a caller who has one already; otherwise the config's model is opened.
    """

    def __init__(self, loaded: Loaded, *, frames: int | None = None, engine: Engine | None = None) -> None:
        self._loaded = loaded
        self._frames = frames
        self._engine = engine
        self._stop = threading.Event()
        self._reason = "nothing more to inspect"
        self._crashes: list[BaseException] = []
        self._threads: list[threading.Thread] = []

    def stop(self, reason: str = "stopped") -> None:
        """Ask `run` to end in order; from any thread or signal handler.

        Args:
            reason: kept, and told by the next run.
        """
        if not self._stop.is_set():
            self._reason = reason
        self._stop.set()

    def run(self) -> Summary:
        """Inspect until `stop`, until the frames are counted, or until every source has ended.

        Raises:
            ConfigError, StoreError, AdapterError: the agent cannot start; nothing was started.
        """
        config = self._loaded.config
        if config.model.engine != "torch" and (problem := runtime_problem()):
            log.error("%s", problem)
        sources = open_sources(self._loaded)
        engine = self._engine or open_model(config, owner=True)
        check_prompts(self._loaded, engine)
        with ExitStack() as stack:
            if config.mqtt.embedded_broker:
                stack.enter_context(embedded_broker(config.mqtt.port))
            store = Store(
                Path(config.agent.data_dir),
                keep_results=config.storage.keep_results,
                max_waiting=config.storage.max_waiting,
                min_free_mb=config.storage.min_free_mb,
                outbox=config.mqtt.enabled,
            )
            record = RunRecord(Path(config.agent.data_dir))
            last = record.begin()
            try:
                stations = open_stations(self._loaded, engine, sources)
                summary = self._run(engine, sources, store, stations, last, stack)
            except BaseException as error:
                if not self._threads:  # otherwise the publisher closes it
                    store.close()
                record.end(f"{type(error).__name__}: {error}", orderly=False)
                raise
            record.end(self._reason, orderly=True)
            return summary

    def _run(
        self,
        engine: Engine,
        sources: dict[str, Source],
        store: Store,
        stations: dict[str, Commissioned | Uncommissioned],
        last: LastExit | None,
        stack: ExitStack,
    ) -> Summary:
        config = self._loaded.config
        mailbox = Mailbox()
        feeds = [
            open_feed(name, config.stations[name], source, mailbox, engine.info.preprocess, self._crashed)
            for name, source in sources.items()
        ]
        tally = Tally(sources)
        status = Status(config, engine.info, feeds, tally, lambda: _learner_stats(stations, learners))
        board = Board(status.state_topic)
        learners = Learners(self._loaded, _teller(board, status))
        publisher = Publisher(
            store,
            config.mqtt if config.mqtt.enabled else None,
            client_id=f"mekiki-{config.agent.id}",
            result_topic=status.result_topic,
            board=board,
            will=status.availability(payloads.OFFLINE),
        )
        if config.metrics.enabled:
            stack.enter_context(metrics_server(config.metrics, lambda: status.stats(publisher.stats())))

        def deliver(verdicts: Sequence[Verdict]) -> None:
            tally.add(verdicts)
            publisher.put(verdicts)

        plans = station_plans(self._loaded, engine, sources, stations, learners)
        inspector = Inspector(
            config.agent.id,
            engine,
            plans,
            mailbox,
            deliver,
            batch=config.inspector.batch,
            on_fail=self._show_fail(board, status),
            limit=self._frames,
        )
        inspector.warm_up()
        for message in [*status.birth(last), *status.unlearned(stations.values())]:
            board.set(message)

        for feed in feeds:
            mailbox.open(feed.station)  # all of them first, or a short file could end the run alone
        self._start("publisher", publisher.run, SERVING)
        self._start("inspector", lambda: inspector.run(self._stop))
        if learners:
            self._start("learners", learners.run)
        for feed in feeds:
            feed.start()
        log.info("inspecting %s with %s on %s", ", ".join(sources), engine.info.name, engine.info.provider)
        notify(READY)
        watchdog = Watchdog(
            watchdog_s(), lambda: {"inspector": inspector.turned_at, "publisher": publisher.turned_at}
        )
        try:
            self._watch(publisher, board, status, watchdog)
        finally:
            self._end(feeds, mailbox, publisher, status, learners)
        if self._crashes:
            raise self._crashes[0]
        stats = publisher.stats()
        return Summary(inspector.inspected, stats.stored, stats.published, stats.waiting, stats.lost)

    def _watch(self, publisher: Publisher, board: Board, status: Status, watchdog: Watchdog) -> None:
        """Show how the agent is doing until it is time to end."""
        inspector = next(thread for thread in self._threads if thread.name == "inspector")
        while not self._stop.wait(_TICK_S) and not self._crashes and inspector.is_alive():
            for message in status.look(publisher.stats(), time.monotonic()):
                board.set(message)
            watchdog.feed()

    def _end(
        self,
        feeds: list[Feed],
        mailbox: Mailbox,
        publisher: Publisher,
        status: Status,
        learners: Learners,
    ) -> None:
        """Stop in the direction of the frames, so that what was decided is stored and, if it can be, sent."""
        self._stop.set()
        notify(STOPPING)
        learners_until = time.monotonic() + _LEARNER_S
        learners.stop()
        for feed in feeds:
            feed.stop()
        mailbox.close()
        self._join("inspector", _INSPECTOR_S)
        # Before the publisher ends: what they did last is to be told.
        if learners and not learners.wait(max(0.0, learners_until - time.monotonic())):
            log.error("learners: do not end, they are left behind")
        publisher.stop(_DRAIN_S, status.availability(payloads.OFFLINE if self._crashes else payloads.STOPPED))
        self._join("publisher", _PUBLISHER_S)
        until = time.monotonic() + _CAMERAS_S
        for feed in feeds:
            if not feed.join(max(0.0, until - time.monotonic())):
                log.warning("camera %s: does not end, it is left behind", feed.station)

    def _join(self, name: str, limit_s: float) -> None:
        thread = next(thread for thread in self._threads if thread.name == name)
        thread.join(limit_s)
        if thread.is_alive():
            log.error("%s: does not end within %.0f s, it is left behind", name, limit_s)

    def _show_fail(self, board: Board, status: Status) -> Callable[[Frame], None]:
        wanted = {name for name, s in self._loaded.config.stations.items() if s.images.last_fail}

        def show(frame: Frame) -> None:
            if frame.station in wanted and frame.image is not None:
                board.set_later(status.image_topic(frame.station), lambda: status.picture(frame))

        return show

    def _start(self, name: str, body: Callable[[], None], nice: int = 0) -> None:
        def run() -> None:
            try:
                if nice:
                    step_back(nice)
                body()
            except BaseException as error:  # noqa: BLE001 - a thread never dies alone, whatever it was
                self._crashed(error)

        thread = threading.Thread(target=run, name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _crashed(self, error: BaseException) -> None:
        self._crashes.append(error)


def _teller(board: Board, status: Status) -> Callable[[str, str, JSON], None]:
    def tell(station: str, name: str, payload: JSON) -> None:
        event = name == "adapter/event"
        message = status.station(station, name, payload, retain=not event)
        (board.tell if event else board.set)(message)

    return tell


def _learner_stats(
    stations: dict[str, Commissioned | Uncommissioned], learners: Learners
) -> list[LearnerStats]:
    """Return how all learners are doing, those that cannot start included."""
    off = [
        LearnerStats(found.station, unusable=found.why)
        for found in stations.values()
        if isinstance(found, Uncommissioned) and found.unusable
    ]
    return [*off, *learners.stats()]
