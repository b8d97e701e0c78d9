"""What picture files are judged with: a recipe as the model was trained, or a station as its line judges."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from adapters.core.prompts import TextCache
from adapters.core.protocol import Engine
from adapters.core.version import SOURCE
from agent.base.errors import UsageError
from agent.config import overrides
from agent.config.diagnostics import did_you_mean
from agent.config.loader import Loaded
from agent.config.recipes import Recipe, find_recipe
from agent.inspection.feed_factory import framing_of, input_spec
from agent.inspection.predictor import Predictor
from agent.versions.commissioned import Uncommissioned, open_station
from agent.versions.measured_view import measured_view
from agent.versions.station_plans import failing, predictors, prompts
from camera.core.settings import FolderCamera, QualityLimits, RegionOfInterest
from camera.pictures.framing import Framing

_NEITHER = {"frozen_s": None, "stale_s": None}
"""Files are neither frozen nor stale."""


@dataclass(frozen=True, slots=True)
class FilePlan:
    """Everything that judging a picture file needs.

    Attributes:
        framing: how the region is shown to the model.
        roi: of a station; None: the whole of each picture, kept ones too.
        limits: black, saturated and blurred pictures are not judged, as on the line.
        bit_depth: of 16-bit grey pictures; None: what the file says.
        said: what answers, for people; empty where it is the model as it was trained, uncommissioned.
    """

    recipe: Recipe
    predictor: Predictor
    framing: Framing
    roi: RegionOfInterest | None = None
    limits: QualityLimits = field(default_factory=lambda: QualityLimits(**_NEITHER))
    bit_depth: int | None = None
    said: str = ""


def of_recipe(recipe: Recipe, engine: Engine) -> FilePlan:
    """Return the plan of a recipe: whole pictures, as a new station would show them to the source model."""
    features = TextCache(engine).features(prompts(recipe), engine.source)
    predictor = Predictor(SOURCE, engine.source, features, failing(recipe))
    return FilePlan(recipe, predictor, Framing(input_spec(engine.info.preprocess)))


def in_force(loaded: Loaded) -> Loaded:
    """Return the config with what was set over it from outside.

    Raises:
        StoreError: that cannot be read by this release.
    """
    return overrides.applied(loaded, overrides.read(Path(loaded.config.agent.data_dir)))[0]


def with_recipe(loaded: Loaded, station: str, recipe: str | None) -> Loaded:
    """Return the config with another recipe in force at a station; None: as it is.

    Raises:
        UsageError: there is no such recipe, or the station cannot have it.
    """
    if recipe is None:
        return loaded
    try:
        return overrides.applied(loaded, overrides.with_set(loaded, (), station, "recipe", recipe))[0]
    except overrides.OverrideError as error:
        raise UsageError(str(error)) from error


def of_station(loaded: Loaded, name: str, engine: Engine) -> FilePlan:
    """Return the plan of a station: its region, limits, recipe, operating point and the version that answers.

    The data folder is only read, an agent may be at work there. Votes are left out: files are not the
    pictures of one part.

    Args:
        loaded: the config that is in force.
        name: of the station.
        engine: of the config's model.

    Raises:
        ConfigError: something else is in force than the station's pins say.
    """
    station = loaded.config.stations[name]
    recipe = find_recipe(station.recipe, loaded.config.recipes)
    found = open_station(loaded, name, recipe, engine, reading=True)
    _, answering = predictors(engine, recipe, found)
    version = f"version {answering.number}" if answering.number != SOURCE else "the model as it was trained"
    why = f" ({found.why})" if isinstance(found, Uncommissioned) else ""
    said = f"station {name}: recipe {station.recipe}, {version} at offset {answering.offset:.3f} answers{why}"
    limits = station.quality.model_copy(update=_NEITHER)
    depth = station.camera.bit_depth if isinstance(station.camera, FolderCamera) else None
    spec = engine.info.preprocess
    framing = framing_of(station, spec, measured_view(found, spec))
    return FilePlan(recipe, answering, framing, station.roi, limits, depth, said)


def require_station(loaded: Loaded, name: str) -> None:
    """Raise UsageError where no station has this name."""
    names = list(loaded.config.stations)
    if name not in names:
        raise UsageError(f"no station is called {name!r}: {did_you_mean(name, names)}")
