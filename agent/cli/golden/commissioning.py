"""What commissioning a station does with the golden samples that it keeps."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from adapters.core.adapter import AdapterError
from agent.base.errors import AgentError
from agent.cli.golden.features import open_features
from agent.config.models import Config
from agent.config.recipes import find_recipe
from agent.golden.reference_build import build_reference, good_labels, require_region
from agent.golden.store import GoldenStore
from agent.versions.operator_requests import requester
from agent.versions.products import product


def kept_samples(config: Config, station: str) -> list[tuple[Path, str]]:
    """Return the pictures of a station's golden samples that its recipe in force has words for, with classes.

    Raises:
        UsageError: they were cut by another region of interest.
        StoreError: the set cannot be read.
    """
    here = product(config, station)
    recipe = find_recipe(here.recipe, config.recipes)
    store = GoldenStore(here.golden, station)
    index = store.index()
    known = {id_: label for id_, label in index.classes().items() if label in recipe.classes}
    require_region(index, list(known), station, config.stations[station])
    for _ in store.pictures(list(known)):  # each is the one that was added
        pass
    return [(store.place(id_), label) for id_, label in known.items()]


def build_if_wanted(config: Config, station: str, tell: Callable[[str], None]) -> None:
    """Build the reference of the recipe in force where it has one, and tell what came of it."""
    here = product(config, station)
    recipe = find_recipe(here.recipe, config.recipes)
    if recipe.reference is None:
        return
    good = good_labels(recipe)
    if not any(label in good for label in GoldenStore(here.golden, station).index().classes().values()):
        tell(
            f"recipe {here.recipe} has a reference, and there are no golden samples to build it of: mekiki"
            f" golden add --station {station} adds some"
        )
        return
    try:
        extractor = open_features(config, recipe)
        built = build_reference(config, station, here.recipe, extractor, actor=requester())
    except (AdapterError, AgentError) as error:  # the baseline is there, and holds without it
        tell(f"the reference was not built: {error}")
        return
    for line in built.sentences():
        tell(line)


def nothing_to_commission(recipe: str, station: str) -> str:
    """Return what to say where a recipe has a reference alone."""
    return (
        f"recipe {recipe} has no words, so that there is no model to commission: mekiki golden add --station"
        f" {station} --class good PICTURES is all that it takes"
    )
