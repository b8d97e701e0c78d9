"""Each product of a station keeps what was learned of it; data of earlier releases are the first one's."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from agent.app.factories import commissioned_in
from agent.cli.audit import trails
from agent.config.loader import Loaded, load
from agent.config.recipes import find_recipe, shipped
from agent.versions.commissioned import Commissioned, Uncommissioned, commissioning_file, open_station
from agent.versions.products import MARK, commissioned_products, product, products, settle
from tests.support.learning_site import clean, engine, site


def words(phrase: str) -> dict[str, Any]:
    recipe = shipped("line").model_dump(mode="json")
    recipe["classes"]["ok"]["phrases"] = [phrase]
    return recipe


HOUSINGS = {"housing-a": words("a flawless housing"), "housing-b": words("a flawless lid")}


def plant(folder: Path) -> Loaded:
    """Return a station with two products, of which none is commissioned."""
    loaded = site(folder, commissioned=False, recipes=HOUSINGS)
    return making(loaded, "housing-a")


def making(loaded: Loaded, recipe: str, recipes: dict[str, Any] | None = None) -> Loaded:
    """Save the config with another recipe."""
    config = yaml.safe_load(loaded.path.read_text())
    config["stations"]["line"]["recipe"] = recipe
    if recipes is not None:
        config["recipes"] = recipes
    loaded.path.write_text(yaml.safe_dump(config, sort_keys=False))
    return load(loaded.path)


def commissioned(loaded: Loaded, offset: float) -> Path:
    """Commission the product in force."""
    name = loaded.config.stations["line"].recipe
    recipe = find_recipe(name, loaded.config.recipes)
    file = commissioning_file(loaded.config, "line")
    file.parent.mkdir(parents=True, exist_ok=True)
    replace(clean(), recipe=recipe.words, offset=offset).save(file)
    settle(loaded.config, "line")
    return file


def opened(loaded: Loaded, *, reading: bool = False) -> Commissioned | Uncommissioned:
    recipe = find_recipe(loaded.config.stations["line"].recipe, loaded.config.recipes)
    return open_station(loaded, "line", recipe, engine(), reading=reading)


def offset(loaded: Loaded) -> float:
    found = opened(loaded)
    assert isinstance(found, Commissioned), found.why
    return found.answering.offset


def test_each_product_has_its_own_baseline_and_comes_back_to_it(tmp_path: Path) -> None:
    """The first where releases before look for it, the others below."""
    loaded = plant(tmp_path)
    first = commissioned(loaded, 1.0)
    b = making(loaded, "housing-b")
    found = opened(b)
    assert isinstance(found, Uncommissioned)
    assert found.unusable  # the line was commissioned, and is now judged at offset 0: health says so
    assert found.answering.offset == 0.0
    assert "recipe housing-b is not commissioned here (housing-a is)" in found.why
    assert "mekiki commission --station line --recipe housing-b" in found.why
    second = commissioned(b, 2.0)
    home = tmp_path / "data" / "stations" / "line"
    assert (first.parent, second.parent) == (home, home / "recipes" / "housing-b")
    assert offset(b) == 2.0
    assert offset(making(loaded, "housing-a")) == 1.0
    assert [one.recipe for one in commissioned_products(loaded.config, "line")] == ["housing-a", "housing-b"]
    assert commissioned_in(loaded.config) == "fp32"
    assert set(trails(tmp_path / "data")) == {"line", "line/housing-b"}
    assert set(trails(home)) >= {"line/housing-b"}


def test_two_products_with_the_same_words_are_two(tmp_path: Path) -> None:
    """A housing and its lid may be described alike, and look otherwise."""
    loaded = plant(tmp_path)
    same = {**HOUSINGS, "housing-b": HOUSINGS["housing-a"]}
    commissioned(making(loaded, "housing-a", same), 1.0)
    assert isinstance(opened(making(loaded, "housing-b", same)), Uncommissioned)
    commissioned(making(loaded, "housing-b", same), 2.0)
    assert offset(making(loaded, "housing-a", same)) == 1.0
    assert offset(making(loaded, "housing-b", same)) == 2.0


def test_data_of_an_earlier_release_are_those_of_the_recipe_with_its_words(tmp_path: Path) -> None:
    """Also where the recipe was changed with the upgrade: the other one does not take them over."""
    loaded = plant(tmp_path)
    file = commissioned(loaded, 1.0)
    (file.parent / MARK).unlink()
    b = making(loaded, "housing-b")
    for reading in (True, False):
        assert isinstance(opened(b, reading=reading), Uncommissioned)
    assert json.loads((file.parent / MARK).read_text())["recipe"] == "housing-a"
    # Edited words do not make it another product's: it says that it does not fit any more.
    reworded = {**HOUSINGS, "housing-a": words("a perfect housing")}
    found = opened(making(loaded, "housing-a", reworded))
    assert isinstance(found, Uncommissioned)
    assert found.unusable
    assert "another recipe" in found.why


@pytest.mark.parametrize("which", ["housing-a", "housing-b"])
def test_a_recipe_that_is_called_otherwise_keeps_what_was_learned(which: str, tmp_path: Path) -> None:
    """Its old name is gone from the config and its words are the same."""
    loaded = plant(tmp_path)
    commissioned(loaded, 1.0)
    commissioned(making(loaded, "housing-b"), 2.0)
    wanted = {"housing-a": 1.0, "housing-b": 2.0}[which]
    recipes = {("Gehäuse-neu" if name == which else name): one for name, one in HOUSINGS.items()}
    renamed = making(loaded, "Gehäuse-neu", recipes)
    assert isinstance(opened(renamed, reading=True), Commissioned)
    assert offset(renamed) == wanted
    # And goes on with it when something else takes its old name.
    recipes[which] = words("something else")
    assert offset(making(loaded, "Gehäuse-neu", recipes)) == wanted
    assert isinstance(opened(making(loaded, which, recipes)), Uncommissioned)


def test_what_an_older_release_commissions_in_the_stations_folder_is_its_recipes(tmp_path: Path) -> None:
    """After a return to it and back: it knows one baseline a station, and nothing of the mark."""
    loaded = plant(tmp_path)
    file = commissioned(loaded, 1.0)
    other = find_recipe("housing-b", loaded.config.recipes)
    replace(clean(), recipe=other.words, offset=5.0).save(file)
    assert offset(making(loaded, "housing-b")) == 5.0
    assert isinstance(opened(making(loaded, "housing-a")), Uncommissioned)


@pytest.mark.parametrize("content", [b"", b"[]", b'{"format": "mekiki.product.v1", "recipe": 7}', b"\xff"])
def test_a_damaged_mark_costs_nothing(content: bytes, tmp_path: Path) -> None:
    loaded = plant(tmp_path)
    mark = commissioned(loaded, 1.0).parent / MARK
    mark.write_bytes(content)
    assert offset(loaded) == 1.0
    assert json.loads(mark.read_text())["recipe"] == "housing-a"


def test_a_newer_releases_mark_stays_and_unknown_fields_are_kept(tmp_path: Path) -> None:
    loaded = plant(tmp_path)
    mark = commissioned(loaded, 1.0).parent / MARK
    newer = b'{"format": "mekiki.product.v2"}'
    mark.write_bytes(newer)
    assert offset(loaded) == 1.0
    assert mark.read_bytes() == newer
    mark.write_text(
        json.dumps({"format": "mekiki.product.v1", "recipe": "x", "commissioning": "y", "lid": 3})
    )
    assert offset(loaded) == 1.0
    assert json.loads(mark.read_text())["lid"] == 3


def test_a_station_without_data_has_no_product(tmp_path: Path) -> None:
    """And what cannot be listed is none."""
    loaded = plant(tmp_path)
    assert products(loaded.config, "line") == []
    home = tmp_path / "data" / "stations" / "line"
    assert product(loaded.config, "line").folder == home
    commissioned(loaded, 1.0)
    (home / "recipes").write_text("no folder")
    assert offset(loaded) == 1.0
    shutil.rmtree(home)
    assert not (opened(loaded).answering.offset)
