"""A line that is watched while it is known to be well: what the model as it was trained says of its parts."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from adapters.core.observation import Observation
from adapters.core.protocol import Engine
from agent.base.errors import ConfigError
from agent.config.loader import Loaded
from agent.config.recipes import Recipe
from agent.domain.verdict import Verdict
from agent.inspection.feed_factory import feed_settings, open_feed
from agent.inspection.inspector import Inspector
from agent.inspection.sample_queue import InspectedSample
from agent.inspection.station_plan import StationPlan
from agent.versions.commissioned import Uncommissioned
from agent.versions.station_plans import limits_of, predictors, provenance
from camera.core.frame import CameraError
from camera.feed.mailbox import Mailbox
from camera.sources.factory import open_source

Progress = Callable[[int, str | None], None]
"""Told how many parts there are so far, and why the camera's last picture cannot be judged."""


def watch(
    loaded: Loaded, found: Uncommissioned, recipe: Recipe, engine: Engine, parts: int, progress: Progress
) -> list[Observation]:
    """Return what was seen of up to `parts` parts that could be judged; fewer where the source ended.

    Their pictures go the whole way that they go when the agent runs.

    Raises:
        ConfigError: the camera that the config names is none.
    """
    name, station = found.station, loaded.config.stations[found.station]
    try:
        source = open_source(station.camera)
    except CameraError as error:
        raise ConfigError([loaded.problem(("stations", name, "camera"), str(error))]) from error
    stop, seen, crashes = threading.Event(), list[Observation](), list[BaseException]()

    def on_sample(one: InspectedSample) -> None:
        seen.append(one.seen)
        if len(seen) == parts:
            stop.set()

    def crashed(error: BaseException) -> None:
        crashes.append(error)
        stop.set()

    def deliver(verdicts: Sequence[Verdict]) -> Sequence[Verdict]:
        progress(len(seen), verdicts[-1].quality.fault)
        return verdicts

    frozen, _ = predictors(engine, recipe, found)
    plan = StationPlan(
        recipe_name=station.recipe,
        recipe=recipe,
        provenance=provenance(loaded, engine, recipe, found),
        limits=limits_of(station.quality, source),
        frozen=frozen,
        answering=lambda: frozen,
        on_sample=on_sample,
    )
    mailbox = Mailbox()
    inspector = Inspector(loaded.config.agent.id, engine, {name: plan}, mailbox, deliver, batch=1)
    settings = feed_settings(station, recipe)
    feed = open_feed(name, settings, source, mailbox, engine.info.preprocess, crashed)
    feed.start()
    try:
        inspector.run(stop)
    finally:
        feed.stop()
        mailbox.close()
    if crashes:
        raise crashes[0]
    return seen
