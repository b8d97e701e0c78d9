"""Pictures that decide together are of one part: never those of different triggers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from agent.base.errors import ConfigError
from agent.config import overrides
from agent.config.loader import load, load_text
from agent.config.overrides import Override, OverrideError, applied, with_set
from agent.config.recipes import Votes
from agent.config.voting import possible_recipes
from agent.domain.verdict import Decision, Outcome
from agent.inspection.ballot import Ballot
from agent.reload import last_known_good
from tests.support.configs import problems_in

CLASSES = """
    templates: ["a photo of {}"]
    classes:
      ok: {verdict: pass, phrases: [good]}
      bad: {verdict: fail, phrases: [bad]}
"""
TEXT = f"""\
version: 1
recipes:
  alone:{CLASSES}
  voted:{CLASSES}    votes: {{k: 2, n: 3}}
stations:
  press:
    camera: {{kind: simulated}}
    recipe: voted
    trigger: {{mode: mqtt}}
  belt:
    camera: {{kind: simulated}}
    recipe: voted
"""
LINE = TEXT[: TEXT.index("votes")].count("\n") + 1
GOOD = TEXT.replace("recipe: voted", "recipe: alone", 1)


def test_votes_are_refused_where_triggers_announce_parts(tmp_path: Path) -> None:
    """With line and key of the votes, the station, and what to do; continuous stations keep theirs."""
    (problem,) = problems_in(tmp_path, TEXT)
    assert problem.startswith(f"config.yaml:{LINE}: recipes.voted.votes: the last 3 pictures decide together")
    assert "stations.press, with trigger.mode: mqtt" in problem
    assert "remove votes from recipe voted, or give the station a recipe without" in problem
    load_text(GOOD, tmp_path / "config.yaml")


@pytest.mark.parametrize(
    "text",
    [
        TEXT.replace("    trigger: {mode: mqtt}\n", "").replace(
            "stations:", "station_defaults: {trigger: {mode: mqtt}}\nstations:"
        ),
        GOOD.replace("    recipe: alone\n", "").replace(
            "stations:", "station_defaults: {recipe: voted}\nstations:"
        ),
        TEXT.replace("trigger: {mode: mqtt}", "trigger: {mode: mqtt}\n    enabled: false"),
        TEXT.replace("{k: 2, n: 3}", "{k: 1, n: 2}"),
    ],
    ids=["trigger of station_defaults", "recipe of station_defaults", "disabled", "one of two"],
)
def test_votes_are_refused_wherever_the_two_come_from(tmp_path: Path, text: str) -> None:
    assert any("decide together" in problem for problem in problems_in(tmp_path, text))


def test_a_vote_of_one_picture_is_no_vote(tmp_path: Path) -> None:
    load_text(TEXT.replace("{k: 2, n: 3}", "{k: 1, n: 1}"), tmp_path / "config.yaml")


def test_a_station_with_triggers_cannot_be_set_to_a_recipe_with_votes(tmp_path: Path) -> None:
    """Nor is it offered; a continuous one can."""
    file = load_text(GOOD, tmp_path / "config.yaml")
    with pytest.raises(OverrideError, match=r"recipe voted: .*stations\.press.*trigger\.mode: mqtt"):
        with_set(file, (), "press", "recipe", "voted")
    assert with_set(file, (), "belt", "recipe", "alone")
    stations, recipes = file.config.stations, file.config.recipes
    assert "voted" not in possible_recipes(stations["press"], recipes)
    assert "voted" in possible_recipes(stations["belt"], recipes)


def test_a_recipe_that_was_set_is_forgotten_where_votes_or_a_trigger_came_since(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """At a start as at a reload: what the file says counts."""
    set_over = (Override("press", "recipe", "voted", "alone"),)
    now, kept = applied(load_text(GOOD, tmp_path / "config.yaml"), set_over)
    assert (now.config.stations["press"].recipe, kept) == ("alone", ())
    assert "not possible any more" in caplog.text
    continuous = GOOD.replace("trigger: {mode: mqtt}", "trigger: {mode: continuous}")
    now, kept = applied(load_text(continuous, tmp_path / "config.yaml"), set_over)
    assert (now.config.stations["press"].recipe, kept) == ("voted", set_over)


def test_a_last_good_config_of_an_older_release_is_refused_too(tmp_path: Path) -> None:
    """An agent that starts with it would let one part judge another."""
    path = tmp_path / "config.yaml"
    path.write_text(GOOD)
    (tmp_path / "data").mkdir()
    last_known_good.keep(load(path))
    (kept,) = (tmp_path / "data" / "last_good").iterdir()
    kept.write_text(TEXT)
    path.write_text("oops: [")
    with pytest.raises(ConfigError, match="decide together"):
        last_known_good.find(path)
    overrides.write(tmp_path / "data", ())


def test_a_check_of_differences_to_such_a_config_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from agent.cli.main import main

    path = tmp_path / "config.yaml"
    path.write_text(GOOD)
    (tmp_path / "data").mkdir()
    last_known_good.keep(load(path))
    (kept,) = (tmp_path / "data" / "last_good").iterdir()
    kept.write_text(TEXT)
    assert main(["check", "-c", str(path), "--diff"]) != 0
    assert "what was in force last cannot be read any more" in capsys.readouterr().err


def decision(verdict: str) -> Decision:
    return Decision(Outcome(verdict), "class", "ok" if verdict == "pass" else "scratch", None, 0.9, 0.4, {})


def cast(votes: Votes | None, *pictures: tuple[str, str | None]) -> list[str]:
    ballot = Ballot(votes)
    return [ballot.cast(decision(verdict), trigger).verdict.value for verdict, trigger in pictures]


def test_pictures_of_two_triggers_never_decide_together() -> None:
    """Good neighbours do not pass a scratched part, nor the other way round, whatever the config says."""
    votes = Votes(k=2, n=3)
    parts: Any = [("pass", "SN1"), ("pass", "SN2"), ("fail", "SN3"), ("pass", "SN4"), ("pass", "SN4")]
    assert cast(votes, *parts) == ["unsure", "unsure", "unsure", "unsure", "pass"]
    assert cast(Votes(k=1, n=3), ("pass", "SN1"), ("fail", "SN2"), ("pass", "SN3")) == [
        "pass",
        "fail",
        "pass",
    ]
    mixed = cast(votes, ("pass", None), ("pass", None), ("fail", "SN1"), ("fail", None), ("fail", None))
    assert mixed == ["unsure", "pass", "unsure", "unsure", "fail"]


def test_without_triggers_votes_are_what_they_were() -> None:
    votes = Votes(k=2, n=3)
    assert cast(votes, *[(verdict, None) for verdict in ("pass", "fail", "pass", "fail", "fail")]) == [
        "unsure",
        "unsure",
        "pass",
        "fail",
        "fail",
    ]
    assert cast(None, ("pass", "a"), ("fail", None)) == ["pass", "fail"]


def test_the_shipped_example_reads_back(tmp_path: Path) -> None:
    """What a refusal asks for is possible: without votes the very same file is good."""
    config = yaml.safe_load(TEXT)
    del config["recipes"]["voted"]["votes"]
    load_text(yaml.safe_dump(config), tmp_path / "config.yaml")
