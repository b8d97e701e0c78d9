"""A station as a replay starts with it: the commissioning is read, versions and audit trail are fresh."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Literal

from adapters.baseline.baseline import Commissioning
from adapters.core.adapter import AdapterError
from adapters.core.measured_with import MeasuredWith
from adapters.core.protocol import Engine
from adapters.core.version import SOURCE, Version, save_version
from adapters.core.version_store import AdapterStore
from agent.audit.hash_chain import Audit
from agent.base.codec import timestamp
from agent.config.loader import Loaded
from agent.config.recipes import Recipe
from agent.domain.active_version import ActiveVersion
from agent.versions.commissioned import (
    Commissioned,
    Uncommissioned,
    commissioning_file,
    level_of,
    not_commissioned,
    open_product,
)
from agent.versions.learner_memory import Memory
from agent.versions.station_picture import known_of, picture_of, require_picture

Start = Literal["source", "active"]


def open_replayed(
    loaded: Loaded, station: str, recipe: Recipe, engine: Engine, start: Start, folder: Path, at: datetime
) -> Commissioned | Uncommissioned:
    """Return a station that learns in `folder`; the agent's own data are only read, whoever has them.

    Args:
        loaded: the config.
        station: one of its stations.
        recipe: of the station.
        engine: that inspects.
        start: ``source``: as after commissioning; ``active``: with what answers at the station now.
        folder: empty; for versions.
        at: UTC time of the beginning.
    """
    settings = loaded.config.stations[station].adaptation
    level = level_of(settings)
    file = commissioning_file(loaded.config, station)
    why = not_commissioned(loaded.config, station)
    if file.exists():
        try:
            clean = Commissioning.load(file)
            clean.require(engine.info.weights, recipe.words, MeasuredWith.of(engine.info))
            mode = engine.info.preprocess.resize_mode
            known = known_of(clean.digest, clean.measured, file.parent, mode)
            require_picture(clean, known, picture_of(loaded.config.stations[station], mode))
            active = _active(file.parent, engine, start, clean)
            return _fresh(station, loaded, clean, engine, active, folder, timestamp(at))
        except AdapterError as error:
            why = str(error)
    source = ActiveVersion(SOURCE, engine.source, 0.0)
    return Uncommissioned(station, settings, level, source, why, unusable=file.exists())


def replayed_product(
    loaded: Loaded, station: str, name: str, recipe: Recipe, engine: Engine, start: Start
) -> Commissioned | Uncommissioned:
    """Return a product whose parts are known by their ids; nothing is learned of it, its data are only read.

    Args:
        loaded: the config.
        station: one of its stations.
        name: of the product's recipe.
        recipe: the recipe.
        engine: that inspects.
        start: see `open_replayed`.
    """
    found = open_product(loaded, station, name, recipe, engine)
    if isinstance(found, Uncommissioned) or start == "active":
        return found
    return replace(found, answering=ActiveVersion(SOURCE, engine.source, found.clean.offset))


def _fresh(
    station: str,
    loaded: Loaded,
    clean: Commissioning,
    engine: Engine,
    active: Version | None,
    folder: Path,
    at: str,
) -> Commissioned:
    settings = loaded.config.stations[station].adaptation
    answering = ActiveVersion(SOURCE, engine.source, clean.offset)
    versions = folder / "adapters"
    store = AdapterStore(versions, engine.source, engine.info.weights, settings.keep)
    if active is not None and active.recipe == clean.recipe:
        store = _holding(active, versions, engine, settings.keep, at)
        if settings.mode != "shadow":
            answering = ActiveVersion(active.number, active.adapter, active.offset)
    level = level_of(settings, clean)
    audit = Audit(station)
    return Commissioned(station, settings, level, clean, store, audit, folder / "requests", answering)


def _active(folder: Path, engine: Engine, start: Start, clean: Commissioning) -> Version | None:
    """Return what the agent would start with; None: the source."""
    if start == "source":
        return None
    active = AdapterStore(folder / "adapters", engine.source, engine.info.weights, reading=True).active()
    ours = Memory.read(active.learner).commissioning in (None, clean.digest)
    return active.version if ours else None


def _holding(active: Version, folder: Path, engine: Engine, keep: int, at: str) -> AdapterStore:
    """Return a store in which a version answers under the number that it has."""
    save_version(active, folder / f"{active.number:06d}.safetensors", engine.info.weights)
    store = AdapterStore(folder, engine.source, engine.info.weights, keep)
    store.activate(active.number, at)
    return store
