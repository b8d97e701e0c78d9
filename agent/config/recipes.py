"""Recipes: what is looked for, in words; found by name, those of config.yaml before the shipped ones."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from importlib import resources
from typing import Annotated, Final, Literal, Self, TypeVar

from pydantic import Field, StringConstraints, ValidationInfo, field_validator, model_validator

from adapters.core.prompts import Prompts
from agent.base.errors import UsageError
from agent.base.text import looks
from agent.config.diagnostics import did_you_mean, shown
from agent.config.types import Exactly, Label, Template
from agent.config.yaml_reader import parse
from camera.core.settings import Settings, Unit

_FOLDER = resources.files("agent.config") / "shipped"

_Key = TypeVar("_Key")

BACKBONE: Final = "backbone"
BACKBONE_INT8: Final = "backbone-int8"
CLIP: Final = "clip"
"""Of `ReferenceSettings.features`: of the network of the package, or of the model that judges by words."""
UNKNOWN: Final = "unknown"
"""What a part is called that differs from the good ones, and of which the words know no defect."""


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


class ReferenceSettings(Settings):
    """Parts are compared with golden samples, good parts that a person vouches for."""

    features: Annotated[str, StringConstraints(min_length=1, max_length=4096)] = Field(
        default=BACKBONE,
        description="what makes the patch features: backbone, the small ImageNet network; backbone-int8, that"
        " in 8-bit integers; clip, the model that judges by words; or a folder, of an ONNX file with its"
        " manifest",
    )
    severity: Literal["minor", "major", "critical"] = Field(
        default="major", description="of a part that differs from the good ones"
    )
    false_rejects: float = Field(
        default=0.01,
        ge=0.0001,
        le=0.5,
        description="share of good parts that may be rejected; where the next reference puts its threshold",
    )

    @field_validator("features", mode="after")
    @classmethod
    def _known(cls, features: str) -> str:
        if features not in (BACKBONE, BACKBONE_INT8, CLIP) and "/" not in features:
            known = f"{BACKBONE}, {BACKBONE_INT8}, {CLIP}"
            raise ValueError(f"should be {known}, or a folder, with a / in it, such as ./dinov2")
        return features


class Recipe(Settings):
    """What is looked for, in words, beside good parts, or both; and how sure the agent must be."""

    templates: tuple[Template, ...] = Field(
        default=(), min_length=1, description="each with {} where the phrase goes; only with classes"
    )
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
    classes: dict[Label, PartClass] = Field(
        default_factory=dict,
        min_length=2,
        description="label: class; results name the label; left out: reference alone decides",
    )
    reference: ReferenceSettings | None = Field(
        default=None, description="compare parts with golden samples; left out: the words alone decide"
    )

    @field_validator("classes", mode="after")
    @classmethod
    def _told_apart(cls, classes: dict[str, PartClass]) -> dict[str, PartClass]:
        problem = alike({label: one.phrases for label, one in classes.items()})
        if problem is not None:
            raise ValueError(problem)
        return classes

    @model_validator(mode="after")
    def _judges(self) -> Self:
        if not self.templates and not self.classes and self.reference is None:
            raise ValueError(
                "has neither words nor a reference: add templates and classes, or reference: {} to compare"
                " parts with golden samples"
            )
        if bool(self.templates) != bool(self.classes):
            there, missing = ("templates", "classes") if self.templates else ("classes", "templates")
            raise ValueError(f"has {there} and no {missing}: add {missing}, or remove {there}")
        if self.reference is not None and UNKNOWN in self.classes:
            raise ValueError(
                f"a class is called {UNKNOWN}, as is what differs from the reference and is none of the"
                " classes: give the class another name"
            )
        return self

    @property
    def has_words(self) -> bool:
        """Whether the model judges parts by classes in words."""
        return bool(self.classes)

    @property
    def needs_model(self) -> bool:
        """Whether the model that judges by words is needed, be it for its features alone."""
        return self.has_words or (self.reference is not None and self.reference.features == CLIP)

    @property
    def digest(self) -> str:
        """``sha256:...`` of everything in it that judges; equal digests judge alike.

        The order of the classes counts: sums of floats depend on it in the last bit. `smallest_defect_px`
        changes no verdict: to state it must void no pin. Of a recipe without a reference it is what it was
        before there were any.
        """
        beside = {"smallest_defect_px"} | ({"reference"} if self.reference is None else set())
        return _digest(self.model_dump(mode="json", exclude=beside))

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
