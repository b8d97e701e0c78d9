"""What a run needs before anything is started: the model, sources of pictures, and what was learned."""

from __future__ import annotations

import logging
from collections.abc import Callable, Container, Iterable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import get_args

from adapters.commissioning import measured_with
from adapters.engine import Engine, Precision, Preprocess
from adapters.open import open_engine
from agent.commissioned import Commissioned, Uncommissioned, commissioning_file, open_station
from agent.config import Config, Station
from agent.configfile import Loaded
from agent.errors import ConfigError
from agent.plans import used_recipes
from agent.priority import SERVING, step_back
from camera import preprocess
from camera.feed import Feed
from camera.feed_stats import Past
from camera.frame import CameraError
from camera.gate import Gate
from camera.mailbox import Mailbox
from camera.source import Source, open_source
from camera.view import FeedSettings
from camera.waiting import Waiting

_NOTHING = Past()

log = logging.getLogger(__name__)


def open_model(config: Config, *, owner: bool = False, anew: str | None = None) -> Engine:
    """Open the model to inspect with.

    What ``engine: auto`` finds out is kept in the data folder. It stays with the precision that the stations
    were commissioned in: scores, operating points and what was learned are of that one.

    Args:
        config: names the model.
        owner: the data folder is ours, to be made where it is not there yet.
        anew: a station that is about to be commissioned: what it was commissioned in counts no more.

    Raises:
        AdapterError: the model cannot be used; the message names the file or the engine and the remedy.
    """
    data = Path(config.agent.data_dir)
    stay_in = commissioned_in(config, anew) if config.model.engine == "auto" else None
    return open_engine(config.model, data if owner or data.is_dir() else None, stay_in)


def commissioned_in(config: Config, anew: str | None = None) -> Precision | None:
    """Return the most exact precision in which an enabled station was commissioned; None where none was.

    Files of releases that did not say it count as fp32, which is every engine's default.
    """
    enabled = [name for name, station in config.stations.items() if station.enabled and name != anew]
    files = [file for name in enabled if (file := commissioning_file(config, name)).exists()]
    found = {"fp32" if (made := measured_with(file)) is None else made.precision for file in files}
    return next((precision for precision in get_args(Precision) if precision in found), None)


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


def open_stations(
    loaded: Loaded, engine: Engine, names: Iterable[str], *, reading: bool = False
) -> dict[str, Commissioned | Uncommissioned]:
    """Return what is there of each named station's learning; see `open_station`.

    Raises:
        ConfigError: stations hold something else than their pins say; all of these at once.
    """
    recipes = used_recipes(loaded.config)
    found: dict[str, Commissioned | Uncommissioned] = {}
    problems: list[str] = []
    for name in names:
        recipe = recipes[loaded.config.stations[name].recipe]
        try:
            found[name] = open_station(loaded, name, recipe, engine, reading=reading)
        except ConfigError as error:
            problems += error.problems
    if problems:
        raise ConfigError(problems)
    return found


def feed_settings(station: Station, gate: Gate | None = None) -> FeedSettings:
    """Return how a station's pictures are looked at.

    Args:
        station: its config.
        gate: of its triggers, where it has any.
    """
    trigger = station.trigger
    return FeedSettings(
        roi=station.roi,
        limits=station.quality,
        every_s=trigger.every_s if trigger.mode == "interval" else None,
        gate=gate,
    )


def open_feed(
    name: str,
    station: Station,
    source: Source,
    mailbox: Mailbox,
    spec: Preprocess,
    on_crash: Callable[[BaseException], None],
    before: Feed | Past = _NOTHING,
    gate: Gate | None = None,
) -> Feed:
    """Return the feed of a station, not started yet.

    Args:
        name: of the station.
        station: region, limits of quality and trigger.
        source: what it gives on.
        mailbox: where to.
        spec: of the model.
        on_crash: told what ended its thread.
        before: the station's feed until now, or what it was.
        gate: of its triggers, where it has any.
    """
    return Feed(
        name,
        source,
        mailbox,
        preprocess.Preprocess(**asdict(spec)),
        feed_settings(station, gate),
        on_crash=on_crash,
        before=before,
        prelude=partial(step_back, SERVING),
    )
