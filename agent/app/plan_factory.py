"""What each station that runs is judged with, and what of that outlives another config."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from math import prod

from adapters.core.protocol import Engine
from agent.config.loader import Loaded
from agent.config.recipes import Recipe
from agent.domain.production import Production
from agent.inspection.predictor import Predictor
from agent.inspection.reference_plan import ReferencePlan, info_of
from agent.inspection.station_plan import StationPlan
from agent.learning.supervisor import LearnerHandle
from agent.versions.commissioned import Commissioned, Uncommissioned
from agent.versions.product_plans import OtherProduct, with_others
from agent.versions.station_picture import picture_of
from agent.versions.station_plans import limits_of, provenance, used_recipes
from camera.core.source import Source
from camera.pictures.view import parse_tiles


def learns_alike(old: Loaded, new: Loaded, name: str, engine: Engine) -> bool:
    """Whether a station that ran learns the same product, by the same words, pictures and settings."""
    before, after = old.config.stations.get(name), new.config.stations[name]
    if before is None or not before.enabled:
        return False
    recipes = [used_recipes(each.config)[station.recipe] for each, station in ((old, before), (new, after))]
    # The share of pictures that the frozen model sees too is the inspector's affair.
    same = before.adaptation.model_copy(update={"shadow_share": after.adaptation.shadow_share})
    mode = engine.info.preprocess.resize_mode
    pictures = [picture_of(station, mode) for station in (before, after)]
    alike = before.recipe == after.recipe and recipes[0].words == recipes[1].words
    return alike and same == after.adaptation and pictures[0] == pictures[1]


def alike_others(old: Loaded, new: Loaded, known: Mapping[str, OtherProduct]) -> Mapping[str, OtherProduct]:
    """Return those of a station's other products whose words are the same; nobody has learned of them since.

    Args:
        old: the config before.
        new: the config; the product in force of the station is what it was.
        known: what was found by the config before.
    """
    recipes = [used_recipes(each.config) for each in (old, new)]
    return {
        name: one
        for name, one in known.items()
        if name in recipes[1] and recipes[0][name].words == recipes[1][name].words
    }


def following(
    others: Mapping[str, OtherProduct], before: Commissioned | Uncommissioned, handle: LearnerHandle
) -> Mapping[str, OtherProduct]:
    """Return a station's other products, where one that was in force until now answers as its learner says.

    That one learns until the new plans are in use, and may promote a version after its folder was read.

    Args:
        others: as they were found.
        before: what there was of the product that was in force until now.
        handle: of its learner.
    """
    one = others.get(handle.recipe)
    if one is None or not isinstance(one.found, Commissioned) or not isinstance(before, Commissioned):
        return others
    same = one.found.clean.digest == before.clean.digest and one.found.settings.mode == before.settings.mode
    return {**others, handle.recipe: replace(one, answering=handle.answering)} if same else others


def plan_of(
    loaded: Loaded,
    name: str,
    recipe: Recipe,
    engine: Engine,
    found: Commissioned | Uncommissioned,
    frozen: Predictor,
    source: Source,
    handle: LearnerHandle | None,
    others: Mapping[str, OtherProduct],
    production: Callable[[], Production],
    references: Mapping[str, ReferencePlan],
) -> StationPlan:
    """Return what a station is judged with, each part by its own product.

    Args:
        loaded: the config.
        name: of the station.
        recipe: of the station.
        engine: that inspects.
        found: what is there of its learning.
        frozen: the model as it was trained, at the commissioned operating point.
        source: of its pictures.
        handle: where it learns; None where it does not.
        others: the products beside the one in force.
        production: what is being made now.
        references: recipe's name -> what parts of it are compared with.
    """
    reference = references.get(loaded.config.stations[name].recipe)
    station = loaded.config.stations[name]
    plan = StationPlan(
        recipe_name=station.recipe,
        recipe=recipe,
        provenance=provenance(loaded, engine, recipe, found, info_of(reference)),
        limits=limits_of(station.quality, source),
        frozen=frozen,
        answering=partial(_always, frozen) if handle is None else handle.answering,
        on_sample=None if handle is None else handle.put,
        shadow=station.adaptation.shadow_share,
        tiles=prod(parse_tiles(station.tiles)),
        production=production,
        since=None if handle is None else handle.since,
        reference=reference,
    )
    return with_others(plan, loaded, name, engine, others, references)


def _always(predictor: Predictor) -> Predictor:
    return predictor
