"""`mekiki golden` from the first ten pictures to a reference that a station uses."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from agent.base.errors import EXIT_CHECK_FAILED, EXIT_OK, EXIT_TRY_AGAIN, EXIT_USAGE
from agent.cli.main import main
from tests.support.tiny_patches import part, write_parts


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "config.yaml"
    content = {
        "version": 1,
        "agent": {"id": "agent", "data_dir": "data"},
        "mqtt": {"enabled": False},
        "recipes": {
            "nut": {"reference": {}},
            "words": {
                "templates": ["a photo of {}"],
                "classes": {
                    "fine": {"verdict": "pass", "phrases": ["a good part"]},
                    "bad": {"verdict": "fail", "phrases": ["a bad part"]},
                },
            },
        },
        "stations": {"top": {"camera": {"kind": "simulated"}, "recipe": "nut"}},
    }
    path.write_text(yaml.safe_dump(content))
    return path


@pytest.fixture
def parts(tmp_path: Path) -> Path:
    write_parts(tmp_path / "parts" / "good", range(10))
    write_parts(tmp_path / "parts" / "spot", range(20, 23), spot=True)
    return tmp_path / "parts"


def golden(config: Path, *arguments: str) -> int:
    return main(["golden", arguments[0], "-c", str(config), *arguments[1:]])


def test_ten_pictures_make_a_reference(
    config: Path, parts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Added, listed, judged as the station would, taken out, gone back to; every step is on record."""
    assert golden(config, "add", str(parts), "--by", "Anna", "--json") == EXIT_OK
    done = json.loads(capsys.readouterr().out)
    assert (done["added"], done["version"], done["reference"]["good"]) == (13, 1, 10)
    assert done["reference"]["claim"] is None
    Image.fromarray(part(60, spot=True)).save(tmp_path / "bad.png")
    Image.fromarray(part(3)).save(tmp_path / "fine.png")
    judged = ["inspect", "-c", str(config), "-s", "top", "--json"]
    assert main([*judged, str(tmp_path / "bad.png"), str(tmp_path / "fine.png")]) == EXIT_OK
    verdicts = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(one["verdict"], one["reason"]) for one in verdicts] == [("fail", "anomaly"), ("pass", "normal")]
    assert golden(config, "list", "--json") == EXIT_OK
    *rows, last = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {row["added_by"] for row in rows} == {"Anna"}
    assert last == {"version": 1, "samples": 13, "classes": {"good": 10, "spot": 3}, "stale": None}
    assert golden(config, "remove", "spot/", "--why", "no spots any more") == EXIT_OK
    assert golden(config, "restore", "1") == EXIT_OK
    capsys.readouterr()
    assert golden(config, "versions") == EXIT_OK
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[-5 if "no spots" in line else 0] for line in lines][-1] == "*"
    assert "no spots any more" in lines[1]
    assert main(["audit", "verify", "-c", str(config)]) == EXIT_OK
    assert "top/nut/golden: 3 lines" in capsys.readouterr().out


def test_a_reference_of_other_pictures_is_stale(
    config: Path, parts: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is said of a damaged picture works: added again it can be used, and nothing else is new."""
    assert golden(config, "add", str(parts), "--json") == EXIT_OK
    stored = sorted((config.parent / "data").rglob("golden/pictures/*.png"))
    stored[0].write_bytes(b"damaged")
    assert golden(config, "check") == EXIT_CHECK_FAILED
    assert golden(config, "add", str(parts)) == EXIT_OK
    content = yaml.safe_load(config.read_text())
    content["stations"]["top"]["tiles"] = "2x1"
    config.write_text(yaml.safe_dump(content))
    capsys.readouterr()
    assert golden(config, "check", "--json") == EXIT_CHECK_FAILED
    assert "tiles: was 1x1, is 2x1: run mekiki golden build" in capsys.readouterr().out
    assert golden(config, "build") == EXIT_OK
    capsys.readouterr()
    assert golden(config, "list", "--json") == EXIT_OK
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["stale"] is None


def test_a_check_finds_a_part_in_the_wrong_folder(
    config: Path, parts: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.fromarray(part(30, spot=True)).save(parts / "good" / "swapped.png")
    assert golden(config, "add", str(parts)) == EXIT_OK
    capsys.readouterr()
    assert golden(config, "check", "--json") == EXIT_CHECK_FAILED
    found = json.loads(capsys.readouterr().out)
    reasons = [one["reason"] for one in found["findings"] if one["kind"] == "mislabel"]
    assert any("good/swapped.png" in reason for reason in reasons)
    assert golden(config, "remove", "swapped.png") == EXIT_OK
    capsys.readouterr()
    golden(config, "check", "--json")
    found = json.loads(capsys.readouterr().out)
    assert not any("unlike the other" in one["reason"] for one in found["findings"])


def test_a_set_is_carried_to_another_station(
    config: Path, parts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert golden(config, "add", str(parts)) == EXIT_OK
    assert golden(config, "export", str(tmp_path / "out")) == EXIT_OK
    other = tmp_path / "other.yaml"
    other.write_text(config.read_text().replace("data_dir: data", "data_dir: elsewhere"))
    capsys.readouterr()
    assert golden(other, "import", str(tmp_path / "out"), "--json") == EXIT_OK
    assert json.loads(capsys.readouterr().out)["reference"]["good"] == 10
    assert golden(other, "import", str(tmp_path / "out")) == EXIT_OK
    assert "are there already: the set is as it was" in capsys.readouterr().err
    assert main(["evaluate", str(tmp_path / "out"), "--samples", "5", "--draws", "1", "--json"]) == EXIT_OK


def test_a_new_class_that_is_almost_another_is_asked_about(
    config: Path, parts: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is added all the same: where a recipe has no words, any name is a kind of defect."""
    assert golden(config, "add", str(parts)) == EXIT_OK
    assert "note:" not in capsys.readouterr().err
    more = write_parts(parts.parent / "more", range(70, 71))
    assert golden(config, "add", str(more), "--class", "Good") == EXIT_OK
    assert (
        "note: class Good is new here and counts as a defect: did you mean good?" in capsys.readouterr().err
    )
    other = write_parts(parts.parent / "other", range(71, 72))
    assert golden(config, "add", str(other), "--class", "Good") == EXIT_OK
    assert "note:" not in capsys.readouterr().err  # no longer new


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["list"], EXIT_USAGE, "no golden samples yet"),
        (["check"], EXIT_USAGE, "no golden samples yet"),
        (["build"], EXIT_CHECK_FAILED, "no golden sample is of a good part"),
        (["add", "nowhere"], EXIT_USAGE, "of which class is it"),
        (["add", "nowhere", "--class", "good"], EXIT_USAGE, "no such file"),
        (["add", "parts", "--recipe", "words"], EXIT_USAGE, "spot: no class of recipe words"),
        (["restore", "3"], EXIT_USAGE, "no version 3"),
        (["export", "parts"], EXIT_USAGE, "no golden samples to export"),
        (["import", "parts"], EXIT_USAGE, "holds no golden.json"),
        (["list", "--station", "tpo"], EXIT_USAGE, "no station is called 'tpo'"),
        (["add", "parts", "--by", "a\nb"], EXIT_USAGE, "LINE FEED"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_sentence(
    config: Path,
    parts: Path,
    arguments: list[str],
    code: int,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(config.parent)
    assert golden(config, *arguments) == code
    assert said in capsys.readouterr().err


def test_an_index_of_a_newer_release_is_left_as_it_is(
    config: Path, parts: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert golden(config, "add", str(parts)) == EXIT_OK
    (index,) = config.parent.glob("data/stations/top/recipes/nut/golden/golden.json")
    newer = json.dumps({"format": "mekiki.golden.v2", "release": "9.0.0"})
    index.write_text(newer)
    assert golden(config, "remove", "spot/") == EXIT_TRY_AGAIN
    assert "newer version of the agent (release 9.0.0)" in capsys.readouterr().err
    assert index.read_text() == newer


def test_a_recipe_with_words_alone_keeps_samples_and_builds_nothing(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_parts(tmp_path / "named" / "fine", range(2))
    assert golden(config, "add", str(tmp_path / "named"), "--recipe", "words", "--json") == EXIT_OK
    out = capsys.readouterr()
    assert json.loads(out.out)["reference"] is None
    assert "recipe words has no reference" in out.err


def test_commission_says_what_a_recipe_without_words_takes(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["commission", "-c", str(config), "-s", "top"]) == EXIT_USAGE
    assert (
        "mekiki golden add --station top --class good PICTURES is all that it takes"
        in capsys.readouterr().err
    )


def test_evaluate_needs_no_config(
    parts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Figures for people, and JSON on the last line."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert main(["evaluate", str(parts), "--samples", "5", "--draws", "2"]) == EXIT_OK
    *lines, last = capsys.readouterr().out.splitlines()
    found = json.loads(last)
    assert found["auroc"] == np.mean(found["auroc_draws"])
    assert found["auroc"] > 0.9
    assert found["features"] == "efficientnet-lite0"
    assert any(line.startswith("AUROC") for line in lines)
    assert (
        main(["evaluate", str(parts), "--samples", "5", "--draws", "2", "--degrade", "dim:3", "--json"])
        == EXIT_OK
    )
    (only,) = capsys.readouterr().out.splitlines()
    assert json.loads(only)["degrade"] == "dim:3"
    assert main(["evaluate", str(parts), "--samples", "5", "--draws", "1", "--degrade", "dim:3"]) == EXIT_OK
    assert capsys.readouterr().out.startswith(
        "judged under dim:3; golden samples, and what is claimed, are as they were"
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--degrade", "rust:2"], "there is dim, glare, dirt, defocus, motion, noise, fog, contrast, cast"),
        (["--degrade", "dim"], "give a severity from 0 to 5, such as dim:3"),
        (["--degrade", "dim:6"], "give a severity from 0 to 5"),
        (["--degrade", "dim:nan"], "give a severity from 0 to 5"),
        (["--good", "sopt"], "no class sopt"),
        (["--samples", "10"], "at least one must be left to judge"),
        (["--recipe", "nothing"], "no recipe is called"),
        (["-c", "config.yaml"], "name the recipe"),
    ],
)
def test_an_evaluation_that_cannot_be_is_refused(
    config: Path,
    parts: Path,
    arguments: list[str],
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(config.parent)
    assert main(["evaluate", str(parts), *arguments]) == EXIT_USAGE
    assert said in capsys.readouterr().err
