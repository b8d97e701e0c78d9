"""A line that is watched while it is known to be well: what the model as it was trained says of its parts."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from adapters.engine import Engine
from adapters.seen import Seen
from agent.commissioned import Uncommissioned
from agent.config import Recipe
from agent.configfile import Loaded
from agent.errors import ConfigError
from agent.feeds import open_feed
from agent.handover import Witnessed
from agent.inspector import Inspector
from agent.plans import limits_of, predictors, provenance
from agent.station_plan import StationPlan
from agent.verdict import Verdict
from camera.frame import CameraError
from camera.mailbox import Mailbox
from camera.open import open_source

Progress = Callable[[int, str | None], None]
"""Told how many parts there are so far, and why the camera's last picture cannot be judged."""


def watch(
    loaded: Loaded, found: Uncommissioned, recipe: Recipe, engine: Engine, parts: int, progress: Progress
) -> list[Seen]:
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
    stop, seen, crashes = threading.Event(), list[Seen](), list[BaseException]()

    def witness(one: Witnessed) -> None:
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
        witness=witness,
    )
    mailbox = Mailbox()
    inspector = Inspector(loaded.config.agent.id, engine, {name: plan}, mailbox, deliver, batch=1)
    feed = open_feed(name, station, source, mailbox, engine.info.preprocess, crashed)
    feed.start()
    try:
        inspector.run(stop)
    finally:
        feed.stop()
        mailbox.close()
    if crashes:
        raise crashes[0]
    return seen
