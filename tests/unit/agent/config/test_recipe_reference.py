"""A recipe with words, with a reference, or with both: what it takes, and what must not change."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.config.recipes import Recipe, shipped
from tests.support.configs import MINIMAL, load_text, problems_in

CLASSES = """\
    classes:
      good: {verdict: pass, phrases: [good part]}
      bad: {verdict: fail, phrases: [bad part]}
"""
OWN, FEATURES = "config.yaml:7: recipes.own: ", "config.yaml:8: recipes.own.reference.features: "
TEMPLATES = "    templates: ['a {}']\n"

BEFORE = {
    "line": (
        "sha256:05ea72b5dbf903200c875f18c629b6816c4cc411c4bcfede272bc9ca9c32f717",
        "sha256:d70eb8ed055ad6675d1d02ad265f2fe944380413928fcd2e046f571f17055e3f",
    ),
    "steel-neu": (
        "sha256:9487cf1f517f0143a18b418799c9a0c0b89e22f5733c582d65b55eddd9e412f7",
        "sha256:07e426b38b39ad13be379e28be16fdbd996910ee5b80c30b4c5a82e7f865056f",
    ),
    "steel-xsdd": (
        "sha256:1ef0142023178b339434b3186bba7fb69b1ebc2348eda48ff61bff2ef700aad3",
        "sha256:2e536d45542af46c9b7494500b19e58c93174c53ab7dc2f7afb734cfc52a98f9",
    ),
}
"""Digests and words of the release before there were references: pins and baselines hold them."""


def with_recipe(text: str) -> str:
    return f"{MINIMAL.replace('recipe: line', 'recipe: own')}recipes:\n  own:\n{text}"


@pytest.mark.parametrize("name", BEFORE)
def test_recipes_without_a_reference_have_the_digests_that_they_had(name: str) -> None:
    """Whoever pinned a recipe, or commissioned for one, has done so for this one."""
    assert (shipped(name).digest, shipped(name).words) == BEFORE[name]


def test_a_reference_is_part_of_the_digest_and_not_of_the_words() -> None:
    """A baseline is of the words: it stays good where a reference comes beside them."""
    plain = shipped("line")
    both = plain.model_copy(update={"reference": Recipe.model_validate({"reference": {}}).reference})
    stricter = Recipe.model_validate(both.model_dump() | {"reference": {"severity": "minor"}})
    assert len({plain.digest, both.digest, stricter.digest}) == 3
    assert plain.words == both.words == stricter.words


@pytest.mark.parametrize(
    ("text", "words", "model"),
    [
        (TEMPLATES + CLASSES, True, True),
        ("    reference: {}\n", False, False),
        ("    reference: {features: clip}\n", False, True),
        (TEMPLATES + CLASSES + "    reference: {severity: minor}\n", True, True),
    ],
)
def test_words_a_reference_or_both(tmp_path: Path, text: str, words: bool, model: bool) -> None:
    recipe = load_text(tmp_path, with_recipe(text)).config.recipes["own"]
    assert (recipe.has_words, recipe.needs_model) == (words, model)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            "    threshold: 0.5\n",
            "config.yaml:7: recipes.own: has neither words nor a reference: add templates and classes, or"
            " reference: {} to compare parts with golden samples",
        ),
        (
            TEMPLATES,
            f"{OWN}has templates and no classes: add classes, or remove templates",
        ),
        (
            CLASSES,
            f"{OWN}has classes and no templates: add templates, or remove classes",
        ),
        (
            TEMPLATES + "    reference: {}\n",
            f"{OWN}has templates and no classes: add classes, or remove templates",
        ),
        (
            TEMPLATES + CLASSES.replace("bad:", "unknown:") + "    reference: {}\n",
            "config.yaml:7: recipes.own: a class is called unknown, as is what differs from the reference and"
            " is none of the classes: give the class another name",
        ),
        (
            "    reference: {features: dino}\n",
            f"{FEATURES}should be backbone, backbone-int8, clip, or a folder, with a / in it,"
            " such as ./dinov2",
        ),
        (
            "    reference: {features: ./dino}\n",
            "config.yaml:8: recipes.own.reference.features: no such folder: './dino': relative paths start at"
            " FOLDER",
        ),
    ],
)
def test_what_cannot_judge_is_one_error_with_place_and_remedy(
    tmp_path: Path, text: str, problem: str
) -> None:
    assert problems_in(tmp_path, with_recipe(text)) == [problem]


def test_the_folder_of_a_backbone_is_anchored_at_the_config(tmp_path: Path) -> None:
    (tmp_path / "dino").mkdir()
    loaded = load_text(tmp_path, with_recipe("    reference: {features: ./dino}\n"))
    reference = loaded.config.recipes["own"].reference
    assert reference is not None
    assert Path(reference.features) == tmp_path / "dino"


def test_a_locked_station_names_its_reference(tmp_path: Path) -> None:
    """Golden samples are added while the agent runs: what judges would change under the lock."""
    digest = "sha256:" + "0" * 64
    pins = ", ".join(f"{name}: '{digest}'" for name in ("weights", "recipe", "commissioning", "adapter"))

    def text(more: str = "") -> str:
        recipe = with_recipe(f"{TEMPLATES}{CLASSES}    reference: {{}}\n")
        locked = f"recipe: own\n    adaptation: {{mode: locked, pins: {{{pins}{more}}}}}"
        return recipe.replace("recipe: own", locked, 1)

    (problem,) = problems_in(tmp_path, text())
    assert problem.endswith("mode: locked needs pins for reference: its recipe compares parts")
    assert load_text(tmp_path, text(f", reference: '{digest}'")).config.stations["top"]
