"""Recipes: what is looked for, in words; found by name, those of config.yaml before the shipped ones."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from importlib import resources
from typing import Literal, TypeVar

from pydantic import Field, ValidationInfo, field_validator

from adapters.core.prompts import Prompts
from agent.base.errors import UsageError
from agent.base.text import looks
from agent.config.diagnostics import did_you_mean, shown
from agent.config.types import Exactly, Label, Template
from agent.config.yaml_reader import parse
from camera.core.settings import Settings, Unit

_FOLDER = resources.files("agent.config") / "shipped"

_Key = TypeVar("_Key")


class PartClass(Settings):
    """One thing a part can be, in words."""

    verdict: Literal["pass", "fail"]
    severity: Literal["minor", "major", "critical"] | None = Field(
        default=None, validate_default=True, description="of a fail class; without it major"
    )
    phrases: tuple[Exactly, ...] = Field(min_length=1, description="what is put into the templates")

    @field_validator("severity", mode="after")
    @classmethod
    def _of_a_fail(cls, severity: str | None, info: ValidationInfo) -> str | None:
        if info.data.get("verdict") == "fail":
            return severity or "major"
        if severity is not None and "verdict" in info.data:
            raise ValueError("only a class with verdict: fail has a severity")
        return severity


class Votes(Settings):
    """Several pictures of one part decide together."""

    k: int = Field(ge=1, le=1000, description="so many equal verdicts carry it")
    n: int = Field(
        ge=1,
        le=1000,
        description="among so many last pictures of the station; 1 where triggers come over MQTT",
    )

    @field_validator("n", mode="after")
    @classmethod
    def _enough(cls, n: int, info: ValidationInfo) -> int:
        if info.data.get("k", 0) > n:
            raise ValueError("should be at least k")
        return n


class Recipe(Settings):
    """What is looked for, in words, and how sure the agent must be."""

    templates: tuple[Template, ...] = Field(min_length=1, description="each with {} where the phrase goes")
    threshold: Unit = Field(default=0.5, description="a part fails when its fail classes add up to this")
    abstain_margin: float = Field(
        default=0.0, ge=0, le=0.5, description="closer to the threshold than this: unsure"
    )
    votes: Votes | None = Field(default=None, description="without it every picture decides alone")
    smallest_defect_px: float | None = Field(
        default=None,
        gt=0,
        le=100_000,
        description="size of the smallest defect that must be found, in pixels of the camera's picture;"
        " a warning says where the model would not see it",
    )
    classes: dict[Label, PartClass] = Field(min_length=2, description="label: class; results name the label")

    @field_validator("classes", mode="after")
    @classmethod
    def _told_apart(cls, classes: dict[str, PartClass]) -> dict[str, PartClass]:
        problem = alike({label: one.phrases for label, one in classes.items()})
        if problem is not None:
            raise ValueError(problem)
        return classes

    @property
    def digest(self) -> str:
        """``sha256:...`` of everything in it that judges; equal digests judge alike.

        The order of the classes counts: sums of floats depend on it in the last bit. `smallest_defect_px`
        changes no verdict: to state it must void no pin.
        """
        return _digest(self.model_dump(mode="json", exclude={"smallest_defect_px"}))

    @property
    def words(self) -> str:
        """``sha256:...`` of what the model is asked, and which answers fail a part: the classes in words.

        A commissioning and what was learned fit as long as this does. How sure the agent must be is not in
        it: threshold, margin and votes may be moved on a running line.
        """
        classes = {label: (one.verdict, one.phrases) for label, one in self.classes.items()}
        return _digest({"templates": self.templates, "classes": classes})


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


def alike(classes: Mapping[str, Sequence[str]]) -> str | None:
    """Return why two classes cannot be told apart, by people or by any model; None where all can.

    Args:
        classes: phrases by label.
    """
    from adapters.core.clean_text import same_words

    pair = first_equal((label, looks(label)) for label in classes)
    if pair is not None:
        return f"{shown(pair[0])} and {shown(pair[1])} look alike: give one another name"
    pair = first_equal((label, frozenset(map(same_words, phrases))) for label, phrases in classes.items())
    return None if pair is None else same(*pair)


def same(label: str, other: str) -> str:
    """Return what to say of two classes with the same words."""
    return f"{shown(label)} and {shown(other)} are the same words to the model: change the phrases of one"


def first_equal(keys: Iterable[tuple[str, _Key]]) -> tuple[str, str] | None:
    """Return the first two labels with equal keys."""
    seen: dict[_Key, str] = {}
    for label, key in keys:
        if key in seen:
            return seen[key], label
        seen[key] = label
    return None


def _digest(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"
