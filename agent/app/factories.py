"""What a run needs before anything is started: the model, and what was learned."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path
from typing import get_args

from adapters.backbone.wordless_engine import WordlessEngine
from adapters.baseline.head import read_head
from adapters.core.patches import PatchExtractor
from adapters.core.protocol import Engine, Precision
from adapters.engines.engine_patches import patches_of
from adapters.engines.factory import open_engine
from agent.base.errors import ConfigError
from agent.config.loader import Loaded
from agent.config.models import Config
from agent.config.recipes import CLIP, Recipe, recipe_names
from agent.inspection.backbones import Backbones
from agent.mqtt.access import Access, tls_context
from agent.versions.commissioned import Commissioned, Uncommissioned, commissioning_file, open_station
from agent.versions.products import commissioned_products, settle
from agent.versions.station_plans import station_recipes, used_recipes

log = logging.getLogger(__name__)


def open_inspection(config: Config, backbones: Backbones, *, owner: bool = False) -> Engine:
    """Open what the enabled stations inspect with: the model, unless none of them asks it anything.

    Args:
        config: of the stations.
        backbones: where those that compare parts are opened.
        owner: see `open_model`.

    Raises:
        AdapterError: it cannot be used; the message names the file or the engine and the remedy.
    """
    return _open(config, used_recipes(config).values(), backbones, owner=owner)


def open_for_station(config: Config, station: str, backbones: Backbones) -> Engine:
    """Open what one station inspects with, whether it is enabled or not.

    Raises:
        AdapterError: it cannot be used.
    """
    return _open(config, station_recipes(config, station).values(), backbones)


def _open(config: Config, recipes: Iterable[Recipe], backbones: Backbones, *, owner: bool = False) -> Engine:
    asked = list(recipes)
    features = [one.reference.features for one in asked if one.reference is not None]
    if features and not any(one.needs_model for one in asked):
        return WordlessEngine(backbones.of(features[0]))
    return open_model(config, owner=owner)


def extractor_of(features: str, engine: Engine, backbones: Backbones) -> PatchExtractor:
    """Return what makes the features of a recipe's reference.

    Args:
        features: the recipe's word for them.
        engine: the model that judges by words.
        backbones: the others.

    Raises:
        ModelError: it cannot be opened, or the model makes none.
    """
    return patches_of(engine) if features == CLIP else backbones.of(features)


def open_model(config: Config, *, owner: bool = False, anew: str | None = None) -> Engine:
    """Open the model that judges by words.

    What ``engine: auto`` finds out is kept in the data folder. It stays with the precision that the stations
    were commissioned in: scores, operating points and what was learned are of that one.

    Args:
        config: names the model.
        owner: the data folder is ours, to be made where it is not there yet.
        anew: a station that is about to be commissioned for its recipe: what it was commissioned in for that
            counts no more.

    Raises:
        AdapterError: the model cannot be used; the message names the file or the engine and the remedy.
    """
    data = Path(config.agent.data_dir)
    stay_in = commissioned_in(config, anew) if config.model.engine == "auto" else None
    return open_engine(config.model, data if owner or data.is_dir() else None, stay_in)


def broker_access(loaded: Loaded, *, excused: bool = False) -> Access:
    """Return what the broker asks of us, as far as it is there.

    Args:
        loaded: the config.
        excused: certificates that cannot be used are no mistake of an edit.

    Raises:
        ConfigError: the certificate files cannot be used.
    """
    mqtt, absent = loaded.config.mqtt, loaded.lacking("mqtt")
    if absent is not None and absent.reference:
        return Access(mqtt, lacking=absent.what)
    return Access(mqtt) if excused or absent is not None else Access(mqtt, tls=tls_context(mqtt))


def commissioned_in(config: Config, anew: str | None = None) -> Precision | None:
    """Return the most exact precision in which a product of an enabled station was commissioned, or None.

    Files of releases that did not say it count as fp32, which is every engine's default.
    """
    enabled = [name for name, station in config.stations.items() if station.enabled]
    replaced = None if anew is None else commissioning_file(config, anew)
    known = recipe_names(config.recipes)
    files = [
        one.baseline
        for name in enabled
        for one in commissioned_products(config, name)
        # A product whose recipe is gone holds nobody back.
        if one.recipe in known or one.baseline == commissioning_file(config, name)
    ]
    heads = [read_head(file) for file in files if file != replaced]
    found = {"fp32" if head is None or head.measured is None else head.measured.precision for head in heads}
    return next((precision for precision in get_args(Precision) if precision in found), None)


def open_stations(
    loaded: Loaded, engine: Engine, names: Iterable[str], *, reading: bool = False
) -> dict[str, Commissioned | Uncommissioned]:
    """Return what is there of each named station's learning; see `open_station`.

    Raises:
        ConfigError: stations hold something else than their pins say; all of these at once.
    """
    if not reading:
        for name, station in loaded.config.stations.items():
            if not station.enabled:  # whose its data are is known now, and not when it is switched on
                settle(loaded.config, name)
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
