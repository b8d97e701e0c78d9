"""config.yaml: what an alias or a merge key brings is told where it is used, with where it is written."""

from __future__ import annotations

import re
from functools import partial

import pytest

from tests.support.configs import load_text, problems_in

HEAD = """\
version: 1
mqtt: {enabled: false}
stations:
  a:
    camera: &cam {kind: simulated, parts: 5}
    recipe: line
"""
SHARED = "what stations share can stand in station_defaults"


@pytest.fixture
def problems_of(tmp_path):
    """Return a function that gives the problems of a text."""
    return partial(problems_in, tmp_path)


def test_an_alias_under_a_wrong_key_is_told_where_it_stands(problems_of):
    """The camera that it stands for is good."""
    assert problems_of(f"{HEAD}  b:\n    kamera: *cam\n    recipe: line\n") == [
        "config.yaml:7: stations.b.camera: is missing: add it",
        "config.yaml:8: stations.b.kamera: unknown key: did you mean camera? (here by an alias; it is written"
        f" in line 5, as stations.a.camera; {SHARED})",
    ]


def test_an_alias_of_another_kind_is_told_where_it_stands(problems_of):
    """What is right for a camera is wrong for a region: every problem of it names both places."""
    problems = problems_of(f"{HEAD}  b:\n    camera: *cam\n    roi: *cam\n    recipe: line\n")
    assert problems == [
        f"config.yaml:9: stations.b.roi.{key}: unknown key: known here: crop, masks (here by an alias;"
        f" it is written in line 5, as stations.a.camera.{key}; {SHARED})"
        for key in ("kind", "parts")
    ]
    (problem,) = problems_of(f"{HEAD}  b:\n    camera: *cam\n    recipe: *cam\n")
    assert problem == (
        "config.yaml:9: stations.b.recipe: should be text, is a mapping (here by an alias; it is written"
        f" in line 5, as stations.a.camera; {SHARED})"
    )


def test_an_alias_in_a_list_is_told_where_it_stands(problems_of):
    """Entries of lists have places too."""
    text = f"{HEAD}log: &log {{level: info}}\nrecipes: {{r: {{templates: [*log], classes: {{}}}}}}\n"
    assert problems_of(text)[0] == (
        "config.yaml:8: recipes.r.templates.0: should be text, is a mapping (here by an alias; it is written"
        " in line 7, as log)"
    )


def test_what_is_wrong_where_it_is_written_is_told_once(problems_of):
    """Aliases of it are as wrong, and mended with it."""
    text = HEAD.replace("parts: 5", "parts: -5")
    (problem,) = problems_of(
        f"{text}  b: {{camera: *cam, recipe: line}}\n  c: {{camera: *cam, recipe: line}}\n"
    )
    assert problem.startswith("config.yaml:5: stations.a.camera.parts: should be more than 0")
    assert "alias" not in problem


def test_a_reference_in_an_alias_is_told_once(problems_of):
    """It leads nowhere at one place."""
    text = HEAD.replace("parts: 5", 'parts: "${env:NOBODY_HAS_THIS}"')
    (problem,) = problems_of(f"{text}  b: {{camera: *cam, recipe: line}}\n")
    assert problem.startswith("config.yaml:5: stations.a.camera.parts: ${env:NOBODY_HAS_THIS}: no such")


@pytest.mark.parametrize("merge", ["<<: *a", "<<: [*a]"])
def test_a_merge_key_is_told_and_nothing_else(problems_of, merge):
    """Nothing is missing of what it was to bring; station_defaults is what it was meant for."""
    text = HEAD.replace("  a:", "  a: &a")
    (problem,) = problems_of(f"{text}  b:\n    {merge}\n    recipe: steel-neu\n")
    what = "config.yaml:8: stations.b.'<<': a merge key: those are not used here: write out what it brings"
    assert problem.startswith(what)
    assert SHARED in problem
    assert "it is written in line 4, as stations.a;" in problem


def test_a_merge_key_that_brings_the_wrong_things(problems_of):
    """What it brings is told at its place, with where it is written."""
    problems = problems_of(f"{HEAD}  b:\n    <<: *cam\n    camera: *cam\n    recipe: line\n")
    assert [re.split(": (?:known here|did you mean)", problem)[0].split(" (")[0] for problem in problems] == [
        "config.yaml:8: stations.b.'<<': a merge key: those are not used here: write out what it brings",
        "config.yaml:8: stations.b.kind: unknown key",
        "config.yaml:8: stations.b.parts: unknown key",
    ]
    assert all("it is written in line 5, as stations.a.camera" in problem for problem in problems)


def test_a_place_for_anchors_leads_to_station_defaults(problems_of):
    """Other programs ignore such keys."""
    problems = problems_of(f"{HEAD}x-common: &common {{enabled: true}}\n")
    assert problems[0].startswith("config.yaml:7: x-common: unknown key: ")
    assert problems[0].endswith(f"; {SHARED}")


def test_in_quotes_it_is_a_key(problems_of):
    """Whoever wants a key of that name gets what other unknown keys get."""
    (problem,) = problems_of(f'{HEAD}    "<<": 1\n')
    assert problem.startswith("config.yaml:7: stations.a.'<<': unknown key")


def test_a_good_alias_is_good(tmp_path):
    """It is the value that it stands for, also within station_defaults."""
    text = f"{HEAD}  b: {{camera: *cam}}\nstation_defaults: {{recipe: line, camera: *cam}}\n"
    stations = load_text(tmp_path, text).config.stations
    assert stations["a"].camera == stations["b"].camera
