"""Recipes by name: those of config.yaml first, then the ones that ship with the agent."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from importlib import resources

from adapters.core.prompts import Prompts
from agent.base.errors import UsageError
from agent.config.diagnostics import did_you_mean, shown
from agent.config.models import Recipe
from agent.config.yaml_tree import parse

_FOLDER = resources.files("agent.config") / "shipped"


@cache
def shipped_names() -> tuple[str, ...]:
    """Return the names of the shipped recipes, sorted."""
    names = (file.name for file in _FOLDER.iterdir())
    return tuple(sorted(name.removesuffix(".yaml") for name in names if name.endswith(".yaml")))


@cache
def shipped(name: str) -> Recipe:
    """Return the shipped recipe `name`, one of `shipped_names`."""
    tree, _ = parse((_FOLDER / f"{name}.yaml").read_text(encoding="utf-8"))
    return Recipe.model_validate_json(json.dumps(tree.plain(), allow_nan=False))


def recipe_names(recipes: Mapping[str, object]) -> list[str]:
    """Return every name that a station may give for its recipe, sorted."""
    return sorted({*recipes, *shipped_names()})


def prompts(recipe: Recipe) -> Prompts:
    """Return the words of a recipe as the adapters know them."""
    return Prompts(tuple((label, c.phrases) for label, c in recipe.classes.items()), recipe.templates)


def find_recipe(name: str, recipes: Mapping[str, Recipe]) -> Recipe:
    """Return the recipe `name`; one of `recipes` hides a shipped one of the same name.

    Raises:
        UsageError: there is none.
    """
    if name in recipes:
        return recipes[name]
    if name in shipped_names():
        return shipped(name)
    raise UsageError(unknown_recipe(name, recipes))


def unknown_recipe(name: str, recipes: Mapping[str, object]) -> str:
    """Return what to say about a name that no recipe has."""
    return f"no recipe is called {shown(name)}: {did_you_mean(name, [*recipes, *shipped_names()])}"
