"""A baseline holds for the pictures that it was measured on, and for no others."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import TypeAdapter

from adapters.core.measured_picture import MeasuredPicture
from adapters.core.measured_with import MeasuredWith
from agent.config.loader import Loaded, load
from agent.config.models import Station
from agent.config.recipes import shipped
from agent.versions.commissioned import Commissioned, Uncommissioned, open_station, station_folder
from agent.versions.station_picture import FILE, of_earlier, picture_of, unsaid_by
from tests.support.learning_site import clean, engine, site

CAMERA: dict[str, Any] = {"kind": "opencv", "source": "rtsp://u:secret@cam/1"}
DEVICE: dict[str, Any] = {"kind": "opencv", "source": "/dev/video0", "width": 1280, "height": 720}


def station(camera: dict[str, Any], **settings: Any) -> Station:
    text = json.dumps({"camera": camera, "recipe": "line", **settings})
    return TypeAdapter(Station).validate_json(text)


def picture(camera: dict[str, Any], **settings: Any) -> MeasuredPicture:
    return picture_of(station(camera, **settings), "squash")


def edited(loaded: Loaded, **settings: Any) -> Loaded:
    """Save the config with other settings of the station."""
    config = yaml.safe_load(loaded.path.read_text())
    config["stations"]["line"] |= settings
    loaded.path.write_text(yaml.safe_dump(config))
    return load(loaded.path)


def opened(loaded: Loaded, *, reading: bool = False) -> Commissioned | Uncommissioned:
    return open_station(loaded, "line", shipped("line"), engine(), reading=reading)


def measured(loaded: Loaded) -> None:
    """Let the station's baseline say what it was measured on."""
    seen = picture_of(loaded.config.stations["line"], engine().info.preprocess.resize_mode)
    file = station_folder(loaded.config, "line") / "commissioning.safetensors"
    replace(clean(), measured=MeasuredWith.of(engine().info, seen)).save(file)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (CAMERA, {**CAMERA, "source": "rtsp://u:other@10.0.0.7/1"}),
        (CAMERA, {**CAMERA, "fps": 5, "read_timeout_s": 1.0, "backend": "ffmpeg"}),
        (DEVICE, {**DEVICE, "source": "2"}),
        (CAMERA, {"kind": "recording", "path": "x"}),
        (DEVICE, {"kind": "opencv", "source": "clip.mp4"}),
        ({"kind": "folder", "path": "a"}, {"kind": "folder", "path": "b", "watch": {}}),
        ({"kind": "folder", "path": "a"}, CAMERA),
        (
            {"kind": "simulated"},
            {"kind": "simulated", "seed": 7, "parts": 9, "defect_rate": 0.5, "conditions": [{"kind": "dim"}]},
        ),
    ],
)
def test_the_same_camera_at_another_address_is_the_same(before: Any, after: Any) -> None:
    """Passwords, addresses and rates change no picture; a recording is of the camera it was made with."""
    assert picture(before).differs_from(picture(after)) == []


@pytest.mark.parametrize(
    ("before", "after", "setting"),
    [
        (DEVICE, {**DEVICE, "width": 640}, "camera.width"),
        (DEVICE, CAMERA, "camera.kind"),
        (CAMERA, {"kind": "simulated"}, "camera.kind"),
        (
            {"kind": "folder", "path": "a"},
            {"kind": "folder", "path": "a", "bit_depth": 12},
            "camera.bit_depth",
        ),
    ],
)
def test_what_changes_the_pictures_of_a_camera_is_told(before: Any, after: Any, setting: str) -> None:
    assert [name for name, _ in picture(before).differs_from(picture(after))] == [setting]


def test_masks_of_another_name_or_order_are_the_same() -> None:
    a, b = [[0.0, 0.0], [0.5, 0.0], [0.0, 0.5]], [[1.0, 1.0], [0.5, 1.0], [1.0, 0.5]]
    one = picture(CAMERA, roi={"masks": {"a": a, "b": b}})
    assert one.differs_from(picture(CAMERA, roi={"masks": {"y": b, "x": a}})) == []


def test_auto_means_what_the_model_was_trained_with() -> None:
    """Asked for by name it is the same; of a model with a cut it depends on the region."""
    assert picture_of(station(CAMERA), "squash").view == "fill"
    assert picture_of(station(CAMERA), "longest").view == "fit"
    assert picture_of(station(CAMERA), "shortest").view == "auto"
    assert of_earlier("shortest").view == "crop"
    assert of_earlier("shortest").differs_from(picture_of(station(CAMERA), "shortest")) == []
    assert of_earlier("squash").differs_from(picture(CAMERA, view="fit"))


def test_another_crop_voids_the_baseline_and_the_old_one_makes_it_usable_again(tmp_path: Path) -> None:
    """Threshold offset 0, because the measured one is worth nothing there; the message names the remedy."""
    loaded = site(tmp_path)
    measured(loaded)
    assert isinstance(opened(loaded), Commissioned)
    found = opened(edited(loaded, roi={"crop": [0.1, 0.1, 0.6, 0.6]}))
    assert isinstance(found, Uncommissioned)
    assert found.unusable
    assert (found.answering.number, found.answering.offset) == (0, 0.0)
    assert "region of interest: was [0, 0, 1, 1], is [0.1, 0.1, 0.6, 0.6]" in found.why
    assert "mekiki commission --station line --replace" in found.why
    assert "set stations.line.roi.crop back" in found.why
    for inspecting in (True, False):  # who learns does not learn on it either
        again = open_station(
            edited(loaded, roi={}, tiles="2x1"), "line", shipped("line"), engine(), inspecting=inspecting
        )
        assert isinstance(again, Uncommissioned)
        assert "tiles: was 1x1, is 2x1" in again.why
    back = opened(edited(loaded, roi={}, tiles="1x1"))
    assert isinstance(back, Commissioned)
    assert back.answering.offset == clean().offset
    assert unsaid_by(back.clean) == ()


def test_an_older_baseline_holds_for_the_config_of_the_first_start(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It goes on; what it does not know is told once, is in the trail, and from then on holds."""
    loaded = site(tmp_path)
    digest = clean().digest
    assert isinstance(opened(loaded, reading=True), Commissioned)
    folder = station_folder(loaded.config, "line")
    assert not (folder / FILE).exists()  # whoever only looks changes nothing
    with caplog.at_level(logging.WARNING):
        found = opened(loaded)
        opened(loaded)
    assert isinstance(found, Commissioned)
    assert found.clean.digest == digest
    assert unsaid_by(found.clean) == ("region of interest", "masks", "camera")
    told = [line for line in caplog.messages if "does not know region of interest, masks, camera" in line]
    assert len(told) == 1
    assert "does not know region of interest" in (folder / "audit.jsonl").read_text()
    other = opened(edited(loaded, roi={"crop": [0.0, 0.0, 0.5, 1.0]}))
    assert isinstance(other, Uncommissioned)
    assert "region of interest: was [0, 0, 1, 1]" in other.why
    assert isinstance(opened(edited(loaded, roi={})), Commissioned)


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'{"format": "mekiki.picture.v1", "commissioning": 3}']
)
def test_a_damaged_note_is_written_anew(content: bytes, tmp_path: Path) -> None:
    loaded = site(tmp_path)
    folder = station_folder(loaded.config, "line")
    (folder / FILE).write_bytes(content)
    assert isinstance(opened(loaded), Commissioned)
    assert json.loads((folder / FILE).read_text())["picture"]["region"] == [0, 0, 1, 1]


def test_a_note_of_another_baseline_does_not_count_and_a_newer_releases_stays(tmp_path: Path) -> None:
    """Commissioned again by a release that says nothing, the new baseline holds for the new crop."""
    loaded = site(tmp_path)
    opened(loaded)
    folder = station_folder(loaded.config, "line")
    replace(clean(), offset=3.0).save(folder / "commissioning.safetensors")
    cropped = edited(loaded, roi={"crop": [0.0, 0.0, 0.5, 1.0]})
    assert isinstance(opened(cropped), Commissioned)
    newer = b'{"format": "mekiki.picture.v2", "lens": 7}'
    (folder / FILE).write_bytes(newer)
    assert isinstance(opened(cropped), Commissioned)
    assert (folder / FILE).read_bytes() == newer
