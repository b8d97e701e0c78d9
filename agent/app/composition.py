"""The parts of an agent, made from a config and tied to each other; nothing here starts a thread."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from adapters.core.protocol import Engine
from adapters.engines.factory import ModelSettings
from agent.app.factories import broker_access, extractor_of
from agent.app.live_references import LiveReferences
from agent.app.station_manager import StationManager, awaited
from agent.audit.agent_log import Trail
from agent.base import logs
from agent.base.codec import JSON
from agent.base.errors import ConfigError
from agent.base.wire import OFFLINE
from agent.challenge.book import ChallengeBook
from agent.commands.gateway import CommandGateway
from agent.config.diff import SettingChange
from agent.config.loader import Loaded
from agent.config.overrides import Overrides
from agent.domain.conditions import Condition
from agent.domain.exit_reason import LastExit
from agent.domain.verdict import Verdict
from agent.inspection.backbones import Backbones
from agent.inspection.inspector import Inspector
from agent.inspection.triggers import Triggers
from agent.learning.supervisor import LearnerSupervisor
from agent.mqtt.publisher import Publisher
from agent.mqtt.retained_topics import RetainedTopics
from agent.reload.file_watcher import ConfigWatch
from agent.reload.production_book import ProductionBook
from agent.reload.reloader import Reloader
from agent.sparkplug.metrics import NodeNow
from agent.sparkplug.session import Sparkplug
from agent.store.image_writer import ImageWriter
from agent.store.retention import Retention
from agent.store.store import Store
from agent.telemetry.counters import Counters
from agent.telemetry.status_topics import StatusTopics
from camera.core.frame import Frame
from camera.feed.mailbox import Mailbox

log = logging.getLogger(__name__)


class Components:
    """Owns the parts; each says which thread may use it. Made and used by the main thread.

    Args:
        file: the config file as it was read.
        now: what is in force at the start.
        kept: what of it was set over the file.
        engine: that inspects.
        store: owned by the publisher from now on.
        refused: what is wrong with the config file, where `file` is the one that was good last.
        unusable: see `Reloader`.
        last: how the last run ended.
        proven: this very config was in force before: what it names and is missing now may come back.
        frames: end after so many; None for ever.
        on_crash: told what ended a camera's thread.
        wake: called when the main thread has something to do.
        backbones: that make what parts are compared by; None: opened as they are asked for.

    Attributes:
        prepared: the stations as they are at the start.

    Raises:
        ConfigError: something that the config names cannot be used.
    """

    def __init__(
        self,
        file: Loaded,
        now: Loaded,
        kept: Overrides,
        engine: Engine,
        store: Store,
        *,
        refused: Sequence[str],
        unusable: ModelSettings | None,
        last: LastExit | None,
        proven: bool,
        frames: int | None,
        on_crash: Callable[[BaseException], None],
        wake: Callable[[], None],
        backbones: Backbones | None = None,
    ) -> None:
        config = now.config
        self._engine, self._last = engine, last
        self.missing: list[Callable[[], list[Condition]]] = []  # what the line does without, now
        self.trail = Trail(Path(config.agent.data_dir))
        self.mailbox, self._tally = Mailbox(), Counters()
        self.learners = LearnerSupervisor(now, self._tell)
        self.control = CommandGateway(config)
        self.triggers = Triggers(self._keep)
        self.challenges = ChallengeBook(Path(config.agent.data_dir), self.trail)
        self.challenges.use(config.stations)
        self.production = ProductionBook(config, self.trail, self.control.show_production)
        makes = partial(extractor_of, engine=engine, backbones=backbones or Backbones(config))
        self.references = LiveReferences(makes, self.trail)
        self.stations = StationManager(
            engine,
            self.mailbox,
            self.learners,
            on_crash,
            self.triggers.gate,
            self.production.of,
            self.references,
        )
        self.status = StatusTopics(
            config,
            engine.info,
            lambda: self.stations.feeds,
            self._tally,
            self.stations.learner_stats,
            self._conditions,
            self.control.shown,
        )
        self.retained = RetainedTopics(self.status.state_topic)
        self.sparkplug = self._sparkplug(now, proven=proven) if config.sparkplug.enabled else None
        self.prepared = self.stations.prepare(now)
        self.evidence = ImageWriter(
            store.files, config.storage.images, lambda: store.retention.min_free_bytes
        )
        self.publisher = Publisher(
            store,
            config.mqtt if config.mqtt.enabled else None,
            client_id=f"mekiki-{config.agent.id}",
            result_topic=self.status.result_topic,
            retained=self.retained,
            will=self.status.availability(OFFLINE),
            evidence=self.evidence,
            subscriptions=self.control.subscriptions(),
            stored=None if self.sparkplug is None else self.sparkplug.book.stored,
            access=broker_access(now, excused=proven),
        )
        self.inspector = Inspector(
            config.agent.id,
            engine,
            self.prepared.plans,
            self.mailbox,
            self._deliver,
            batch=config.inspector.batch,
            on_fail=self._show_fail,
            keep=self.evidence.offer,
            limit=frames,
        )
        self.reloader = Reloader(file, now, kept, self._apply, self.trail, refused, wake, unusable)
        # A start with the last good one has another text than the file; that may be mended by now.
        known = None if refused else file.text
        self.watch = ConfigWatch(now.path, known, lambda: self.reloader.ask("file"))
        self.control.begin(
            self.retained,
            lambda: self.stations.found,
            engine,
            self.stats,
            self.publisher,
            self.learners.label,
            self.triggers,
            self.production,
            instance=self.status.instance,
            reloader=self.reloader,
            challenges=self.challenges,
            record=lambda event, actor, why, before, after: self.trail.record(
                event, actor, why, before=before, after=after
            ),
        )
        self.triggers.use(awaited(config, self.prepared))
        self.retained.set(self.status.birth())
        self.retained.set(self.status.info(self.reloader.shown(), last))

    def stats(self) -> JSON:
        """Return the counters since the start; any thread may ask."""
        return self.status.stats(self.publisher.stats())

    def local_status(self) -> JSON:
        """Return what `mekiki status` shows; any thread may ask."""
        return self.status.local(self.publisher.stats(), self.reloader.shown(), self.retained) | {
            "challenges": self.challenges.shown()
        }

    def turn(self) -> None:
        """Do what was asked, and show how the agent is doing."""
        self.reloader.serve()
        self.reloader.look_again(time.monotonic())
        self.production.serve()
        self.challenges.serve()
        self.control.serve()
        self.references.look(time.monotonic())
        self.trail.write()
        for station in self.stations.left():
            self.retained.clear(station, self.status.retained(station))
        self.retained.set(self.status.info(self.reloader.shown(), self._last))
        for message in (
            *self.status.unlearned(self.stations.uncommissioned),
            *self.status.look(self.publisher.stats(), time.monotonic()),
        ):
            self.retained.set(message)

    def _apply(self, new: Loaded, found: Sequence[SettingChange]) -> None:
        """Bring a config into force; see `agent.reload.reloader.Apply`."""
        anew = {str(change.path[1]) for change in found if change.effect == "station"}
        ready = self.stations.prepare(new, anew)
        # Certificates that nobody has just written may be broken for a while: the rest comes into force.
        same = new.config.mqtt.tls == self.reloader.now.config.mqtt.tls
        access = [broker_access(new, excused=same) for _ in range(2)]  # one for each connection
        # From here on nothing can fail: what was asked for comes into force as a whole.
        if new.config.log != self.reloader.now.config.log:
            logs.set_up(new.config.log.level, new.config.log.format)
        hidden = [name for name in ready.plans if self.status.shows_fails(name)]
        self.status.use(new.config)
        for name in ready.plans:
            self.retained.expect(self.status.retained(name))
        for name in hidden:
            if not self.status.shows_fails(name):
                self.retained.clear(name, [self.status.image_topic(name)])
        self.production.use(new.config)
        self.challenges.use(new.config.stations)
        self.control.use(new.config)
        self.triggers.use(awaited(new.config, ready), anew)
        if new.config.mqtt.enabled:
            self.publisher.use(new.config.mqtt, access[0])
        self.publisher.keep(Retention.of(new.config.storage), new.config.mqtt.result_version)
        self.evidence.settings = new.config.storage.images
        if self.sparkplug is not None:
            self.sparkplug.use(new.config.mqtt, access[1])
        self.inspector.use(ready.plans, new.config.inspector.batch)
        self.stations.use(ready)

    def _sparkplug(self, now: Loaded, *, proven: bool) -> Sparkplug | None:
        try:
            return Sparkplug(
                now.config,
                lambda: NodeNow(self._engine.info.name, self.reloader.now.digest, *self.status.health()),
                lambda: [feed.snapshot() for feed in self.stations.feeds],
                broker_access(now, excused=proven),
            )
        except ConfigError as error:  # an upgrade without its profile
            if not proven:
                raise
            log.error("%s; inspection goes on, hosts of Sparkplug are told nothing", error)
            lacks = Condition("sparkplug", "sparkplug", f"{error}; then start the agent again")
            self.missing.append(lambda: [lacks])
            return None

    def _deliver(self, verdicts: Sequence[Verdict]) -> Sequence[Verdict]:
        """Keep the verdicts that count, and return them."""
        counted = self.triggers.settle(verdicts)
        self._keep(counted)
        return counted

    def _keep(self, verdicts: Sequence[Verdict]) -> None:
        self._tally.add(verdicts)
        self.control.recent.add(verdicts)
        self.challenges.see(verdicts)
        self.publisher.put(verdicts)

    def _tell(self, station: str, name: str, payload: JSON) -> None:
        event = name == "adapter/event"
        message = self.status.station(station, name, payload, retain=not event)
        (self.retained.tell if event else self.retained.set)(message)
        if self.sparkplug is not None:
            self.sparkplug.book.learned(station, name, payload)

    def _show_fail(self, frame: Frame) -> None:
        if self.status.shows_fails(frame.station) and frame.image is not None:
            self.retained.defer(self.status.image_topic(frame.station), partial(self.status.picture, frame))

    def _conditions(self) -> list[Condition]:
        """Return what is wrong with the config and the trail, and with what hosts of Sparkplug are told."""
        found = [*self.reloader.conditions(), *self.references.conditions(), *self.challenges.conditions()]
        for conditions in self.missing:
            found += conditions()
        if self.sparkplug is not None:
            found += self.sparkplug.conditions()
        if self.watch.problem is not None:
            found.append(Condition("config_unwatched", "config", self.watch.problem))
        if self.trail.problem is not None:
            found.append(Condition("audit", "audit", f"rows of the audit trail wait: {self.trail.problem}"))
        return found
