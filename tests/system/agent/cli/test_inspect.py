"""`mekiki inspect`: pictures, folders and clips judged as the line judges them."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml
from PIL import Image

from adapters.core.adapter import Adapter
from adapters.core.version import Version, Window
from adapters.core.version_store import AdapterStore
from agent.baseline.golden_samples import read_golden
from agent.cli import main as cli
from agent.config import recipes
from agent.config.loader import load
from agent.config.recipes import shipped
from camera.core.kept_region import kept_region
from camera.pictures.images import encode_jpeg
from tests.support.learning_site import PARTS, engine, photos, scorer, site

REGION = {"crop": [0.1, 0.0, 0.9, 0.8], "masks": {"corner": [[0.1, 0.0], [0.4, 0.0], [0.1, 0.3]]}}


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def write_parts(folder: Path, count: int = 12) -> Path:
    """Write parts of the simulated line, every third darkened a little, the last one nearly black."""
    folder.mkdir()
    for number in range(count):
        light = 0.02 if number == count - 1 else 0.7 if number % 3 == 0 else 1.0
        photo = (photos()[number * (PARTS // count)] * light).astype(np.uint8)
        Image.fromarray(photo).save(folder / f"{number:03}.png")
    return folder


def line_of_pictures(folder: Path, **station: Any) -> Path:
    """Write the config of a station `line` that looks at the pictures in `parts`."""
    write_parts(folder / "parts")
    path = site(folder).path
    config = yaml.safe_load(path.read_text())
    config["stations"]["line"] |= {"camera": {"kind": "folder", "path": "parts"}, **station}
    path.write_text(yaml.safe_dump(config))
    return path


def learned(folder: Path, offset: float) -> None:
    """Let a version answer at the station `line`."""
    rng = np.random.default_rng(0)
    source = engine().source
    tensors = {
        name: tensor + rng.normal(0, 0.05, tensor.shape).astype(np.float32)
        for name, tensor in source.tensors.items()
    }
    store = AdapterStore(folder / "data/stations/line/adapters", source, engine().info.weights, 20)
    words = shipped("line").words
    version = Version(
        Adapter(tensors), 0, "learned", "2026-01-01T00:00:00.000Z", Window(1, 50, 50), offset, words, {}, {}
    )
    store.promote(version, "2026-01-01T00:00:00.000Z")


def mekiki(capfd: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, list[str], list[str]]:
    """Return exit code, lines of stdout and lines of stderr."""
    capfd.readouterr()
    code = cli.main(list(arguments))
    out, err = capfd.readouterr()
    return code, out.splitlines(), err.splitlines()


def line_says(capfd: pytest.CaptureFixture[str]) -> list[tuple[str, str, dict[str, float] | None]]:
    """Run the line over its pictures; return verdict, reason and scores of each."""
    assert mekiki(capfd, "run")[0] == 0
    assert mekiki(capfd, "store", "export", "--out", "out.csv", "--force")[0] == 0
    with Path("out.csv").open(newline="") as file:
        rows = sorted(csv.DictReader(file), key=lambda row: row["part_id"])
    return [(row["verdict"], row["reason"], json.loads(row["scores"] or "null")) for row in rows]


@pytest.mark.parametrize("version", [False, True])
def test_a_station_judges_files_as_its_line_does(
    version: bool, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Region, masks, limits, operating point and the version that answers are the line's."""
    line_of_pictures(tmp_path, roi=REGION, quality={"min_luma": 30.0}, adaptation={"mode": "frozen"})
    if version:
        learned(tmp_path, 1.5)
    expected = line_says(capfd)
    code, out, err = mekiki(capfd, "inspect", "parts", "--station", "line", "--json")
    found = [json.loads(line) for line in out]
    assert code == 0
    assert [(one["verdict"], one["reason"]) for one in found] == [one[:2] for one in expected]
    assert {one["reason"] for one in found} >= {"class", "black"}
    for one, (_, _, scores) in zip(found, expected, strict=True):
        assert one["scores"] == (None if scores is None else pytest.approx(scores, abs=1e-3))
    assert f"station line: recipe line, {'version 1 at offset 1.500' if version else 'the model'}" in err[0]
    # The recipe alone is another question.
    _, plain, _ = mekiki(capfd, "inspect", "parts", "--recipe", "line", "--json")
    assert [json.loads(line)["scores"] for line in plain] != [one["scores"] for one in found]


def test_tiles_of_files_are_those_of_the_line(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The same worst tile decides, with its box; golden samples and picture go through the same function."""
    line_of_pictures(tmp_path, roi=REGION, view="fit", tiles="2x3")
    expected = line_says(capfd)
    code, out, err = mekiki(capfd, "inspect", "parts", "--station", "line", "--json")
    found = [json.loads(line) for line in out]
    assert (code, len(found)) == (0, 12)
    for one, (verdict, reason, scores) in zip(found, expected, strict=True):
        assert (one["verdict"], one["reason"]) == (verdict, reason)
        if scores is None:
            assert (one["view"], one["tile"]) == (None, None)
            continue
        assert one["scores"] == pytest.approx(scores, abs=1e-3)
        left, top, right, bottom = one["tile"]
        assert one["view"] == "fit"
        assert left in (0.1, pytest.approx(0.9 - 0.8 / 1.875, abs=0.01))
        assert right - left == pytest.approx(0.8 / 1.875, abs=0.01)
        assert 0 <= top < bottom <= 0.8
    assert len({tuple(one["tile"]) for one in found if one["tile"]}) > 1
    (seen,) = json.loads(err[-1])["seen"]
    assert "2x3 tiles of 109x75, each fit into 128x128: all of it is seen" in seen


def test_what_was_set_over_the_file_counts(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Another recipe, set over MQTT, is the line's recipe."""
    line_of_pictures(tmp_path)
    override = {"station": "line", "name": "recipe", "value": "steel-neu", "file": "line"}
    (tmp_path / "data" / "overrides.json").write_text(json.dumps({"version": 1, "overrides": [override]}))
    _, out, err = mekiki(capfd, "inspect", "parts", "--station", "line", "--json")
    assert set(json.loads(out[0])["scores"]) == set(shipped("steel-neu").classes)
    assert any("recipe steel-neu" in line for line in err)


def test_the_config_of_this_folder_counts(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """As with other commands; what it names for cameras and broker may be missing here."""
    path = line_of_pictures(tmp_path)
    config = yaml.safe_load(path.read_text())
    config["recipes"] = {
        "line": yaml.safe_load((Path(recipes.__file__).parent / "shipped" / "line.yaml").read_text())
    }
    config["recipes"]["line"]["threshold"] = 1.0
    config["mqtt"] = {"enabled": False, "password": "${file:gone}", "username": "u"}
    path.write_text(yaml.safe_dump(config))
    code, out, _ = mekiki(capfd, "inspect", "parts", "--recipe", "line")
    assert code == 0
    assert not [line for line in out if "  fail  " in line]
    path.write_text("version: 1\nstations: {}\nnonsense: 1\n")
    assert mekiki(capfd, "inspect", "parts", "--recipe", "line")[0] == 78


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--station", "lin"], "no station is called 'lin': did you mean line?"),
        ([], "one of the arguments --recipe -s/--station is required"),
        (["--station", "line", "--recipe", "line"], "not allowed with argument"),
    ],
)
def test_what_to_judge_by_is_one_thing(
    arguments: list[str], said: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """A recipe or a station; a misspelt one is named."""
    line_of_pictures(tmp_path)
    capfd.readouterr()
    try:
        code = cli.main(["inspect", "parts", *arguments])
    except SystemExit as error:
        code = error.code
    assert code == 64
    assert said in capfd.readouterr().err


def test_totals_come_last(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """On standard error, for people and for programs; they add up to the lines."""
    write_parts(tmp_path / "parts")
    code, out, err = mekiki(capfd, "inspect", "parts", "--recipe", "line")
    assert code == 0
    assert err[:-1] == [
        "256x256, region 256x256, squashed into 128x128: all of it is seen,"
        " 2.0 picture pixels per model pixel"
    ]
    assert err[-1].startswith("12 results: ")
    assert "1 not_inspected (1 black)" in err[-1]
    _, _, err = mekiki(capfd, "inspect", "parts", "--recipe", "line", "--json")
    totals = json.loads(err[-1])
    assert totals["results"] == len(out) == sum(totals["verdicts"].values()) == 12
    assert totals["not_inspected"] == {"black": 1}


def test_what_cannot_be_read_is_told_counted_and_exit_code_1(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """A broken picture, and a clip that is cut off, each with its reason."""
    (tmp_path / "bad.png").write_bytes(b"")
    clip = tmp_path / "cut.avi"
    writer = cv2.VideoWriter(str(clip), cv2.CAP_FFMPEG, cv2.VideoWriter_fourcc(*"MJPG"), 25.0, (64, 48))
    for _ in range(20):
        writer.write(np.full((48, 64, 3), 120, np.uint8))
    writer.release()
    content = clip.read_bytes()
    clip.write_bytes(content[: (content.index(b"movi") + content.index(b"idx1")) // 2])
    code, out, err = mekiki(capfd, "inspect", "bad.png", "cut.avi", "--recipe", "line")
    assert code == 1
    assert out[0] == "bad.png  not_inspected  unreadable"
    assert out[1].startswith("cut.avi#0  ")
    assert out[-1] == "cut.avi  not_inspected  unreadable"
    seen, *err = err
    assert seen.startswith("64x48, region 64x48, squashed into 128x128: all of it is seen, 0.5 x 0.4 picture")
    assert err[0] == "bad.png: empty file"
    assert f"ends after {len(out) - 2} of 20 pictures" in err[1]
    assert "2 not_inspected (2 unreadable)" in err[2]


@pytest.mark.parametrize("size", [(1, 1), (3000, 2), (15, 200), (16 * 65, 16)])
def test_what_is_too_small_to_be_a_part_is_not_judged(
    size: tuple[int, int], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Neither by inspect nor by the line; both say how much is needed."""
    (tmp_path / "parts").mkdir()
    Image.new("RGB", size, (120, 130, 140)).save(tmp_path / "parts" / "a.png")
    code, out, err = mekiki(capfd, "inspect", "parts", "--recipe", "line")
    assert (code, out) == (1, ["parts/a.png  not_inspected  unreadable"])
    assert f"parts/a.png: {size[0]} x {size[1]} pixels are looked at" in err[0]
    site(tmp_path, camera={"kind": "folder", "path": "parts"})
    assert mekiki(capfd, "run")[0] == 0
    assert mekiki(capfd, "store", "export", "--out", "out.csv")[0] == 0
    with Path("out.csv").open(newline="") as file:
        assert [row["reason"] for row in csv.DictReader(file)] == ["unreadable"]


def test_a_stations_bit_depth_counts(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Twelve bits in a file of sixteen are no black picture where the camera says so."""
    line_of_pictures(tmp_path, camera={"kind": "folder", "path": "parts", "bit_depth": 12})
    ramp = np.linspace(200, 1800, 64 * 64).astype(np.uint16).reshape(64, 64)
    Image.fromarray(ramp).save(tmp_path / "deep.png")
    _, out, err = mekiki(capfd, "inspect", "deep.png", "--recipe", "line")
    assert "black" in out[0]
    assert "set bit_depth: 12" in err[0]
    _, out, _ = mekiki(capfd, "inspect", "deep.png", "--station", "line")
    assert "not_inspected" not in out[0]


def test_a_kept_picture_is_not_cut_twice(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Evidence says which region it shows: inspect, golden pictures and a folder take it as it is."""
    path = line_of_pictures(tmp_path, roi=REGION, adaptation={"mode": "frozen"})
    config = yaml.safe_load(path.read_text())
    config["storage"]["images"] = {
        "enabled": True, "sampled_passes": 1.0, "verdicts": ["fail", "unsure"], "jpeg_quality": 100
    }  # fmt: skip
    path.write_text(yaml.safe_dump(config))
    expected = line_says(capfd)
    with Path("out.csv").open(newline="") as file:
        kept = {row["part_id"]: row["image"] for row in csv.DictReader(file) if row["image"]}
    assert len(kept) == 11  # one is black
    inspect = ("inspect", *(f"data/{kept[part]}" for part in sorted(kept)), "--json")
    _, out, _ = mekiki(capfd, *inspect, "--station", "line")
    for line, (_, _, scores) in zip(out, expected[:11], strict=True):
        assert json.loads(line)["scores"] == pytest.approx(scores, abs=0.1)

    station, recipe = load(path).config.stations["line"], shipped("line")
    golden = tmp_path / "golden" / "ok"
    golden.mkdir(parents=True)
    shutil.copy(f"data/{kept['001.png']}", golden)
    once = read_golden(golden.parent, recipe, station, scorer()).samples.pictures[0].astype(int)
    (golden / Path(kept["001.png"]).name).unlink()
    shutil.copy("parts/001.png", golden)
    whole = read_golden(golden.parent, recipe, station, scorer()).samples.pictures[0].astype(int)
    assert np.abs(once - whole).mean() < 4

    shutil.copytree("data/evidence", "again")
    config["stations"]["line"]["camera"]["path"] = "again"
    config["agent"]["data_dir"] = "data2"
    path.write_text(yaml.safe_dump(config))
    assert {verdict for verdict, _, _ in line_says(capfd)} <= {"pass", "fail", "unsure"}

    config["stations"]["line"]["roi"] = {"crop": [0.0, 0.0, 0.5, 0.5]}
    path.write_text(yaml.safe_dump(config))
    code, out, err = mekiki(capfd, *inspect, "--station", "line")
    assert (code, {json.loads(line)["reason"] for line in out}) == (1, {"unreadable"})
    assert (
        "station line kept it when crop and masks were others (its crop was [0.1, 0.0, 0.9, 0.8])" in err[1]
    )
    assert mekiki(capfd, *inspect, "--recipe", "line")[0] == 0


@pytest.mark.parametrize(
    "comment",
    [
        b"",
        b"mekiki.region.v1 ",
        b"mekiki.region.v1 [1]",
        b'mekiki.region.v1 {"crop": [1, 2, 3]}',
        b"\xff" * 60_000,
    ],
)
def test_a_comment_of_somebody_else_says_nothing(comment: bytes, tmp_path: Path) -> None:
    """Nor does a damaged one, or a file that is none."""
    (tmp_path / "a.jpg").write_bytes(encode_jpeg(photos()[0], max_width_px=640, quality=80, comment=comment))
    assert kept_region(tmp_path / "a.jpg") is None
    (tmp_path / "a.jpg").write_bytes(b"\xff\xd8\xff\xfe")
    assert kept_region(tmp_path / "a.jpg") is None
    assert kept_region(tmp_path / "none.jpg") is None
