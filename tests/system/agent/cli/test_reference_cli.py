"""Commands about a station that compares: inspect with maps, check, doctor and replay."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from agent.cli.main import main
from agent.config.loader import Loaded, load
from agent.config.recipes import shipped
from camera.core.frame import Capture
from camera.core.settings import QualityLimits, RegionOfInterest
from camera.pictures.images import read_image
from camera.recording.writer import Recorder, RecordingLimits
from tests.support.reference_line import HEIGHT, SPOT, WIDTH, bad, give_reference, good, line


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Loaded:
    monkeypatch.chdir(tmp_path)
    return line(tmp_path)


def inspected(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[dict[str, Any]]:
    assert main(["inspect", *arguments, "--json"]) == 0
    return [json.loads(row) for row in capsys.readouterr().out.splitlines()]


def test_inspect_compares_and_draws(site: Loaded, capsys: pytest.CaptureFixture[str]) -> None:
    """As the line would, without the model that is nowhere; the map is the part with the spot in colour."""
    reference = give_reference(site)
    rows = inspected(capsys, "parts", "-s", "top", "--map", "maps")
    assert [(row["path"], row["verdict"], row["reason"], row["label"]) for row in rows] == [
        ("parts/good-0.png", "pass", "normal", None),
        ("parts/good-1.png", "pass", "normal", None),
        ("parts/spot-0.png", "fail", "anomaly", "unknown"),
        ("parts/spot-1.png", "fail", "anomaly", "unknown"),
    ]
    spot = rows[2]
    assert spot["reference"]["score"] > spot["reference"]["threshold"] == round(reference.threshold, 6)
    left, top, right, bottom = spot["reference"]["box"]
    assert left < (SPOT[0] + 5) / WIDTH < right
    assert top < (SPOT[1] + 5) / HEIGHT < bottom
    assert spot["map"] == "maps/parts_spot-0.png.map.png"
    drawn, plain = read_image(Path(spot["map"])).astype(int), bad(600).astype(int)
    assert np.abs(drawn - plain)[SPOT[1] : SPOT[1] + 10, SPOT[0] : SPOT[0] + 10].max() > 50
    assert np.abs(drawn - plain)[-8:, -8:].max() < 50


def test_one_map_may_be_one_file_and_people_read_the_scores(
    site: Loaded, capsys: pytest.CaptureFixture[str]
) -> None:
    give_reference(site)
    assert main(["inspect", "parts/spot-0.png", "-s", "top", "--map", "one.png"]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("parts/spot-0.png  fail  anomaly unknown  reference=")
    assert " at 0." in out
    assert "recipe own, without words; reference sha256:" in err
    assert "good samples by efficientnet-lite0 at 288x288" in err
    assert Path("one.png").is_file()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["parts", "-s", "top", "--map", "one.png"], "is one file, for one picture: name a folder"),
        (["parts/good-0.png", "-s", "top", "--map", "no/one.png"], "no such folder: name one that is there"),
        (["parts", "-s", "top", "--map", "config.yaml"], "cannot be made: File exists"),
        (["parts", "--recipe", "own"], "this recipe has no words, and its reference is a station's"),
        (["parts", "--recipe", "line", "--map", "maps"], "nothing is compared with a reference here"),
    ],
)
def test_what_cannot_be_drawn_is_said_before_anything_is_judged(
    site: Loaded, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    give_reference(site)
    config = yaml.safe_load(site.path.read_text())
    del config["model"]
    site.path.write_text(yaml.safe_dump(config))
    assert main(["inspect", *arguments]) == 64
    out, err = capsys.readouterr()
    assert said in err
    assert out == ""


def test_without_a_reference_nothing_is_passed_and_all_say_what_to_do(
    site: Loaded, capsys: pytest.CaptureFixture[str]
) -> None:
    """Inspect, check and doctor alike."""
    rows = inspected(capsys, "parts", "-s", "top")
    assert {(row["verdict"], row["reason"]) for row in rows} == {("not_inspected", "no_reference")}
    assert main(["check"]) == 0
    told = "reference yet: run mekiki golden add --station top --recipe own with pictures of good parts"
    assert told in capsys.readouterr().err
    assert main(["doctor"]) == 1
    out = capsys.readouterr().out
    assert "FAIL reference top own: recipe own has no reference here yet: run mekiki golden add" in out
    assert "ok   learning top: recipe own has no words" in out


def test_check_and_doctor_say_what_the_reference_sees(
    site: Loaded, capsys: pytest.CaptureFixture[str]
) -> None:
    """Beside what the backbone sees of the pictures; the model that is nowhere is asked by nobody."""
    give_reference(site)
    assert main(["check"]) == 0
    err = capsys.readouterr().err
    assert "station top: 96x64, region 96x64, squashed into 288x288: all of it is seen" in err
    assert "station top: recipe own: reference sha256:" in err
    assert "false rejects not known" in err
    assert main(["doctor"]) == 0
    out = capsys.readouterr().out
    assert "ok   view top: 96x64, region 96x64, squashed into 288x288" in out
    assert "ok   reference top own: reference sha256:" in out
    assert "ok   model: no station has words, so that none is loaded; parts are compared by" in out
    assert "gpu" not in out


def test_check_says_that_a_reference_was_made_of_other_pictures(
    site: Loaded, capsys: pytest.CaptureFixture[str]
) -> None:
    """As the agent will at its next start; what is to be done leaves the samples where they are."""
    give_reference(site)
    config = yaml.safe_load(Path("config.yaml").read_text())
    config["stations"]["top"]["tiles"] = "2x1"
    Path("config.yaml").write_text(yaml.safe_dump(config))
    assert main(["check"]) == 0
    err = capsys.readouterr().err
    assert "tiles: was 1x1, is 2x1: run mekiki golden build --station top --recipe own, or set" in err
    assert "its parts are not inspected" in err
    assert "station top: 96x64, region 96x64, 2x1 tiles" in err


def test_a_recording_is_compared_again(site: Loaded, capsys: pytest.CaptureFixture[str]) -> None:
    """In lockstep, by the reference of the station; the same twice, to the last bit."""
    give_reference(site)
    recorder = Recorder(
        Path("recorded"), station="top", camera={"kind": "folder", "path": "parts"}, roi=RegionOfInterest(),
        quality=QualityLimits(), limits=RecordingLimits(10**9),
        started_at=datetime(2026, 1, 5, 6, 0, tzinfo=UTC),
    )  # fmt: skip
    for number in range(6):
        at = datetime(2026, 1, 5, 6, 0, number, tzinfo=UTC)
        image = (bad if number % 3 == 2 else good)(700 + number)
        ns = int(timedelta(seconds=number).total_seconds() * 1e9)
        recorder.add(Capture(image, at, ns, f"part-{number}"))
    recorder.finish("frames")
    runs = []
    for _ in range(2):
        assert main(["replay", "recorded", "--json"]) == 0
        out, err = capsys.readouterr()
        assert "has no words" in err
        runs.append(out.splitlines())
    assert runs[0] == runs[1]
    said = [json.loads(row) for row in runs[0][:-1]]
    assert [one["verdict"] for one in said] == ["pass", "pass", "fail"] * 2
    assert all(one["reference"]["score"] >= 0 for one in said)


def test_words_and_a_reference_judge_a_file_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the shipped model: its scores stay, and what only the reference sees is unknown."""
    monkeypatch.chdir(tmp_path)
    loaded = line(tmp_path)
    config = yaml.safe_load(loaded.path.read_text())
    del config["model"]
    words = shipped("line").model_dump(mode="json", include={"templates", "classes"})
    config["recipes"]["own"] |= words
    config["recipes"]["own"]["classes"] = {
        name: {key: value for key, value in one.items() if value is not None}
        for name, one in words["classes"].items()
    }
    config["recipes"]["own"]["threshold"] = 1.0  # so that the words alone fail next to nothing
    loaded.path.write_text(yaml.safe_dump(config, sort_keys=False))
    give_reference(load(loaded.path))
    rows = inspected(capsys, "parts", "-s", "top")
    assert all(set(row["scores"]) == set(words["classes"]) for row in rows)
    found = [(row["verdict"], row["reason"]) for row in rows]
    assert found == [("pass", "class")] * 2 + [("fail", "anomaly")] * 2
    assert [row["label"] for row in rows[2:]] == ["unknown"] * 2
    assert [row["score"] for row in rows[2:]] == [None] * 2
