"""The stations that run: their cameras, what each is judged with, and what is known of its learning."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from functools import partial

from adapters.core.protocol import Engine
from agent.app.factories import open_stations
from agent.app.live_references import LiveReference, LiveReferences, no_backbone
from agent.app.plan_factory import alike_others, following, learns_alike, plan_of
from agent.base.event_id import ulid
from agent.config.loader import Loaded
from agent.config.models import Config
from agent.domain.learner_stats import LearnerStats
from agent.domain.production import UNSAID, Production
from agent.inspection.feed_factory import feed_settings, open_feed, open_sources, with_inputs
from agent.inspection.frame_count import InForce
from agent.inspection.station_plan import StationPlan, uninspected
from agent.inspection.triggers import Awaited, trigger_deadlines_ms
from agent.learning.supervisor import LearnerHandle, LearnerSupervisor
from agent.versions.commissioned import Commissioned, Uncommissioned
from agent.versions.measured_view import measured_view
from agent.versions.product_plans import OtherProduct, open_others, unusable
from agent.versions.station_plans import check_prompts, predictors, used_recipes
from camera.core.source import Source
from camera.feed.gate import Gate
from camera.feed.mailbox import Mailbox
from camera.feed.stats import Past
from camera.feed.thread import Feed
from camera.feed.view import FeedSettings

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Prepared:
    """Stations by a config, ready to run; nothing of it runs yet.

    Attributes:
        sources: of the cameras that are to be opened, or opened anew.
        found: what is there of each station's learning.
        pupils: the commissioned ones.
        plans: what each is judged with.
        others: of each, by recipe, the products that are judged by their part ids and not in force.
        references: station and recipe -> what its parts are compared with.
    """

    loaded: Loaded
    sources: Mapping[str, Source]
    found: Mapping[str, Commissioned | Uncommissioned]
    handles: Mapping[str, LearnerHandle]
    plans: Mapping[str, StationPlan]
    others: Mapping[str, Mapping[str, OtherProduct]]
    references: Mapping[tuple[str, str], LiveReference]


class StationManager:
    """Owns the cameras' feeds and what was found of each station; used by the main thread.

    Args:
        engine: that inspects.
        mailbox: where the pictures go.
        learners: of the agent.
        on_crash: told what ended a camera's thread.
        gate: station -> what its camera asks which pictures to inspect; None: all of them.
        production: station -> what is being made there now; the inspector's thread asks.
        references: of the stations.
    """

    def __init__(
        self,
        engine: Engine,
        mailbox: Mailbox,
        learners: LearnerSupervisor,
        on_crash: Callable[[BaseException], None],
        gate: Callable[[str], Gate | None] = lambda station: None,
        production: Callable[[str], Production] = lambda station: UNSAID,
        references: LiveReferences | None = None,
    ) -> None:
        self._engine, self._mailbox, self._learners, self._on_crash = engine, mailbox, learners, on_crash
        self._gate, self._production = gate, production
        self._references = references or LiveReferences(no_backbone)
        self._feeds: dict[str, Feed] = {}
        self._leaving: list[Feed] = []
        self._past: dict[str, Past] = {}  # of stations that are gone, should they come back
        self._now: Prepared | None = None

    @property
    def feeds(self) -> tuple[Feed, ...]:
        """The cameras that run, in the order of the config; any thread may ask."""
        return tuple(self._feeds.values())

    @property
    def uncommissioned(self) -> list[Uncommissioned]:
        """The stations that learn nothing."""
        return [one for one in self.found.values() if isinstance(one, Uncommissioned)]

    def learner_stats(self) -> list[LearnerStats]:
        """Return how all learners are doing, those that cannot start included."""
        off = [LearnerStats(one.station, unusable=one.why) for one in self.uncommissioned if one.unusable]
        wrong = {} if self._now is None else {n: unusable(one) for n, one in self._now.others.items()}
        return [
            replace(one, unusable_products=wrong.get(one.station)) for one in (*off, *self._learners.stats())
        ]

    def prepare(self, loaded: Loaded, anew: Collection[str] = ()) -> Prepared:
        """Make everything that stations by this config need, and change nothing.

        Args:
            loaded: the config.
            anew: stations that run, whose camera is to be opened once more.

        Raises:
            ConfigError: something that it names cannot be used.
        """
        before = self._now
        check_prompts(loaded, self._engine)
        running = {name: feed.source for name, feed in self._feeds.items() if name not in anew}
        opened = open_sources(loaded, running, starting=before is None)
        sources = {**running, **opened}
        recipes = used_recipes(loaded.config)
        names = [name for name, station in loaded.config.stations.items() if station.enabled]
        same = (
            set()
            if before is None
            else {n for n in names if learns_alike(before.loaded, loaded, n, self._engine)}
        )
        found = {} if before is None else {n: before.found[n] for n in names if n in same}
        others = [name for name in names if name not in same]
        found |= open_stations(loaded, self._engine, others, reading=before is not None)
        handles, plans = {}, {}
        beside: dict[str, Mapping[str, OtherProduct]] = {}
        live, references = self._references.prepare(loaded, names)
        for name in names:
            recipe, one = recipes[loaded.config.stations[name].recipe], found[name]
            if before is not None and name in same:
                handle = before.handles.get(name)
                frozen = before.plans[name].frozen
            else:
                frozen, first = predictors(self._engine, recipe, one)
                handle = None
                if isinstance(one, Commissioned):
                    since = self._since(name, one.recipe)
                    handle = LearnerHandle(name, frozen, first, one.recipe, since)
            if handle is not None:
                handles[name] = handle
            unlearned = (
                alike_others(before.loaded, loaded, before.others[name])
                if before is not None and name in same
                else None
            )
            beside[name] = open_others(loaded, name, self._engine, one, unlearned)
            if before is not None and (left := before.handles.get(name)) is not None:
                beside[name] = following(beside[name], before.found[name], left)
            plans[name] = plan_of(
                loaded, name, recipe, self._engine, one, frozen, sources[name], handle, beside[name],
                partial(self._production, name), references[name],
            )  # fmt: skip
        return Prepared(loaded, opened, {name: found[name] for name in names}, handles, plans, beside, live)

    def use(self, prepared: Prepared) -> None:
        """Let what was prepared run; who judges is to have its plans already."""
        self._now = prepared
        self._learners.use(prepared.loaded, prepared.handles)
        self._references.use(prepared.references)
        feeds = {}
        for name in prepared.plans:
            old, settings = self._feeds.get(name), self._settings(prepared, name)
            if name in prepared.sources:
                feeds[name] = open_feed(
                    name, settings, prepared.sources[name], self._mailbox,
                    self._engine.info.preprocess, self._on_crash, self._before(name),
                )  # fmt: skip
            else:
                assert old is not None
                old.use(settings)
                feeds[name] = old
        gone = [feed for name, feed in self._feeds.items() if feeds.get(name) is not feed]
        self._feeds = feeds  # replaced as a whole: other threads look at it
        for feed in gone:  # from here on they have nothing more to say
            feed.stop()
        for name in prepared.sources:
            feeds[name].start()
        self._leaving += gone

    def left(self) -> list[str]:
        """Return the stations whose last picture has come since the last call, because they are gone."""
        ended = [feed for feed in self._leaving if feed.join(0)]
        self._leaving = [feed for feed in self._leaving if feed not in ended]
        gone = [feed for feed in ended if feed.station not in self._feeds]
        self._past |= {feed.station: feed.past() for feed in gone}
        return [feed.station for feed in gone]

    def stop(self) -> None:
        """Ask all cameras to end."""
        for feed in self._feeds.values():
            feed.stop()

    def join(self, timeout_s: float) -> None:
        """Wait for the cameras' end."""
        until = time.monotonic() + timeout_s
        for feed in (*self._leaving, *self._feeds.values()):
            if not feed.join(max(0.0, until - time.monotonic())):
                log.warning("camera %s: does not end, it is left behind", feed.station)

    def _settings(self, prepared: Prepared, name: str) -> FeedSettings:
        measured = measured_view(prepared.found[name], self._engine.info.preprocess)
        station, recipe = prepared.loaded.config.stations[name], prepared.plans[name].recipe
        settings = feed_settings(station, recipe, measured, self._gate(name))
        return with_inputs(settings, prepared.plans[name])

    def _before(self, name: str) -> Feed | Past:
        """Return the feed that had a station last, also where it is still leaving; or what it was."""
        leaving = {feed.station: feed for feed in self._leaving}  # the last one of each
        return self._feeds.get(name) or leaving.get(name) or self._past.get(name, Past())

    def _since(self, name: str, recipe: str) -> InForce | None:
        """Return since when a station's learner has been told its frames; None: for as long as it runs.

        What was judged otherwise, by another recipe or on other pictures, is nothing to what was learned.
        """
        old = None if self._now is None else self._now.handles.get(name)
        if old is not None and old.recipe == recipe:
            return old.since
        before = self._before(name)
        past = before if isinstance(before, Past) else before.past()
        return None if past.number == 0 else InForce(ulid(), past.number, time.monotonic())

    @property
    def found(self) -> Mapping[str, Commissioned | Uncommissioned]:
        """What is there of each running station's learning."""
        return {} if self._now is None else self._now.found


def awaited(config: Config, prepared: Prepared) -> dict[str, Awaited]:
    """Return the stations that wait for triggers, with all that their results need."""
    return {
        name: Awaited(deadline_ms, partial(uninspected, config.agent.id, name, prepared.plans[name]))
        for name, deadline_ms in trigger_deadlines_ms(config).items()
    }
