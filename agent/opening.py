"""What a run needs of its stations before anything is started: sources of pictures, and what was learned."""

from __future__ import annotations

from collections.abc import Iterable

from adapters.engine import Engine
from agent.commissioned import Commissioned, Uncommissioned, open_station
from agent.configfile import Loaded
from agent.errors import ConfigError
from agent.plans import used_recipes
from camera.frame import CameraError
from camera.source import Source, open_source


def open_sources(loaded: Loaded) -> dict[str, Source]:
    """Open the source of every enabled station.

    Raises:
        ConfigError: what some of them name is no source; all of these at once.
    """
    sources, problems = {}, []
    for name, station in loaded.config.stations.items():
        if not station.enabled:
            continue
        try:
            sources[name] = open_source(station.camera)
        except CameraError as error:
            problems.append(loaded.problem(("stations", name, "camera"), str(error)))
    if not problems and not sources:
        problems.append(loaded.problem(("stations",), "none is enabled: set enabled: true on one"))
    if problems:
        raise ConfigError(problems)
    return sources


def open_stations(
    loaded: Loaded, engine: Engine, sources: Iterable[str]
) -> dict[str, Commissioned | Uncommissioned]:
    """Return what is there of each station's learning; see `open_station`.

    Raises:
        ConfigError: stations hold something else than their pins say; all of these at once.
        StoreError: a folder cannot be written.
    """
    recipes = used_recipes(loaded.config)
    found: dict[str, Commissioned | Uncommissioned] = {}
    problems: list[str] = []
    for name in sources:
        try:
            found[name] = open_station(loaded, name, recipes[loaded.config.stations[name].recipe], engine)
        except ConfigError as error:
            problems += error.problems
    if problems:
        raise ConfigError(problems)
    return found
