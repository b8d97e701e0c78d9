"""The agent as a whole: builds the parts, starts the threads, watches them, ends in order."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from functools import partial
from pathlib import Path

from adapters.core.adapter import AdapterError
from adapters.core.protocol import Engine
from adapters.encoders.installed_runtimes import runtime_problem
from adapters.engines.factory import ModelSettings
from agent.app.composition import Components
from agent.app.factories import open_inspection
from agent.app.optional_services import OptionalService
from agent.app.run_record import RunRecord
from agent.app.run_summary import Summary
from agent.app.service_notify import READY, notify, watchdog_s
from agent.app.shutdown import shut_down
from agent.app.threads import AgentThreads
from agent.app.watchdog import Watchdog
from agent.base.codec import JSON
from agent.base.errors import AgentError, ConfigError
from agent.base.heaps import Heaps
from agent.base.thread_priority import SERVING
from agent.base.wake_up import WakeUp
from agent.config import overrides
from agent.config.loader import Loaded
from agent.domain.exit_reason import LastExit
from agent.inspection.backbones import Backbones
from agent.mqtt.embedded_broker import embedded_broker
from agent.reload.reloader import Reloader
from agent.store.retention import Retention
from agent.store.store import Store
from agent.telemetry.prometheus import metrics_server
from agent.telemetry.status_socket import status_server
from camera.core.frame import CameraError

log = logging.getLogger(__name__)

_TICK_S = 0.25


class Daemon:
    """Owns every thread. `run` is called once, from the main thread.

    Threads: one ``camera-<station>`` each, ``inspector``, ``publisher``, ``config-watch``, ``sparkplug`` if
    enabled, paho's own, those of `LearnerSupervisor`, and this one, which watches. Nothing restarts a thread:
    unexpected trouble in any of them ends the process with its traceback, and systemd starts it again. What
    learns is a process of its own, which is restarted.

    Args:
        loaded: the config to start with.
        frames: end after so many frames.
        engine: for a caller who has one already; otherwise what the config inspects with is opened.
        backbones: for a caller who has some already.
        refused: what is wrong with the config file, where `loaded` is the one that was good last.
        proven: this very config was in force before.
        unusable: the model that it names, where that is what is wrong.
    """

    def __init__(
        self,
        loaded: Loaded,
        *,
        frames: int | None = None,
        engine: Engine | None = None,
        backbones: Backbones | None = None,
        refused: Sequence[str] = (),
        proven: bool = False,
        unusable: ModelSettings | None = None,
    ) -> None:
        self._loaded = loaded
        self._frames = frames
        self._engine, self._backbones = engine, backbones
        self._refused, self._proven, self._unusable = refused, proven, unusable
        self._ends = False
        self._wake = WakeUp()
        self._reason = "nothing more to inspect"
        self._threads = AgentThreads()
        self._reloader: Reloader | None = None
        self._unsaved: list[str] = []
        self._heaps = Heaps()

    @property
    def started(self) -> bool:
        """Whether anything runs, or has."""
        return bool(self._threads)

    def stop(self, reason: str = "stopped") -> None:
        """Ask `run` to end in order; from any thread or signal handler.

        Args:
            reason: kept, and told by the next run.
        """
        if not self._ends:
            self._reason = reason
        self._ends = True
        self._wake.poke()

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
        now, kept = overrides.applied(self._loaded, overrides.read(data))
        config = now.config
        if config.model.engine != "torch" and (problem := runtime_problem()):
            log.error("%s", problem)
        backbones = self._backbones or Backbones(config)
        engine = self._engine or open_inspection(config, backbones, owner=True)
        with ExitStack() as stack:
            served = []
            if config.mqtt.embedded_broker:
                broker = OptionalService("embedded_broker", lambda: embedded_broker(config.mqtt.port))
                served.append(stack.enter_context(broker))
            store = Store(
                data,
                Retention.of(config.storage),
                outbox=config.mqtt.enabled,
                version=config.mqtt.result_version,
            )
            record = RunRecord(data)
            last = record.begin()
            try:
                summary = self._run(now, kept, (engine, backbones), store, last, stack, served)
            except BaseException as error:
                if self._threads:
                    record.end("; ".join([_in_words(error), *self._unsaved]), orderly=False)
                else:  # otherwise the publisher closes it
                    store.close()
                    record.take_back(_in_words(error))
                raise
            if summary.unsaved is None:
                record.end(self._reason, orderly=True)
            else:
                record.end(f"{self._reason}; {summary.unsaved}", orderly=False)
            return summary

    def _run(
        self,
        now: Loaded,
        kept: overrides.Overrides,
        models: tuple[Engine, Backbones],
        store: Store,
        last: LastExit | None,
        stack: ExitStack,
        served: list[OptionalService],
    ) -> Summary:
        config, (engine, backbones) = now.config, models
        parts = Components(
            self._loaded,
            now,
            kept,
            engine,
            store,
            refused=self._refused,
            unusable=self._unusable,
            last=last,
            proven=self._proven,
            frames=self._frames,
            on_crash=self._threads.crashed,
            wake=self._wake.poke,
            backbones=backbones,
        )
        self._reloader = parts.reloader  # what is asked from here on is done once everything runs
        if config.metrics.enabled:
            served.append(
                stack.enter_context(
                    OptionalService("metrics", partial(_metrics, parts.reloader, parts.stats))
                )
            )
        data = Path(config.agent.data_dir)
        served.append(
            stack.enter_context(
                OptionalService("local_status", partial(status_server, data, parts.local_status))
            )
        )
        parts.missing += [one.conditions for one in served]
        parts.inspector.warm_up()
        parts.trail.record("started", "agent", why=self._why(now), after={"config": now.digest})

        self._threads.start("publisher", parts.publisher.run, SERVING)
        self._threads.start("evidence", parts.evidence.run, SERVING)
        stop = threading.Event()
        self._threads.start("inspector", lambda: parts.inspector.run(stop))
        self._threads.start("learners", parts.learners.run)
        self._threads.start("triggers", parts.triggers.run)
        if parts.sparkplug is not None:
            self._threads.start("sparkplug", parts.sparkplug.run, SERVING)
        try:
            parts.stations.use(parts.prepared)
            names = ", ".join(parts.prepared.plans)
            log.info("inspecting %s with %s on %s", names, engine.info.name, engine.info.provider)
            notify(READY)
            parts.reloader.keep_last_good()
            self._threads.start("config-watch", parts.watch.run, SERVING)
            self._heaps.settle()
            self._watch(parts)
        except BaseException as error:
            self._threads.crashed(error)  # nobody is to be told that it stopped in order
            raise
        finally:
            self._heaps.release()
            self._unsaved = shut_down(parts, self._threads, stop)
            why = _in_words(self._threads.crashes[0]) if self._threads.crashes else self._reason
            parts.trail.record("stopped", "agent", why="; ".join([why, *self._unsaved]))
        if self._threads.crashes:
            raise self._threads.crashes[0]
        stats = parts.publisher.stats()
        # A publisher that was left behind still counts what is not on disk as waiting.
        pending = stats.waiting - store.waiting
        return Summary(
            parts.inspector.inspected,
            stats.stored,
            stats.published,
            store.waiting,
            stats.lost + pending,
            "; ".join(self._unsaved) or None,
        )

    def _watch(self, parts: Components) -> None:
        """Do what is asked and show how the agent is doing, until it is time to end."""
        inspecting, publishing = parts.inspector, parts.publisher
        watchdog = Watchdog(
            watchdog_s(), lambda: {"inspector": inspecting.turned_at, "publisher": publishing.turned_at}
        )
        inspector = self._threads.named("inspector")
        while not self._ends and not self._threads.crashes and inspector.is_alive():
            parts.turn()
            self._heaps.turn()
            watchdog.feed()
            self._wake.wait(_TICK_S)

    def _why(self, now: Loaded) -> str:
        if self._refused:
            return f"with the config that was good last, because of {self._refused[0]}"
        return f"with {now.path}"


def _metrics(reloader: Reloader, stats: Callable[[], JSON]) -> AbstractContextManager[int]:
    now = reloader.now  # a token that was missing comes with a later one
    if (absent := now.lacking("metrics")) is not None:  # nobody is let in by half a token
        raise ConfigError([absent.what])
    return metrics_server(now.config.metrics, stats)


def _in_words(error: BaseException) -> str:
    """Return what ended a run, for whoever reads it over MQTT: texts that are not ours may hold a secret."""
    ours = isinstance(error, AgentError | AdapterError | CameraError)
    return f"{type(error).__name__}: {error if ours else 'see the journal'}"
