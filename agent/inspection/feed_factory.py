"""Sources of pictures and feeds, as the config says them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Container
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

from adapters.core.protocol import Preprocess
from agent.base.errors import ConfigError
from agent.base.thread_priority import SERVING, lower_priority
from agent.config.loader import Loaded
from agent.config.models import Station
from agent.config.recipes import CLIP, Recipe
from agent.inspection.station_plan import StationPlan
from camera.core.frame import CameraError
from camera.core.source import Source
from camera.feed.gate import Gate
from camera.feed.mailbox import Mailbox
from camera.feed.stats import Past
from camera.feed.thread import Feed
from camera.feed.view import FeedSettings
from camera.pictures import preprocess
from camera.pictures.framing import Framing
from camera.pictures.view import ViewSetting, parse_tiles
from camera.sources.factory import open_source
from camera.sources.waiting import Waiting

_NOTHING = Past()

log = logging.getLogger(__name__)


def open_sources(
    loaded: Loaded, running: Container[str] = (), *, starting: bool = False
) -> dict[str, Source]:
    """Open the source of every enabled station.

    Args:
        loaded: the config.
        running: stations that have theirs already.
        starting: a camera that cannot be opened is no mistake of an edit; it waits alone, and the others run.

    Raises:
        ConfigError: what some of them name is no source; all of these at once.
    """
    sources: dict[str, Source] = {}
    problems = []
    enabled = {name: station for name, station in loaded.config.stations.items() if station.enabled}
    for name, station in enabled.items():
        if name in running:
            continue
        absent = loaded.lacking("stations", name, "camera")
        if absent is not None and absent.reference:
            # Not with half of its address: some cameras lock out who comes with a wrong password.
            sources[name] = Waiting(station.camera, absent.what, again=False)
            continue
        keep = Path(loaded.config.agent.data_dir) / "folders" / name
        try:
            sources[name] = open_source(station.camera, keep)
        except (CameraError, OSError) as error:
            if starting or absent is not None:
                log.error("station %s: %s; the others run, it is tried again", name, error)
                sources[name] = Waiting(station.camera, str(error), keep=keep)
            else:
                problems.append(loaded.problem(("stations", name, "camera"), str(error)))
    if not enabled:
        problems.append(loaded.problem(("stations",), "none is enabled: set enabled: true on one"))
    if problems:
        raise ConfigError(problems)
    return sources


def input_spec(spec: Preprocess) -> preprocess.InputSpec:
    """Return what a model wants of pictures as the camera's side knows it."""
    return preprocess.InputSpec(**asdict(spec))


def framing_of(station: Station, spec: Preprocess, measured: ViewSetting | None = None) -> Framing:
    """Return how the regions of a station are shown to a model.

    Args:
        station: its config.
        spec: of the model.
        measured: the view that its baseline was measured with; None without one.
    """
    return Framing(input_spec(spec), station.view, parse_tiles(station.tiles), measured)


def feed_settings(
    station: Station, recipe: Recipe, measured: ViewSetting | None = None, gate: Gate | None = None
) -> FeedSettings:
    """Return how a station's pictures are looked at.

    Args:
        station: its config.
        recipe: of the station.
        measured: the view that its baseline was measured with; None without one.
        gate: of its triggers, where it has any.
    """
    trigger = station.trigger
    return FeedSettings(
        roi=station.roi,
        limits=station.quality,
        every_s=trigger.every_s if trigger.mode == "interval" else None,
        gate=gate,
        presence=trigger if trigger.mode == "presence" else None,
        view=station.view,
        tiles=parse_tiles(station.tiles),
        measured=measured,
        smallest_defect_px=recipe.smallest_defect_px,
    )


def with_inputs(settings: FeedSettings, plan: StationPlan) -> FeedSettings:
    """Return how a station's pictures are looked at, made into all inputs that its products are judged by.

    A picture is made before anybody knows whose it is.

    Args:
        settings: without them.
        plan: of the product in force, with the others.
    """
    plans = (plan, *plan.others.values())
    compared = [one.reference for one in plans if one.reference is not None]
    specs = {one.features: input_spec(one.extractor.info.preprocess) for one in compared}
    specs.pop(CLIP, None)  # these are made of the model's input
    return replace(settings, model=any(one.recipe.needs_model for one in plans), references=specs)


def open_feed(
    name: str,
    settings: FeedSettings,
    source: Source,
    mailbox: Mailbox,
    spec: Preprocess,
    on_crash: Callable[[BaseException], None],
    before: Feed | Past = _NOTHING,
) -> Feed:
    """Return the feed of a station, not started yet.

    Args:
        name: of the station.
        settings: how its pictures are looked at.
        source: what it gives on.
        mailbox: where to.
        spec: of the model.
        on_crash: told what ended its thread.
        before: the station's feed until now, or what it was.
    """
    return Feed(
        name,
        source,
        mailbox,
        input_spec(spec),
        settings,
        on_crash=on_crash,
        before=before,
        prelude=partial(lower_priority, SERVING),
    )
