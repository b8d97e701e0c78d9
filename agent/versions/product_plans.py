"""The products of a station beside the one in force: judged by their part ids, and not learned from."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial

from adapters.core.measured_picture import AUTO
from adapters.core.protocol import Engine
from adapters.core.version import SOURCE
from agent.config.loader import Loaded
from agent.config.models import Config
from agent.config.recipes import Recipe, find_recipe
from agent.domain.active_version import ActiveVersion
from agent.inspection.predictor import Predictor
from agent.inspection.product_choice import ProductChoice
from agent.inspection.reference_plan import ReferencePlan, info_of
from agent.inspection.station_plan import StationPlan
from agent.versions.commissioned import Commissioned, Uncommissioned, open_product
from agent.versions.measured_view import measured_view
from agent.versions.station_plans import predictors, provenance
from camera.pictures.view import native

log = logging.getLogger(__name__)

Found = Commissioned | Uncommissioned


@dataclass(frozen=True, slots=True, eq=False)
class OtherProduct:
    """A product that is not in force, as it was found when the plans were made.

    Attributes:
        recipe_name: of its recipe.
        found: its baseline and versions, which nobody changes while it is not in force.
        frozen: the model as it was trained, at its commissioned operating point.
        answering: its stored active version; any thread may ask.
    """

    recipe_name: str
    found: Found
    frozen: Predictor
    answering: Callable[[], Predictor]


Opened = Callable[[str, Recipe], Found]
"""Name of a recipe, the recipe -> what there is of that product."""


def other_recipes(config: Config, station: str) -> list[str]:
    """Return the recipes that patterns of a station name beside the one in force, in their order."""
    one = config.stations[station]
    return [name for name in dict.fromkeys(each.recipe for each in one.products) if name != one.recipe]


def open_others(
    loaded: Loaded,
    station: str,
    engine: Engine,
    in_force: Found,
    known: Mapping[str, OtherProduct] | None = None,
    opened: Opened | None = None,
) -> dict[str, OtherProduct]:
    """Return what there is of each product of a station beside the one in force; the data are only read.

    Args:
        loaded: the config.
        station: its name.
        engine: of the model.
        in_force: what there is of the product in force, whose view the station's pictures have.
        known: those that were opened before and are the same still.
        opened: finds one; None: as the agent does.

    Raises:
        ConfigError: the model makes nothing that is a finite number of the words of one.
    """
    find = opened or (lambda name, recipe: open_product(loaded, station, name, recipe, engine))
    others = {}
    for name in other_recipes(loaded.config, station):
        if known is not None and name in known:
            others[name] = known[name]
            continue
        recipe = find_recipe(name, loaded.config.recipes)
        found = _seen_alike(find(name, recipe), in_force, name, loaded.config, engine)
        frozen, first = predictors(engine, recipe, found)
        others[name] = OtherProduct(name, found, frozen, partial(_always, first))
    return others


def with_others(
    plan: StationPlan,
    loaded: Loaded,
    station: str,
    engine: Engine,
    others: Mapping[str, OtherProduct],
    references: Mapping[str, ReferencePlan] | None = None,
) -> StationPlan:
    """Return the plan of a station with the products that it knows by their part ids.

    Args:
        plan: of the product in force.
        loaded: the config.
        station: its name.
        engine: that inspects.
        others: the products beside that.
        references: recipe's name -> what parts of it are compared with.
    """
    plans = {}
    for name, one in others.items():
        recipe = find_recipe(name, loaded.config.recipes)
        reference = (references or {}).get(name)
        plans[name] = replace(
            plan,
            recipe_name=name,
            recipe=recipe,
            provenance=provenance(loaded, engine, recipe, one.found, info_of(reference)),
            frozen=one.frozen,
            answering=one.answering,
            on_sample=None,
            reference=reference,
        )
    return replace(plan, choice=ProductChoice.of(loaded.config.stations[station].products), others=plans)


def unusable(others: Mapping[str, OtherProduct]) -> str | None:
    """Return what is wrong with the baselines of products that are not in force; None where nothing is."""
    wrong = [
        f"parts of recipe {one.recipe_name} are judged with the model as it was trained: {one.found.why}"
        for one in others.values()
        if isinstance(one.found, Uncommissioned) and one.found.unusable
    ]
    return "; ".join(wrong) or None


def _seen_alike(found: Found, in_force: Found, name: str, config: Config, engine: Engine) -> Found:
    """Return what was found, unless its baseline was measured in another view than the station shows.

    A picture is made before anybody knows whose it is: all products of a station have one view.
    """
    station, spec = found.station, engine.info.preprocess
    if isinstance(found, Uncommissioned) or config.stations[station].view != AUTO:
        return found  # a view that the config names is that of every baseline that fits
    of_model = AUTO if native(spec.resize_mode) == "crop" else native(spec.resize_mode)
    own, shown = (measured_view(one, spec) or of_model for one in (found, in_force))
    if own == shown:
        return found
    why = (
        f"recipe {name} was commissioned with view {own}, and station {station} shows its pictures as the"
        f" product in force was: with view {shown}: set stations.{station}.view, or run mekiki commission"
        f" --station {station} --recipe {name} --replace"
    )
    log.error("station %s: %s; its parts are judged with the model as it was trained", station, why)
    source = ActiveVersion(SOURCE, engine.source, 0.0)
    return Uncommissioned(station, found.settings, found.level, source, why, unusable=True)


def _always(predictor: Predictor) -> Predictor:
    return predictor
