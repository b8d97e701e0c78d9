"""What the model sees at a station: `check`, `doctor`, and what a baseline was measured with."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from adapters.bundle.manifest import read_manifest
from adapters.bundle.reader import bundle_path
from adapters.core.measured_picture import MeasuredPicture
from adapters.core.measured_with import MeasuredWith
from agent.cli.checks.station_sight import lines
from agent.cli.main import main
from agent.config.loader import Loaded, load
from agent.config.recipes import Recipe, shipped
from agent.versions.commissioned import open_station
from agent.versions.measured_view import measured_view, stored_view
from agent.versions.station_picture import picture_of
from tests.support.learning_site import clean, engine, site
from tests.support.places import ROOT


def edited(loaded: Loaded, **station: Any) -> Loaded:
    """Save the config with other settings of the station."""
    config = yaml.safe_load(loaded.path.read_text())
    recipe = shipped("line").model_dump(mode="json") | {"smallest_defect_px": station.pop("defect_px", None)}
    config["recipes"] = {"line": recipe}
    config["stations"]["line"] |= station
    loaded.path.write_text(yaml.safe_dump(config, sort_keys=False))
    return load(loaded.path)


def picture(folder: Path, width: int, height: int) -> dict[str, Any]:
    """Write one picture and return the camera that gives it."""
    folder.mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(noise).save(folder / "a.png")
    return {"kind": "folder", "path": str(folder)}


def test_check_and_doctor_say_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One looks at the files, the other asks the camera; a warning is no failure."""
    camera = picture(tmp_path / "wide", 640, 160)
    loaded = edited(site(tmp_path, commissioned=False), camera=camera, tiles="2x1", view="fit", defect_px=4)
    said = (
        "640x160, region 640x160, 2x1 tiles of 342x160, each fit into 128x128: all of it is seen,"
        " 2.7 picture pixels per model pixel"
    )
    lost = "a defect of 4 picture pixels, the recipe's smallest_defect_px, is 1.5 model pixels, 2 are needed:"
    found = [*lines(loaded)]
    assert found[0] == f"station line: {said}"
    assert found[1].startswith(f"station line: {lost} set tiles: 3x1")
    assert main(["check", "-c", str(loaded.path)]) == 0
    assert found[0] in capsys.readouterr().err
    assert main(["doctor", "-c", str(loaded.path)]) == 0
    out = capsys.readouterr().out
    assert f"ok   view line: {said}" in out
    assert f"warn view line: {lost}" in out


@pytest.mark.parametrize(
    ("camera", "said"),
    [
        ({"kind": "simulated"}, "256x256, region 256x256, squashed into 128x128"),
        ({"kind": "opencv", "source": "0"}, "view auto into 128x128; how much of a picture that is"),
        (
            {"kind": "opencv", "source": "0", "width": 1280, "height": 720},
            "if the camera gives what it is asked for, 1280x720, region 1280x720, squashed into 128x128",
        ),
        ({"kind": "folder", "path": "watched", "watch": {}}, "view auto into 128x128; how much"),
        ({"kind": "folder", "path": "empty"}, "what the model sees is not known: "),
        ({"kind": "folder", "path": "broken"}, "what the model sees is not known: "),
        ({"kind": "recording", "path": "empty"}, "what the model sees is not known: "),
        ({"kind": "opencv", "source": "clip.mp4"}, "what the model sees is not known: "),
    ],
)
def test_check_opens_no_camera_and_says_what_it_can(
    camera: dict[str, Any], said: str, tmp_path: Path
) -> None:
    """Nothing that lies there keeps it from its end."""
    for name in ("watched", "empty", "broken"):
        (tmp_path / name).mkdir()
    (tmp_path / "broken" / "a.png").write_bytes(b"no picture")
    (tmp_path / "clip.mp4").write_bytes(b"no clip")
    loaded = edited(site(tmp_path, commissioned=False), camera=camera)
    (line,) = lines(loaded)
    assert line.startswith(f"station line: {said}")


def test_without_a_bundle_nothing_is_claimed(tmp_path: Path) -> None:
    """A checkpoint says it when it is opened."""
    path = site(tmp_path, commissioned=False).path
    config = yaml.safe_load(path.read_text())
    checkpoint = ROOT / "benchmarks" / "weights" / "mekiki-line.safetensors"
    config["model"] = {"engine": "torch", "name": "mekiki-line", "checkpoint": str(checkpoint)}
    path.write_text(yaml.safe_dump(config))
    assert [*lines(load(path))] == [
        "station line: what the model sees is known when the model is opened: mekiki doctor"
    ]


def test_an_old_baseline_was_measured_with_the_models_own_view(tmp_path: Path) -> None:
    """Its file does not say it; of a newer one what it says counts, and what nobody knows does not."""
    loaded, info = site(tmp_path), engine().info
    spec = replace(info.preprocess, resize_mode="shortest")
    file = tmp_path / "data" / "stations" / "line" / "commissioning.safetensors"

    def stored() -> Any:
        return stored_view(loaded, "line", info.weights, spec)

    assert stored() == "crop"
    found = open_station(loaded, "line", shipped("line"), engine(), reading=True)
    assert measured_view(found, info.preprocess) == "fill"
    for said, view in (("auto", "auto"), ("crop", "crop"), ("fit", None), ("panorama", None), (None, "crop")):
        picture = MeasuredPicture(view=said, tiles="1x1")
        replace(clean(), measured=MeasuredWith.of(info, picture)).save(file)
        assert stored() == view
    file.write_bytes(b"damaged")
    assert stored() is None
    found = open_station(loaded, "line", shipped("line"), engine(), reading=True)
    assert measured_view(found, info.preprocess) is None
    file.unlink()
    assert stored() is None


@pytest.mark.parametrize(
    ("baseline", "said"),
    [
        ("none", "fit into 128x128: all of it is seen"),
        ("old", "its middle cut out and scaled to 128x128: 25% of it is seen"),
        ("new", "fit into 128x128: all of it is seen"),
    ],
)
def test_the_agent_and_the_commands_see_alike(
    baseline: str, said: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """With a model that was trained with a cut: what was measured goes on, what was not loses nothing."""
    bundle = tmp_path / "bundle"
    shutil.copytree(bundle_path("mekiki-line"), bundle)
    manifest = json.loads((bundle / "manifest.json").read_text())
    manifest["preprocess"]["resize_mode"] = "shortest"
    (bundle / "manifest.json").write_text(json.dumps(manifest))
    camera = picture(tmp_path / "wide", 640, 160)
    loaded = edited(site(tmp_path, commissioned=baseline != "none"), camera=camera)
    config = yaml.safe_load(loaded.path.read_text())
    config["model"] = {"bundle": str(bundle), "threads": 1}
    loaded.path.write_text(yaml.safe_dump(config, sort_keys=False))
    if baseline == "new":
        station = load(loaded.path).config.stations["line"]
        measured = MeasuredWith.of(engine().info, picture_of(station, "shortest"))
        file = tmp_path / "data" / "stations" / "line" / "commissioning.safetensors"
        replace(clean(), measured=replace(measured, bundle=None)).save(file)
    where, line = ["-c", str(loaded.path)], f"640x160, region 640x160, {said}"
    for command in (["run"], ["check"], ["doctor"], ["inspect", camera["path"], "--station", "line"]):
        assert main([*command, *where]) == 0
        out = capfd.readouterr()
        assert line in out.out + out.err, command
        if command[0] in ("check", "doctor"):
            warned = "75% of the region is seen by nobody" in out.out + out.err
            assert warned == (baseline == "old"), command


def test_the_manifest_says_what_the_model_says(tmp_path: Path) -> None:
    """What is known before it is opened is what the open one says."""
    manifest, _ = read_manifest(bundle_path("mekiki-line"), None)
    assert (manifest.preprocess, manifest.weights) == (engine().info.preprocess, engine().info.weights)


def test_the_size_of_the_smallest_defect_voids_no_pin(tmp_path: Path) -> None:
    """It changes no verdict; a recipe without it has the digest that older releases gave it."""
    plain = shipped("line")
    assert plain.digest == "sha256:05ea72b5dbf903200c875f18c629b6816c4cc411c4bcfede272bc9ca9c32f717"
    stated = Recipe.model_validate({**plain.model_dump(mode="python"), "smallest_defect_px": 3.0})
    assert (stated.digest, stated.words) == (plain.digest, plain.words)
    for bad in (0, -1, float("nan"), float("inf"), 1e6):
        with pytest.raises(ValueError, match="smallest_defect_px"):
            Recipe.model_validate({**plain.model_dump(mode="python"), "smallest_defect_px": bad})
