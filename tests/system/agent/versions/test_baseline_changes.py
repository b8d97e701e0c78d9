"""What a config means for baselines is said before it is in force, as the start would find it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from adapters.core.measured_with import MeasuredWith
from agent.cli.main import main
from agent.config import overrides
from agent.config.loader import Loaded, load
from agent.config.recipes import find_recipe, shipped
from agent.reload import last_known_good
from agent.versions.baseline_changes import baseline_changes
from agent.versions.commissioned import commissioning_file
from agent.versions.products import settle
from agent.versions.station_picture import picture_of
from tests.support.learning_site import clean, engine, site

AGAIN = "commission again (mekiki commission --station line --replace)"


def edited(loaded: Loaded, **settings: Any) -> Loaded:
    """Return the config with other settings of the station, or sections that are named in capitals."""
    config = yaml.safe_load(loaded.path.read_text())
    for name, value in settings.items():
        (config if name.isupper() else config["stations"]["line"])[name.lower()] = value
    path = loaded.path.with_name("other.yaml")
    path.write_text(yaml.safe_dump(config, sort_keys=False))
    return load(path)


def commissioned(loaded: Loaded) -> Loaded:
    """Commission the product in force, as this release does."""
    station = loaded.config.stations["line"]
    info = engine().info
    seen = MeasuredWith.of(info, picture_of(station, info.preprocess.resize_mode))
    recipe = find_recipe(station.recipe, loaded.config.recipes)
    file = commissioning_file(loaded.config, "line")
    file.parent.mkdir(parents=True, exist_ok=True)
    replace(clean(), measured=seen, recipe=recipe.words).save(file)
    settle(loaded.config, "line")
    return loaded


def words(phrase: str) -> dict[str, Any]:
    recipe = shipped("line").model_dump(mode="json")
    recipe["classes"]["ok"]["phrases"] = [phrase]
    return recipe


@pytest.mark.parametrize(
    ("settings", "what"),
    [
        ({"roi": {"crop": [0, 0, 0.5, 1]}}, "region of interest: was [0, 0, 1, 1], is [0, 0, 0.5, 1]"),
        ({"view": "fit"}, "view: was fill, is fit"),
        ({"tiles": "2x1"}, "tiles: was 1x1, is 2x1"),
        ({"camera": {"kind": "opencv", "source": "0"}}, "camera kind: was simulated, is device"),
        ({"RECIPES": {"line": words("a fine part")}}, "the words of recipe line change"),
        ({"MODEL": {"precision": "int8"}}, "precision: was fp32, is int8"),
    ],
)
@pytest.mark.parametrize("says", [True, False])
def test_what_voids_a_baseline_is_said_and_what_to_do(
    settings: dict[str, Any], what: str, says: bool, tmp_path: Path
) -> None:
    """And the way back; of a baseline that does not say it, what was in force until now counts."""
    old = site(tmp_path, commissioned=not says)
    if says:
        commissioned(old)
    new = edited(old, **settings)
    if not says and what.startswith("precision"):
        assert baseline_changes(old, new) == []  # what it was measured in is not known either
        return
    assert baseline_changes(old, new) == [f"voids the baseline of station line: {what}: {AGAIN}"]
    if says:
        assert baseline_changes(new, old) == ["the baseline of station line can be used again"]
    assert baseline_changes(old, old) == []


@pytest.mark.parametrize(
    "settings",
    [
        {"view": "fill"},
        {"camera": {"kind": "simulated", "seed": 9}},
        {"quality": {"min_luma": 20.0}},
        {"trigger": {"mode": "interval", "every_s": 1.0}},
        {"adaptation": {"mode": "frozen"}},
        {"enabled": False},
        {"STORAGE": {"keep_results": 5}},
        {"MODEL": {"engine": "auto"}},
        {"MODEL": {"bundle": "nowhere"}},
    ],
)
def test_what_changes_no_picture_voids_nothing(settings: dict[str, Any], tmp_path: Path) -> None:
    """What cannot be found out from here, such as a model that is not there, the start says."""
    old = commissioned(site(tmp_path, commissioned=False))
    assert baseline_changes(old, edited(old, **settings)) == []


def test_a_change_over_is_said_with_the_baseline_that_is_used(tmp_path: Path) -> None:
    """Which one there is, or what makes one."""
    lids = {"lid": words("a fine lid")}
    old = commissioned(site(tmp_path, commissioned=False, recipes=lids))
    lid = edited(old, recipe="lid")
    assert baseline_changes(old, lid) == [
        "station line has no baseline for recipe lid: mekiki commission --station line --recipe lid"
    ]
    commissioned(lid)
    assert baseline_changes(old, lid) == ["station line goes on with the baseline of recipe lid"]
    assert baseline_changes(lid, old) == ["station line goes on with the baseline of recipe line"]


def test_what_is_set_over_the_file_counts(tmp_path: Path) -> None:
    """As the agent would have it: the product that was set over MQTT is the one whose words are asked."""
    old = commissioned(site(tmp_path, commissioned=False, recipes={"lid": words("a fine lid")}))
    overrides.write(tmp_path / "data", overrides.with_set(old, (), "line", "recipe", "lid"))
    assert baseline_changes(old, edited(old, RECIPES={"lid": words("another lid")})) == []
    assert baseline_changes(old, edited(old, roi={"crop": [0, 0, 0.5, 1]})) == []


def test_check_says_it_before(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`mekiki check --diff`, against the config that was in force last."""
    loaded = commissioned(site(tmp_path, commissioned=False))
    last_known_good.keep(loaded)
    new = edited(loaded, roi={"crop": [0.0, 0.0, 0.5, 1.0]})
    new.path.rename(loaded.path)
    assert main(["check", "--diff", "-c", str(loaded.path)]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0].startswith("stations.line.roi")
    assert out[1].startswith("voids the baseline of station line: region of interest: was [0, 0, 1, 1]")
