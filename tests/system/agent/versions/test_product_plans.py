"""Products beside the one in force: found as they were left, only read, and named where unusable."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from adapters.baseline.baseline import Commissioning
from adapters.core.measured_picture import MeasuredPicture
from adapters.core.measured_with import MeasuredWith
from agent.app.plan_factory import following
from agent.config.loader import Loaded, load
from agent.config.recipes import find_recipe
from agent.domain.learner_stats import LearnerStats
from agent.learning.supervisor import LearnerHandle
from agent.telemetry.health import of_learner
from agent.versions.baseline_changes import baseline_changes
from agent.versions.commissioned import Commissioned, Uncommissioned, commissioning_file, open_station
from agent.versions.product_plans import OtherProduct, open_others, other_recipes, unusable
from agent.versions.products import settle
from agent.versions.station_picture import picture_of
from agent.versions.station_plans import predictors
from tests.support.learning_site import engine
from tests.support.two_products import LID, edit, plant

PRODUCTS = [
    {"recipe": "lid", "part_id": "L-*"},
    {"recipe": "line", "part_id": "H-*"},
    {"recipe": "lid", "part_id": "M-*"},
]


def by_id(folder: Path, **station: Any) -> Loaded:
    loaded = plant(folder)
    edit(loaded, lambda one: one.update(products=PRODUCTS, **station))
    return load(loaded.path)


def found(loaded: Loaded) -> Commissioned | Uncommissioned:
    recipe = find_recipe(loaded.config.stations["line"].recipe, loaded.config.recipes)
    return open_station(loaded, "line", recipe, engine())


def others(loaded: Loaded) -> dict[str, OtherProduct]:
    return open_others(loaded, "line", engine(), found(loaded))


def files(folder: Path) -> dict[str, bytes]:
    return {str(one): one.read_bytes() for one in folder.rglob("*") if one.is_file()}


def test_others_are_the_recipes_of_patterns_that_are_not_in_force(tmp_path: Path) -> None:
    loaded = by_id(tmp_path)
    assert other_recipes(loaded.config, "line") == ["lid"]
    edit(loaded, lambda station: station.update(recipe="lid"))
    assert other_recipes(load(loaded.path).config, "line") == ["line"]


def test_a_product_answers_as_it_was_left(tmp_path: Path) -> None:
    """Its own baseline and threshold, its stored active version; whichever of the two is in force."""
    loaded = by_id(tmp_path)
    (lid,) = others(loaded).values()
    assert isinstance(lid.found, Commissioned)
    assert (lid.answering().number, lid.answering().offset, lid.frozen.offset) == (0, LID, LID)
    edit(loaded, lambda station: station.update(recipe="lid"))
    loaded = load(loaded.path)
    in_force = found(loaded)
    before = files(tmp_path)
    (line,) = open_others(loaded, "line", engine(), in_force).values()
    assert (line.answering().number, line.answering().offset) == (1, -4.0)
    assert files(tmp_path) == before  # its data are only read


def test_a_product_that_has_just_left_answers_as_its_learner_says_last(tmp_path: Path) -> None:
    """It may promote a version while the plans are made; of other words or another mode nothing is taken."""
    loaded = by_id(tmp_path)
    recipe, before = find_recipe("line", loaded.config.recipes), found(loaded)
    handle = LearnerHandle("line", *predictors(engine(), recipe, before), recipe="line")
    edit(loaded, lambda station: station.update(recipe="lid"))
    made = others(load(loaded.path))
    last = replace(handle.answering(), number=2, offset=-3.0)
    handle.answer(last)
    assert following(made, before, handle)["line"].answering() is last
    assert following(made, before, LearnerHandle("line", last, last, "another")) == made
    edit(loaded, lambda station: station["adaptation"].update(mode="shadow"))
    other_mode = others(load(loaded.path))
    assert following(other_mode, before, handle) == other_mode


def test_a_product_without_a_baseline_is_named_in_health(tmp_path: Path) -> None:
    """With the command that makes one; the product in force goes on learning, and is not blamed."""
    loaded = by_id(tmp_path)
    assert unusable(others(loaded)) is None
    commissioning_file(loaded.config, "line", "lid").unlink()
    made = others(loaded)
    assert made["lid"].answering().offset == 0.0
    why = unusable(made)
    (condition,) = of_learner(LearnerStats("line", unusable_products=why))
    assert (condition.code, condition.subject) == ("commissioning_unusable", "line")
    assert "parts of recipe lid are judged with the model as it was trained" in condition.message
    assert "mekiki commission --station line --recipe lid" in condition.message
    assert "nothing is learned" not in condition.message
    (both,) = of_learner(LearnerStats("line", unusable="no baseline", unusable_products=why))
    assert both.message.startswith("no baseline; nothing is learned; parts of recipe lid")


def test_a_damaged_baseline_of_another_product_stops_nothing(tmp_path: Path) -> None:
    loaded = by_id(tmp_path)
    commissioning_file(loaded.config, "line", "lid").write_bytes(b"no baseline")
    (lid,) = others(loaded).values()
    assert isinstance(lid.found, Uncommissioned)
    assert lid.found.unusable
    assert isinstance(found(loaded), Commissioned)


class Cutting:
    """The shipped model as if it had been trained on the middle of its pictures, like CLIPs of the web."""

    def __init__(self) -> None:
        self.info = replace(
            engine().info, preprocess=replace(engine().info.preprocess, resize_mode="shortest")
        )

    def __getattr__(self, name: str) -> Any:
        return getattr(engine(), name)


@pytest.mark.parametrize(
    ("in_force", "other", "usable"),
    [("crop", "crop", True), ("auto", "auto", True), ("crop", "auto", False), ("auto", "crop", False)],
)
def test_products_of_a_station_have_one_view(tmp_path: Path, in_force: str, other: str, usable: bool) -> None:
    """The region becomes a square before anybody knows whose it is; which view, says the product in force."""
    loaded = by_id(tmp_path)
    (lid,), line = others(loaded).values(), found(loaded)
    assert isinstance(line, Commissioned)
    assert isinstance(lid.found, Commissioned)
    seen, of_lid = replace(line, pictures=MeasuredPicture(view=in_force)), lid.found
    made = open_others(
        loaded, "line", Cutting(), seen,
        opened=lambda name, recipe: replace(of_lid, pictures=MeasuredPicture(view=other)),
    )["lid"]  # fmt: skip
    assert isinstance(made.found, Commissioned) == usable
    assert made.answering().offset == (LID if usable else 0.0)
    if not usable:
        assert "set stations.line.view" in str(unusable({"lid": made}))


def test_what_a_config_means_for_other_products_is_said_before(tmp_path: Path) -> None:
    """`mekiki check --diff`: a crop voids all baselines of a station; a pattern may name what has none."""
    loaded = by_id(tmp_path)
    spec = engine().info.preprocess
    for name in ("line", "lid"):
        file = commissioning_file(loaded.config, "line", name)
        told = MeasuredWith.of(engine().info, picture_of(loaded.config.stations["line"], spec.resize_mode))
        replace(Commissioning.load(file), measured=told).save(file)
    settle(loaded.config, "line")
    edit(loaded, lambda station: station.update(roi={"crop": [0.0, 0.0, 0.5, 1.0]}))
    cut = load(loaded.path)
    assert [line.split(": region")[0] for line in baseline_changes(loaded, cut)] == [
        "voids the baseline of station line",
        "voids the baseline of station line for recipe lid",
    ]
    assert "mekiki commission --station line --recipe lid --replace" in baseline_changes(loaded, cut)[1]
    assert baseline_changes(cut, loaded) == [
        "the baseline of station line can be used again",
        "the baseline of station line for recipe lid can be used again",
    ]
    edit(loaded, lambda station: station.update(roi={}, products=[{"recipe": "steel-neu", "part_id": "S"}]))
    assert baseline_changes(loaded, load(loaded.path)) == [
        "station line has no baseline for recipe steel-neu:"
        " mekiki commission --station line --recipe steel-neu"
    ]
