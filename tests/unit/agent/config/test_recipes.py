"""The recipes that ship with the agent, and what makes one recipe another."""

from __future__ import annotations

import pytest

from agent.base.errors import UsageError
from agent.config.recipes import Recipe, find_recipe, shipped, shipped_names

LABELS = {
    "line": ["ok", "scratch", "dent", "stain", "missing_hole", "chipped_edge"],
    "steel-neu": ["crazing", "inclusion", "patches", "pitted_surface", "rolled-in_scale", "scratches"],
    "steel-xsdd": [
        "finishing_roll_printing",
        "iron_sheet_ash",
        "oxide_scale_of_plate_system",
        "oxide_scale_of_temperature_system",
        "red_iron",
        "slag_inclusion",
        "surface_scratch",
    ],
}


def recipe(**changes: object) -> Recipe:
    good = {"verdict": "pass", "phrases": ("a good part",)}
    bad = {"verdict": "fail", "phrases": ("a bad part",)}
    return Recipe.model_validate({"templates": ("a {}",), "classes": {"good": good, "bad": bad}} | changes)


def test_the_promised_recipes_ship():
    """`line`, `steel-neu` and `steel-xsdd` are there without a config."""
    assert set(shipped_names()) == set(LABELS)


@pytest.mark.parametrize("name", LABELS)
def test_labels_are_the_folder_names_of_the_data(name):
    """Each shipped recipe is valid, and its labels are those of its data set."""
    assert list(shipped(name).classes) == LABELS[name]


def test_only_the_line_has_a_passing_class():
    """The steel data sets hold defects only, so nothing passes."""
    passing = {n: [c for c, k in shipped(n).classes.items() if k.verdict == "pass"] for n in LABELS}
    assert passing == {"line": ["ok"], "steel-neu": [], "steel-xsdd": []}


def test_own_recipe_hides_a_shipped_one():
    """A recipe of config.yaml wins over the shipped one of the same name."""
    own = recipe()
    assert find_recipe("line", {"line": own}) is own
    assert find_recipe("line", {"other": own}) is shipped("line")


def test_unknown_recipe_is_a_usage_error_with_a_hint():
    """`--recipe steal-neu` says what was probably meant."""
    with pytest.raises(UsageError, match=r"no recipe is called 'steal-neu': did you mean steel-neu\?"):
        find_recipe("steal-neu", {})


def test_digest_tells_recipes_apart():
    """Equal recipes have equal digests; a changed word, threshold or class order gives another."""
    first = recipe()
    classes = first.model_dump()["classes"]
    others = [
        recipe(threshold=0.6),
        recipe(templates=("the {}",)),
        recipe(classes={label: classes[label] for label in reversed(classes)}),
    ]
    assert first.digest == recipe().digest
    assert len({first.digest, *(other.digest for other in others)}) == 4


def test_a_fail_class_is_major_unless_it_says_otherwise():
    """Severity belongs to fail classes, and is major by default."""
    assert [each.severity for each in recipe().classes.values()] == [None, "major"]
