"""From config to what the inspector needs: recipes as prompts, and the provenance that results carry."""

from __future__ import annotations

from adapters.engine import Engine, PromptError
from adapters.prompts import Prompts
from agent import __version__
from agent.config import Config, Recipe
from agent.configfile import Loaded
from agent.errors import ConfigError
from agent.inspector import StationPlan
from agent.recipes import find_recipe
from agent.verdict import Provenance
from camera.source import Source


def prompts(recipe: Recipe) -> Prompts:
    """Return the words of a recipe as the adapters know them."""
    return Prompts(tuple((label, c.phrases) for label, c in recipe.classes.items()), recipe.templates)


def check_prompts(loaded: Loaded, engine: Engine) -> None:
    """Make sure that the model can read every recipe that is used.

    Raises:
        ConfigError: a prompt is longer than the model's context.
    """
    problems = []
    for name, recipe in used_recipes(loaded.config).items():
        for label, texts in zip(recipe.classes, prompts(recipe).texts, strict=True):
            try:
                engine.tokenize(texts)
            except PromptError as error:
                problems.append(loaded.problem(("recipes", name, "classes", label, "phrases"), str(error)))
    if problems:
        raise ConfigError(problems)


def used_recipes(config: Config) -> dict[str, Recipe]:
    """Return the recipes of the enabled stations by name, shipped ones included."""
    names = {station.recipe for station in config.stations.values() if station.enabled}
    return {name: find_recipe(name, config.recipes) for name in sorted(names)}


def station_plans(loaded: Loaded, engine: Engine, sources: dict[str, Source]) -> dict[str, StationPlan]:
    """Return the plan of every station that has a source."""
    recipes = used_recipes(loaded.config)
    plans = {}
    for name, source in sources.items():
        station = loaded.config.stations[name]
        recipe = recipes[station.recipe]
        plans[name] = StationPlan(
            recipe_name=station.recipe,
            recipe=recipe,
            prompts=prompts(recipe),
            adapter=engine.source,
            provenance=Provenance(
                model=engine.info.name,
                weights=engine.info.weights,
                adapter=engine.source.number,
                adapter_digest=engine.source.digest,
                recipe=recipe.digest,
                config=loaded.digest,
                version=__version__,
            ),
            # A source that waits for us is late by our own doing; its pictures do not go stale.
            limits=station.quality if source.live else station.quality.model_copy(update={"stale_s": None}),
        )
    return plans
