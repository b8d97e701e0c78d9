"""A commissioned station as it is found at start: clean line, versions, what answers; and its pins."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from adapters.baseline.baseline import Commissioning
from adapters.core.adapter import AdapterError
from adapters.core.measured_picture import MeasuredPicture
from adapters.core.measured_with import MeasuredWith
from adapters.core.protocol import Engine
from adapters.core.scorer import Scorer
from adapters.core.version import SOURCE, Version
from adapters.core.version_store import AdapterStore
from agent.audit.hash_chain import Audit
from agent.base.codec import timestamp
from agent.base.errors import ConfigError
from agent.config.loader import Loaded
from agent.config.models import Config
from agent.config.models_adaptation import Adaptation
from agent.config.recipes import Recipe, find_recipe, prompts
from agent.domain.active_version import ActiveVersion
from agent.versions.learner_settings import LearnerSettings, Level
from agent.versions.products import Product, commissioned_products, product, settle
from agent.versions.station_picture import adopt, known_of, picture_of, require_picture
from agent.versions.version_manager import VersionManager

log = logging.getLogger(__name__)

_FEW = 4
"""Known parts of each kind that a version is tried on before it answers."""

NOT_COMMISSIONED = "not commissioned: run mekiki commission --station {}"


@dataclass(frozen=True, slots=True, eq=False)
class Commissioned:
    """What a station's learner starts with.

    Attributes:
        clean: the commissioning; fits the model and the recipe.
        requests: folder where people leave their requests.
        answering: what answers from the first frame on.
        recipe: name of the recipe that it is commissioned for.
        pictures: what is known of the pictures that it was commissioned on; None where nobody asked.
    """

    station: str
    settings: Adaptation
    level: Level
    clean: Commissioning
    store: AdapterStore
    audit: Audit
    requests: Path
    answering: ActiveVersion
    recipe: str = ""
    pictures: MeasuredPicture | None = None

    def learner_settings(self) -> LearnerSettings:
        """Return how its learner learns."""
        every = self.settings.every_frames
        return LearnerSettings(
            mode=self.settings.mode,
            level=self.level,
            every=every,
            recheck=8 * every,
            bound=self.settings.bound,
            per_hour=self.settings.max_shift_per_hour,
        )


@dataclass(frozen=True, slots=True, eq=False)
class Uncommissioned:
    """A station that learns nothing: the model as it was trained answers.

    It does so at the offset of the commissioning where that can be read, otherwise at 0.

    Attributes:
        why: in a sentence.
        unusable: there is a commissioning and it cannot be used, or there are some, of other products alone.
    """

    station: str
    settings: Adaptation
    level: Level
    answering: ActiveVersion
    why: str
    unusable: bool = False


def station_folder(config: Config, station: str, recipe: str | None = None) -> Path:
    """Return where a station keeps baseline, versions and audit trail of a recipe; None: the one in force."""
    return product(config, station, recipe).folder


def commissioning_file(config: Config, station: str, recipe: str | None = None) -> Path:
    """Return where a station's commissioning for a recipe lies, or will; None: the one in force."""
    return product(config, station, recipe).baseline


def not_commissioned(config: Config, station: str, recipe: str | None = None) -> str:
    """Say of a station that has no baseline for a recipe what to do; None: the one in force."""
    recipe = recipe or config.stations[station].recipe
    if not find_recipe(recipe, config.recipes).has_words:
        return f"recipe {recipe} has no words: its reference judges, and nothing is learned"
    others = [one.recipe for one in commissioned_products(config, station)]
    if not others:
        return NOT_COMMISSIONED.format(station)
    them = f"{', '.join(others)} {'are' if others[1:] else 'is'}"
    remedy = f"run mekiki commission --station {station} --recipe {recipe}"
    return f"recipe {recipe} is not commissioned here ({them}): {remedy}"


def open_station(
    loaded: Loaded,
    station: str,
    recipe: Recipe,
    engine: Engine,
    *,
    reading: bool = False,
    inspecting: bool = True,
) -> Commissioned | Uncommissioned:
    """Return what is there of a station's learning; nobody else may have the data folder.

    What was found damaged is in the audit trail and in the log. A commissioning that cannot be used is no
    reason to stand still: the station inspects with the model as it was trained. So it does, and changes
    nothing of them, where a newer release has written the adapters in a way that this one does not read.

    Args:
        loaded: the config.
        station: its name.
        recipe: of the station.
        engine: of the model.
        reading: change nothing: our own learners may be at work there.
        inspecting: the engine is the one that inspects; what learns computes in fp32, whatever inspects.

    Raises:
        ConfigError: something else is in force than the station's pins say.
    """
    # Whoever learns finds the data where the agent, which waits for answers there, has put them.
    here = product(loaded.config, station) if reading or not inspecting else settle(loaded.config, station)
    found = _found(loaded, station, here, recipe, engine, reading=reading, inspecting=inspecting)
    _require_pins(loaded, station, found, engine.info.weights, recipe.digest)
    return found


def open_product(
    loaded: Loaded, station: str, name: str, recipe: Recipe, engine: Engine
) -> Commissioned | Uncommissioned:
    """Return what is there of a product that is not in force; its data are only read.

    Pins are those of the product in force.

    Args:
        loaded: the config.
        station: its name.
        name: of the recipe.
        recipe: the recipe.
        engine: that inspects.
    """
    here = product(loaded.config, station, name)
    return _found(loaded, station, here, recipe, engine, reading=True, inspecting=True)


def _found(
    loaded: Loaded,
    station: str,
    here: Product,
    recipe: Recipe,
    engine: Engine,
    *,
    reading: bool,
    inspecting: bool,
) -> Commissioned | Uncommissioned:
    settings = loaded.config.stations[station].adaptation
    level = level_of(settings)
    file, why = here.baseline, not_commissioned(loaded.config, station, here.recipe)
    found: Commissioned | Uncommissioned | None = None
    there, offset = recipe.has_words and _is_there(file), 0.0
    if there:
        try:
            clean = Commissioning.load(file)
            now = MeasuredWith.of(engine.info) if inspecting else None
            clean.require(engine.info.weights, recipe.words, now)
            mode = engine.info.preprocess.resize_mode
            pictures = picture_of(loaded.config.stations[station], mode)
            said = None if reading else adopt(clean, pictures, file.parent, mode)
            if said is not None:
                log.warning("station %s: %s", station, said)
            known = known_of(clean.digest, clean.measured, file.parent, mode)
            require_picture(clean, known, pictures)
            offset = clean.offset
            scorer = Scorer(engine, prompts(recipe), clean.fails)
            level = level_of(settings, clean)
            found = _opened(station, settings, level, clean, scorer, file.parent, reading, said)
            found = replace(found, recipe=here.recipe, pictures=known)
        except (AdapterError, OSError) as error:
            why = str(error) if isinstance(error, AdapterError) else f"{file.parent}: cannot be used: {error}"
            log.error("station %s: %s; it inspects with the model as it was trained", station, why)
    if found is None:
        source = ActiveVersion(SOURCE, engine.source, offset)
        unusable = there or (recipe.has_words and bool(commissioned_products(loaded.config, station)))
        found = Uncommissioned(station, settings, level, source, why, unusable=unusable)
    return found


def _is_there(file: Path) -> bool:
    """Whether there is a file, or something that cannot be looked at in its place."""
    try:
        return file.exists()
    except OSError:
        return True


def level_of(settings: Adaptation, clean: Commissioning | None = None) -> Level:
    """Return what a station may learn: everything, unless told less, or its guard sees too little."""
    level: Level = "full" if settings.level == "auto" else settings.level
    return level if clean is None or clean.sight.learns else "operating_point"


def require_finite(scorer: Scorer, clean: Commissioning, version: Version) -> None:
    """Make sure that what a version makes of the recipe's words and of known parts are numbers.

    Raises:
        NotFinite: they are not: it may not answer.
    """
    # Of another recipe it does not answer anyway, and nothing is known of its words.
    if version.recipe == clean.recipe:
        scorer.look(np.concatenate([clean.good[:_FEW], clean.known.pictures[:_FEW]]), version.adapter)


def _opened(
    station: str,
    settings: Adaptation,
    level: Level,
    clean: Commissioning,
    scorer: Scorer,
    folder: Path,
    reading: bool,
    said: str | None,
) -> Commissioned:
    def fit(version: Version) -> None:
        require_finite(scorer, clean, version)

    source, weights = scorer.source, scorer.engine.info.weights
    store = AdapterStore(folder / "adapters", source, weights, settings.keep, reading=reading, fit=fit)
    audit = Audit(station, None if reading else folder / "audit.jsonl")
    found = () if reading else (*audit.found, *store.found)
    for line in found:
        log.error("station %s: %s", station, line)
    for line in found if said is None else (*found, said):
        try:
            audit.append(timestamp(datetime.now(UTC)), "found", actor="agent", why=line)
        except OSError as error:  # a full disk; what answers is known all the same
            log.error("station %s: audit: %s", station, error)
    # Only asked what answers: the learner has one of its own.
    manager = VersionManager(clean, source, store, audit, lambda: "", lambda event: None)
    answering = manager.source if settings.mode == "shadow" else manager.answering
    return Commissioned(station, settings, level, clean, store, audit, folder / "requests", answering)


def _require_pins(
    loaded: Loaded, station: str, found: Commissioned | Uncommissioned, weights: str, recipe: str
) -> None:
    """Raise ConfigError with every pin that something else is in force for."""
    pins, answering = found.settings.pins, found.answering
    in_force = {
        "weights": (pins.weights, weights),
        "recipe": (pins.recipe, recipe),
        "commissioning": (
            pins.commissioning,
            found.clean.digest if isinstance(found, Commissioned) else f"none ({found.why})",
        ),
        "adapter": (pins.adapter, answering.adapter.digest),
    }
    at = ("stations", station, "adaptation", "pins")
    problems = [
        loaded.problem((*at, name), f"is pinned to {pinned}, in force is {actual}")
        for name, (pinned, actual) in in_force.items()
        if pinned is not None and pinned != actual
    ]
    # Versions may share their tensors and differ in the operating point alone.
    if pins.offset is not None and abs(pins.offset - answering.offset) > 1e-6:
        problems.append(
            loaded.problem(
                (*at, "offset"), f"is pinned to {pins.offset:g}, in force is {answering.offset:.6f}"
            )
        )
    if found.settings.mode == "locked" and pins.offset is None and answering.number != SOURCE:
        what = f"version {answering.number} answers: mode: locked needs offset: {answering.offset:.6f} too"
        problems.append(loaded.problem(at, what))
    if problems:
        raise ConfigError(problems)
