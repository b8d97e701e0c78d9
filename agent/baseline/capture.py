"""A line that is watched while it is known to be well: what the model as it was trained says of its parts."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from adapters.baseline.baseline import Commissioning, CommissioningError
from adapters.baseline.build import SURE
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
from camera.core.frame import CameraError, Frame
from camera.feed.mailbox import Mailbox
from camera.sources.factory import open_source

Progress = Callable[[int, str | None], None]
"""Told how many parts there are so far, and why the camera's last picture cannot be judged."""


MOST_REJECTED = 0.25
"""Share of rejected parts beyond which nobody can call the line clean."""
LEAST_SURE = 0.5
"""Share of parts that the model names surely, below which its pictures or the recipe's words are bad."""

Takes = Callable[[str | None], bool]
"""Whether a part of this id is of the product that is watched."""


@dataclass(frozen=True, slots=True)
class WatchedParts:
    """What was seen of a line.

    Attributes:
        seen: of each part of the product that could be judged.
        passed_over: parts of other products, by their ids.
    """

    seen: list[Observation]
    passed_over: int


class _Selected(Mailbox):
    """A mailbox that takes in the parts of one product; the camera's thread counts the others."""

    def __init__(self, takes: Takes) -> None:
        super().__init__()
        self._takes = takes
        self.passed_over = 0

    def put(self, frame: Frame, stop: threading.Event | None = None) -> None:
        """Put a frame of the product; leave another one out."""
        if self._counts(frame):
            super().put(frame, stop)

    def put_waiting(self, frame: Frame, stop: threading.Event) -> bool:
        """Put a frame of the product when there is room; False for another one, which nobody judges."""
        return self._counts(frame) and super().put_waiting(frame, stop)

    def _counts(self, frame: Frame) -> bool:
        taken = frame.image is None or self._takes(frame.part_id)
        self.passed_over += not taken
        return taken


def watch(
    loaded: Loaded,
    found: Uncommissioned,
    recipe: Recipe,
    engine: Engine,
    parts: int,
    progress: Progress,
    takes: Takes = lambda part_id: True,
) -> WatchedParts:
    """Return what was seen of up to `parts` parts that could be judged; fewer where the source ended.

    Their pictures go the whole way that they go when the agent runs.

    Args:
        loaded: the config, with the recipe in force.
        found: the station.
        recipe: that it is watched with.
        engine: of the model.
        parts: to see.
        progress: is told.
        takes: which parts count.

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
    mailbox = _Selected(takes)
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
    return WatchedParts(seen, mailbox.passed_over)


def require_well(clean: Commissioning, seen: Sequence[Observation], fails: NDArray[np.bool_]) -> None:
    """Make sure that a line does not look as if something were wrong with it already.

    Args:
        clean: the baseline of the station.
        seen: its parts.
        fails: ``(C,)`` which classes are defects.

    Raises:
        CommissioningError: it does; says what to do.
    """
    rejected = float(np.mean([one.score >= clean.offset for one in seen]))
    sure = float(np.mean([one.entropy < SURE * np.log(len(fails)) for one in seen]))
    remedy = "look at lamp, lens, region of interest and the recipe's words; commission a clean line"
    if rejected > MOST_REJECTED:
        raise CommissioningError(
            f"station {clean.station}: {rejected:.0%} of the parts would be rejected: {remedy}"
        )
    if sure < LEAST_SURE:
        raise CommissioningError(
            f"station {clean.station}: of only {sure:.0%} of the parts the model is sure: {remedy}"
        )
