"""Where pictures may decide together: not at a station that counts parts, by triggers or itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from agent.config.models import Config, Station
from agent.config.recipes import Recipe, find_recipe, recipe_names
from agent.config.yaml_tree import Path


def votes_over_parts(station: Station, recipe: Recipe) -> bool:
    """Whether pictures of different parts would decide together."""
    return station.trigger.mode in ("mqtt", "presence") and recipe.votes is not None and recipe.votes.n > 1


def voting_problems(config: Config) -> Iterator[tuple[Path, str]]:
    """Yield the setting that cannot be, and why, for each station that would let one part judge another."""
    for name, station in config.stations.items():
        places: dict[str, Path] = {station.recipe: ("recipe",)}
        for number, product in enumerate(station.products):
            places.setdefault(product.recipe, ("products", number, "recipe"))
        for named, place in places.items():
            recipe = find_recipe(named, config.recipes)
            if votes_over_parts(station, recipe):
                own = named in config.recipes
                path: Path = ("recipes", named, "votes") if own else ("stations", name, *place)
                yield path, voting_problem(name, named, recipe, station.trigger.mode)


def hidden_part_problems(config: Config) -> Iterator[tuple[Path, str]]:
    """Yield the trigger that cannot be, and why, of each station that would look for parts and find none."""
    for name, station in config.stations.items():
        if station.trigger.mode == "presence" and station.camera.kind == "simulated":
            yield (
                ("stations", name, "trigger"),
                "mode: presence finds parts that pass, and each picture of the simulated line shows another"
                " part: set mode: continuous, or another camera",
            )


def voting_problem(station: str, name: str, recipe: Recipe, mode: str = "mqtt") -> str:
    """Return what is wrong with a recipe that has votes at a station that counts parts, and what to do."""
    assert recipe.votes is not None
    return (
        f"the last {recipe.votes.n} pictures decide together, and at stations.{station}, with"
        f" trigger.mode: {mode}, each is of another part: remove votes from recipe {name},"
        " or give the station a recipe without"
    )


def possible_recipes(station: Station, recipes: Mapping[str, Recipe]) -> list[str]:
    """Return the recipes that a station can be set to, sorted."""
    return [
        name for name in recipe_names(recipes) if not votes_over_parts(station, find_recipe(name, recipes))
    ]
