"""The agent as a whole: builds the parts, starts the threads, watches them, ends in order."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from adapters.adapter import AdapterError
from adapters.engine import Engine
from adapters.runtime import runtime_problem
from agent import logs, overrides, payloads
from agent.board import Board
from agent.broker import embedded_broker
from agent.changes import Change
from agent.config_watch import ConfigWatch
from agent.configfile import Loaded
from agent.control import Control
from agent.errors import AgentError
from agent.evidence import Evidence
from agent.health import Condition
from agent.inspector import Inspector
from agent.last_exit import LastExit, RunRecord
from agent.learners import Learners
from agent.metrics import metrics_server
from agent.mqtt import tls_context
from agent.opening import open_model
from agent.payloads import JSON
from agent.priority import SERVING, step_back
from agent.publisher import Publisher
from agent.reload import Reloader
from agent.retention import Retention
from agent.sparkplug import Sparkplug
from agent.sparkplug_metrics import NodeNow
from agent.stations import Stations
from agent.status import Status
from agent.store import Store
from agent.systemd import READY, STOPPING, notify, watchdog_s
from agent.tally import Tally
from agent.trail import Trail
from agent.triggers import Triggers, trigger_deadlines_ms
from agent.verdict import Verdict
from agent.watchdog import Watchdog
from camera.frame import CameraError, Frame
from camera.mailbox import Mailbox

log = logging.getLogger(__name__)

_TICK_S = 0.25
# Together below 10 s, which is what an orderly stop may take; learners end while the others do.
_INSPECTOR_S = 3.0
_DRAIN_S = 2.5
_EVIDENCE_S = 0.5
_PUBLISHER_S = _DRAIN_S + 3.0
_CAMERAS_S = 1.0
_TRIGGERS_S = 1.0
_LEARNER_S = 2.0
_SPARKPLUG_S = 1.0


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

    Threads: one ``camera-<station>`` each, ``inspector``, ``publisher``, ``config-watch``, ``sparkplug`` if
    enabled, paho's own, those of `Learners`, and this one, which watches. Nothing restarts a thread:
    unexpected trouble in any of them ends the process with its traceback, and systemd starts it again. What
    learns is a process of its own, which is restarted.

    Args:
        loaded: the config to start with.
        frames: end after so many frames.
        engine: for a caller who has one already; otherwise the config's model is opened.
        refused: what is wrong with the config file, where `loaded` is the one that was good last.
    """

    def __init__(
        self,
        loaded: Loaded,
        *,
        frames: int | None = None,
        engine: Engine | None = None,
        refused: Sequence[str] = (),
    ) -> None:
        self._loaded = loaded
        self._frames = frames
        self._engine = engine
        self._refused = refused
        self._stop = threading.Event()
        self._wake = threading.Event()
        self._reason = "nothing more to inspect"
        self._crashes: list[BaseException] = []
        self._threads: list[threading.Thread] = []
        self._reloader: Reloader | None = None

    @property
    def started(self) -> bool:
        """Whether anything runs, or has."""
        return bool(self._threads)

    def stop(self, reason: str = "stopped") -> None:
        """Ask `run` to end in order; from any thread or signal handler.

        Args:
            reason: kept, and told by the next run.
        """
        if not self._stop.is_set():
            self._reason = reason
        self._stop.set()
        self._wake.set()

    def reload(self, actor: str) -> None:
        """Ask `run` to read the config file again; from any thread or signal handler.

        Args:
            actor: who asks.
        """
        if self._reloader is not None:  # otherwise it is just being read
            self._reloader.ask(actor)

    def run(self) -> Summary:
        """Inspect until `stop`, until the frames are counted, or until every source has ended.

        Raises:
            ConfigError, StoreError, AdapterError: the agent cannot start; nothing was started.
        """
        data = Path(self._loaded.config.agent.data_dir)
        now, _ = overrides.applied(self._loaded, overrides.read(data))
        config = now.config
        if config.model.engine != "torch" and (problem := runtime_problem()):
            log.error("%s", problem)
        engine = self._engine or open_model(config, owner=True)
        with ExitStack() as stack:
            if config.mqtt.embedded_broker:
                stack.enter_context(embedded_broker(config.mqtt.port))
            store = Store(
                data,
                Retention.of(config.storage),
                outbox=config.mqtt.enabled,
            )
            record = RunRecord(data)
            last = record.begin()
            try:
                summary = self._run(now, engine, store, Trail(data), last, stack)
            except BaseException as error:
                if not self._threads:  # otherwise the publisher closes it
                    store.close()
                record.end(_in_words(error), orderly=False)
                raise
            record.end(self._reason, orderly=True)
            return summary

    def _run(
        self, now: Loaded, engine: Engine, store: Store, trail: Trail, last: LastExit | None, stack: ExitStack
    ) -> Summary:
        config = now.config
        mailbox, tally = Mailbox(), Tally()
        learners = Learners(now, lambda *told: _tell(board, status, sparkplug, *told))
        control = Control(config)

        def keep(verdicts: Sequence[Verdict]) -> None:
            tally.add(verdicts)
            control.recent.add(verdicts)
            publisher.put(verdicts)

        triggers = Triggers(lambda *what: inspector.uninspected(*what), keep)
        stations = Stations(engine, mailbox, learners, self._crashed, triggers.gate)
        status = Status(
            config,
            engine.info,
            lambda: stations.feeds,
            tally,
            stations.learner_stats,
            lambda: _more(self._reloader, watch, trail, sparkplug),
            control.shown,
        )
        board = Board(status.state_topic)
        sparkplug = None
        if config.sparkplug.enabled:
            sparkplug = Sparkplug(
                config,
                lambda: NodeNow(engine.info.name, reloader.now.digest, *status.health()),
                lambda: [feed.snapshot() for feed in stations.feeds],
            )
        prepared = stations.prepare(now)
        evidence = Evidence(store.files, config.storage.images, lambda: store.retention.min_free_bytes)
        publisher = Publisher(
            store,
            config.mqtt if config.mqtt.enabled else None,
            client_id=f"mekiki-{config.agent.id}",
            result_topic=status.result_topic,
            board=board,
            will=status.availability(payloads.OFFLINE),
            evidence=evidence,
            inlet=control.inlet(),
            stored=None if sparkplug is None else sparkplug.book.stored,
        )
        if config.metrics.enabled:
            stack.enter_context(metrics_server(config.metrics, lambda: status.stats(publisher.stats())))

        inspector = Inspector(
            config.agent.id,
            engine,
            prepared.plans,
            mailbox,
            lambda verdicts: keep(triggers.settle(verdicts)),
            batch=config.inspector.batch,
            on_fail=partial(_show_fail, board, status),
            keep=evidence.offer,
            limit=self._frames,
        )
        inspector.warm_up()

        def apply(new: Loaded, found: Sequence[Change]) -> None:
            anew = {str(change.path[1]) for change in found if change.effect == "station"}
            ready = stations.prepare(new, anew)
            tls = tls_context(new.config.mqtt)
            # From here on nothing can fail: what was asked for comes into force as a whole.
            if new.config.log != reloader.now.config.log:
                logs.set_up(new.config.log.level, new.config.log.format)
            status.use(new.config)
            control.use(new.config)
            triggers.use(trigger_deadlines_ms(new.config), anew)
            if new.config.mqtt.enabled:
                publisher.use(new.config.mqtt, tls)
            publisher.keep(Retention.of(new.config.storage))
            evidence.settings = new.config.storage.images
            if sparkplug is not None:
                sparkplug.use(new.config.mqtt, tls)
            inspector.use(ready.plans, new.config.inspector.batch)
            stations.use(ready)

        reloader = Reloader(self._loaded, now, apply, trail, self._refused, self._wake.set)
        watch = ConfigWatch(now.path, self._loaded.text, lambda: self.reload("file"))
        control.begin(
            board,
            lambda: stations.found,
            engine,
            lambda: status.stats(publisher.stats()),
            publisher,
            learners.label,
            triggers,
            instance=status.instance,
            reloader=reloader,
            record=lambda event, actor, why, before, after: trail.record(
                event, actor, why, before=before, after=after
            ),
        )
        triggers.use(trigger_deadlines_ms(config))
        board.set(status.birth())
        board.set(status.info(reloader.shown(), last))
        trail.record("started", "agent", why=self._why(now), after={"config": now.digest})

        self._start("publisher", publisher.run, SERVING)
        self._start("evidence", evidence.run, SERVING)
        self._start("inspector", lambda: inspector.run(self._stop))
        self._start("learners", learners.run)
        self._start("triggers", triggers.run)
        if sparkplug is not None:
            self._start("sparkplug", sparkplug.run, SERVING)
        stations.use(prepared)
        log.info(
            "inspecting %s with %s on %s", ", ".join(prepared.plans), engine.info.name, engine.info.provider
        )
        notify(READY)
        reloader.keep_last_good()
        self._reloader = reloader
        self._start("config-watch", watch.run, SERVING)
        watchdog = Watchdog(
            watchdog_s(), lambda: {"inspector": inspector.turned_at, "publisher": publisher.turned_at}
        )
        try:
            self._watch(publisher, board, status, watchdog, stations, reloader, control, last)
        finally:
            watch.stop()
            self._end(stations, mailbox, evidence, publisher, status, learners, triggers, sparkplug)
            why = _in_words(self._crashes[0]) if self._crashes else self._reason
            trail.record("stopped", "agent", why=why)
        if self._crashes:
            raise self._crashes[0]
        stats = publisher.stats()
        return Summary(inspector.inspected, stats.stored, stats.published, stats.waiting, stats.lost)

    def _watch(
        self,
        publisher: Publisher,
        board: Board,
        status: Status,
        watchdog: Watchdog,
        stations: Stations,
        reloader: Reloader,
        control: Control,
        last: LastExit | None,
    ) -> None:
        """Do what is asked and show how the agent is doing, until it is time to end."""
        inspector = next(thread for thread in self._threads if thread.name == "inspector")
        while not self._stop.is_set() and not self._crashes and inspector.is_alive():
            reloader.serve()
            control.serve()
            for station in stations.left():
                board.clear(station, status.retained(station))
            board.set(status.info(reloader.shown(), last))
            for message in (
                *status.unlearned(stations.uncommissioned),
                *status.look(publisher.stats(), time.monotonic()),
            ):
                board.set(message)
            watchdog.feed()
            self._wake.wait(_TICK_S)
            self._wake.clear()

    def _end(
        self,
        stations: Stations,
        mailbox: Mailbox,
        evidence: Evidence,
        publisher: Publisher,
        status: Status,
        learners: Learners,
        triggers: Triggers,
        sparkplug: Sparkplug | None,
    ) -> None:
        """Stop in the direction of the frames, so that what was decided is stored and, if it can be, sent."""
        self._stop.set()
        notify(STOPPING)
        learners_until = time.monotonic() + _LEARNER_S
        learners.stop()
        stations.stop()
        mailbox.close()
        self._join("inspector", _INSPECTOR_S)
        triggers.stop()  # nobody will look at their pictures any more
        self._join("triggers", _TRIGGERS_S)
        evidence.end()
        self._join("evidence", _EVIDENCE_S)
        # Before the publisher ends: what they did last is to be told.
        if not learners.wait(max(0.0, learners_until - time.monotonic())):
            log.error("learners: do not end, they are left behind")
        publisher.stop(_DRAIN_S, status.availability(payloads.OFFLINE if self._crashes else payloads.STOPPED))
        self._join("publisher", _PUBLISHER_S)
        if sparkplug is not None:
            sparkplug.stop()
        stations.join(_CAMERAS_S)
        if sparkplug is not None:
            self._join("sparkplug", _SPARKPLUG_S)

    def _why(self, now: Loaded) -> str:
        if self._refused:
            return f"with the config that was good last, because of {self._refused[0]}"
        return f"with {now.path}"

    def _join(self, name: str, limit_s: float) -> None:
        thread = next(thread for thread in self._threads if thread.name == name)
        thread.join(limit_s)
        if thread.is_alive():
            log.error("%s: does not end within %.0f s, it is left behind", name, limit_s)

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


def _in_words(error: BaseException) -> str:
    """Return what ended a run, for whoever reads it over MQTT: texts that are not ours may hold a secret."""
    ours = isinstance(error, AgentError | AdapterError | CameraError)
    return f"{type(error).__name__}: {error if ours else 'see the journal'}"


def _tell(
    board: Board, status: Status, sparkplug: Sparkplug | None, station: str, name: str, payload: JSON
) -> None:
    event = name == "adapter/event"
    message = status.station(station, name, payload, retain=not event)
    (board.tell if event else board.set)(message)
    if sparkplug is not None:
        sparkplug.book.learned(station, name, payload)


def _show_fail(board: Board, status: Status, frame: Frame) -> None:
    if status.shows_fails(frame.station) and frame.image is not None:
        board.set_later(status.image_topic(frame.station), partial(status.picture, frame))


def _more(
    reloader: Reloader | None, watch: ConfigWatch, trail: Trail, sparkplug: Sparkplug | None
) -> list[Condition]:
    """Return what is wrong with the config and its trail, and with what hosts of Sparkplug are told."""
    found = [] if reloader is None else reloader.conditions()
    if sparkplug is not None:
        found += sparkplug.conditions()
    if watch.problem is not None:
        found.append(Condition("config_unwatched", "config", watch.problem))
    if trail.problem is not None:
        found.append(Condition("audit", "audit", f"rows of the audit trail wait: {trail.problem}"))
    return found
