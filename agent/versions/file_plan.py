"""What picture files are judged with: a recipe as the model was trained, or a station as its line judges."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from adapters.core.patches import PatchExtractor
from adapters.core.prompts import TextCache
from adapters.core.protocol import Engine
from adapters.core.version import SOURCE
from adapters.reference.reference import Reference, UnusableReference
from agent.base.errors import UsageError
from agent.config import overrides
from agent.config.diagnostics import did_you_mean
from agent.config.loader import Loaded
from agent.config.recipes import CLIP, Recipe, find_recipe
from agent.inspection.feed_factory import framing_of, input_spec
from agent.inspection.predictor import Predictor
from agent.inspection.product_choice import ProductChoice
from agent.versions.commissioned import Commissioned, Uncommissioned, open_station
from agent.versions.measured_view import measured_view
from agent.versions.product_plans import open_others
from agent.versions.station_plans import failing, predictors, prompts
from agent.versions.station_reference import open_reference, sentence
from camera.core.settings import FolderCamera, QualityLimits, RegionOfInterest
from camera.pictures.framing import Framing

_NEITHER = {"frozen_s": None, "stale_s": None}
"""Files are neither frozen nor stale."""


@dataclass(frozen=True, slots=True, eq=False)
class FileReference:
    """What picture files are compared with.

    Attributes:
        extractor: makes the features.
        framing: how the region is shown to it; None: as the model sees it.
        reference: of a station's product; None where there is none that can be used.
    """

    extractor: PatchExtractor
    framing: Framing | None
    reference: Reference | None


@dataclass(frozen=True, slots=True)
class FilePlan:
    """Everything that judging a picture file needs.

    Attributes:
        framing: how the region is shown to the model, or to the backbone where that judges alone.
        compared: what files are compared with; None where the words alone judge.
        roi: of a station; None: the whole of each picture, kept ones too.
        limits: black, saturated and blurred pictures are not judged, as on the line.
        bit_depth: of 16-bit grey pictures; None: what the file says.
        said: what answers, for people; empty where it is the model as it was trained, uncommissioned.
        choice: which product a file is of, by its part id.
        others: recipe's name -> plan of a product that is not in force.
    """

    recipe: Recipe
    predictor: Predictor
    framing: Framing
    roi: RegionOfInterest | None = None
    limits: QualityLimits = field(default_factory=lambda: QualityLimits(**_NEITHER))
    bit_depth: int | None = None
    said: str = ""
    choice: ProductChoice = field(default_factory=ProductChoice)
    others: Mapping[str, FilePlan] = field(default_factory=dict)
    compared: FileReference | None = None

    def of(self, part_id: str | None) -> FilePlan:
        """Return what a file of this part id is judged with."""
        return self.others.get(self.choice.named(part_id) or "", self)


def of_recipe(recipe: Recipe, engine: Engine) -> FilePlan:
    """Return the plan of a recipe: whole pictures, as a new station would show them to the source model.

    A reference belongs to a station's product: without a station the words alone judge.

    Raises:
        UsageError: the recipe has none.
    """
    if not recipe.has_words:
        raise UsageError(
            "this recipe has no words, and its reference is a station's: name that with --station"
        )
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


def of_station(
    loaded: Loaded, name: str, engine: Engine, extractor: Callable[[str], PatchExtractor] | None = None
) -> FilePlan:
    """Return the plan of a station: its region, limits, recipe, operating point and the version that answers.

    The data folder is only read, an agent may be at work there. Votes are left out: files are not the
    pictures of one part.

    Args:
        loaded: the config that is in force.
        name: of the station.
        engine: of the config's model.
        extractor: a recipe's word for features -> what makes them; None: no part is compared with anything.

    Raises:
        ModelError: what makes the features cannot be opened.
        ConfigError: something else is in force than the station's pins say.
    """
    station = loaded.config.stations[name]
    recipe = find_recipe(station.recipe, loaded.config.recipes)
    found = open_station(loaded, name, recipe, engine, reading=True)
    _, answering = predictors(engine, recipe, found)
    said = f"station {name}: {_said(station.recipe, found, answering)}"
    limits = station.quality.model_copy(update=_NEITHER)
    depth = station.camera.bit_depth if isinstance(station.camera, FolderCamera) else None
    spec = engine.info.preprocess
    framing = framing_of(station, spec, measured_view(found, spec))
    beside = open_others(loaded, name, engine, found)
    compared, told = _compared(loaded, name, station.recipe, extractor)
    said += told
    for product in station.products:
        if (one := beside.get(product.recipe)) is not None:
            said += f"; parts {product.part_id}: {_said(product.recipe, one.found, one.answering())}"
    shown = _shown(framing, recipe, compared)
    plan = FilePlan(recipe, answering, shown, station.roi, limits, depth, said, compared=compared)
    others = {}
    for other, one in beside.items():
        its = find_recipe(other, loaded.config.recipes)
        compared, told = _compared(loaded, name, other, extractor)
        said += told
        others[other] = replace(
            plan,
            recipe=its,
            predictor=one.answering(),
            framing=_shown(framing, its, compared),
            compared=compared,
        )
    return replace(plan, said=said, choice=ProductChoice.of(station.products), others=others)


def _shown(framing: Framing, recipe: Recipe, compared: FileReference | None) -> Framing:
    """Return how a region is shown to what judges it first."""
    own = None if compared is None or recipe.needs_model else compared.framing
    return framing if own is None else own


def _compared(
    loaded: Loaded, station: str, name: str, extractor: Callable[[str], PatchExtractor] | None
) -> tuple[FileReference | None, str]:
    """Return what files of a product are compared with, and what is to be said of it."""
    recipe = find_recipe(name, loaded.config.recipes)
    if recipe.reference is None or extractor is None:
        return None, ""
    backbone = extractor(recipe.reference.features)
    own = recipe.reference.features != CLIP
    framing = framing_of(loaded.config.stations[station], backbone.info.preprocess) if own else None
    try:
        reference = open_reference(loaded.config, station, name, backbone.info)
    except UnusableReference as error:
        goes_on = "its words alone judge" if recipe.has_words else "nothing is inspected"
        return FileReference(backbone, framing, None), f"; {error}; {goes_on}"
    return FileReference(backbone, framing, reference), f"; {sentence(reference)}"


def _said(recipe: str, found: Commissioned | Uncommissioned, answering: Predictor) -> str:
    if not len(answering.fails):
        return f"recipe {recipe}, without words"
    version = f"version {answering.number}" if answering.number != SOURCE else "the model as it was trained"
    why = f" ({found.why})" if isinstance(found, Uncommissioned) else ""
    return f"recipe {recipe}, {version} at offset {answering.offset:.3f} answers{why}"


def require_station(loaded: Loaded, name: str) -> None:
    """Raise UsageError where no station has this name."""
    names = list(loaded.config.stations)
    if name not in names:
        raise UsageError(f"no station is called {name!r}: {did_you_mean(name, names)}")
