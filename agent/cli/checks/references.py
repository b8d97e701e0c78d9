"""What the parts of a station are compared with, for `mekiki doctor` and `mekiki check`, in one line each."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from adapters.core.adapter import AdapterError
from adapters.core.patches import PatchExtractor
from adapters.core.protocol import Preprocess
from adapters.reference.reference import Reference, UnusableReference
from agent.cli.checks.finding import Finding
from agent.config.loader import Loaded
from agent.config.recipes import Recipe
from agent.versions.products import product
from agent.versions.station_plans import station_recipes
from agent.versions.station_reference import (
    backbone_of,
    made_by,
    open_reference,
    require_own_picture,
    sentence,
)


def compared(loaded: Loaded, name: str, extractor: Callable[[str], PatchExtractor]) -> Iterator[Finding]:
    """Say of each reference of a station what health would.

    Args:
        loaded: the config.
        name: of the station.
        extractor: a recipe's word for features -> what makes them.
    """
    for recipe_name, recipe in station_recipes(loaded.config, name).items():
        if recipe.reference is None:
            continue
        subject = f"reference {name} {recipe_name}"
        try:
            backbone = extractor(recipe.reference.features)
            found = open_reference(loaded.config, name, recipe_name, backbone.info)
        except UnusableReference as error:
            yield Finding(recipe.has_words, subject, f"{error}; {_without(recipe)}", warns=recipe.has_words)
        except AdapterError as error:  # the agent does not start without it
            yield Finding(False, subject, str(error))
        else:
            yield Finding(True, subject, sentence(found))


def lines(loaded: Loaded) -> Iterator[str]:
    """Yield what each reference of the enabled stations says of itself; nothing is opened but its file."""
    for name, station in loaded.config.stations.items():
        for recipe_name, recipe in station_recipes(loaded.config, name).items():
            if not station.enabled or recipe.reference is None:
                continue
            said = stored(loaded, name, recipe_name)
            text = f"{said}; {_without(recipe)}" if isinstance(said, str) else sentence(said)
            yield f"station {name}: recipe {recipe_name}: {text}"


def stored(loaded: Loaded, station: str, recipe: str) -> Reference | str:
    """Return the reference that lies in the data folder, or why there is none that fits the station."""
    found = _read(loaded, station, recipe)
    if isinstance(found, str):
        return found
    file = product(loaded.config, station, recipe).reference
    try:
        require_own_picture(found, loaded.config.stations[station], station, recipe, str(file))
    except UnusableReference as error:
        return str(error)
    return found


def stored_spec(loaded: Loaded, station: str) -> Preprocess | None:
    """Return how a backbone that judges alone gets a station's pictures; None where that is not known."""
    found = _read(loaded, station, loaded.config.stations[station].recipe)
    seen = None if isinstance(found, str) else backbone_of(found)
    if seen is None:
        return None
    return Preprocess(seen.size, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), "bilinear", seen.resize_mode)


def _read(loaded: Loaded, station: str, recipe: str) -> Reference | str:
    """Return the reference that lies in the data folder, or why there is none."""
    file = product(loaded.config, station, recipe).reference
    if not file.exists():
        return f"has no reference yet: {made_by(station, recipe)}"
    try:
        return Reference.load(file)
    except UnusableReference as error:
        return str(error)


def _without(recipe: Recipe) -> str:
    return "its words alone judge" if recipe.has_words else "its parts are not inspected"
