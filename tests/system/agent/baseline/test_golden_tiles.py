"""Golden samples of a station with tiles."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from adapters.baseline.reference_samples import NamedBy
from adapters.core.measured_with import MeasuredWith
from adapters.core.observation import as_bytes
from agent.base.errors import UsageError
from agent.baseline import contact_sheet
from agent.baseline.golden_samples import read_golden
from agent.config.recipes import shipped
from agent.inspection.feed_factory import framing_of
from agent.versions.station_picture import picture_of, prepared_as
from camera.core.kept_region import KeptRegion
from camera.core.settings import RegionOfInterest
from tests.support.learning_site import PARTS, clean, engine, photos, scorer, site, write_photos

HALF = ((0.0, 0.0), (0.5, 0.0), (0.5, 1.0), (0.0, 1.0))


def tiled(folder: Path, tiles: str):
    station = site(folder, commissioned=False).config.stations["line"]
    return station.model_copy(update={"tiles": tiles})


def test_a_part_is_one_sample_and_it_is_the_tile_that_decides(tmp_path: Path) -> None:
    """Of a good part and of a defective one, as on the line; without tiles it is the whole region."""
    golden = write_photos(tmp_path / "golden", ["ok", "scratch"], 4)
    plain = read_golden(golden, shipped("line"), tiled(tmp_path, "1x1"), scorer()).samples
    station = tiled(tmp_path, "2x2")
    found = read_golden(golden, shipped("line"), station, scorer()).samples
    assert found.classes.tolist() == plain.classes.tolist()
    spec = engine().info.preprocess
    files = sorted((golden / "ok").iterdir()) + sorted((golden / "scratch").iterdir())
    for file, sample in zip(files, found.pictures, strict=True):
        tiles = as_bytes(framing_of(station, spec).inputs(np.asarray(Image.open(file))).pixels, spec)
        scores = scorer().look(tiles, scorer().source).scores
        assert len(tiles) == 4
        assert np.array_equal(sample, tiles[scores.argmax()])


def test_an_exported_sample_is_taken_as_it_is(tmp_path: Path) -> None:
    """It is one tile already: it is not divided again, and of another view or tiles it is refused."""
    station, info = tiled(tmp_path, "2x2"), engine().info
    picture = picture_of(station, info.preprocess.resize_mode)
    baseline = replace(clean(), measured=MeasuredWith.of(info, picture))
    contact_sheet.write(baseline, tmp_path / "out", KeptRegion.of("line", station.roi, prepared_as(picture)))
    who = NamedBy.PERSON if baseline.counts["person"] else NamedBy.MODEL
    folder = tmp_path / "out" / contact_sheet.FOLDERS[who]
    read = read_golden(folder, shipped("line"), station, scorer())
    assert read.exported.all()  # the model chose them: nothing is claimed of them
    found = read.samples
    written = baseline.known.some(baseline.known.named_by == who)
    assert len(found.classes) == len(written.classes)
    for label in np.unique(found.classes):
        ours, theirs = (one.pictures[one.classes == label].astype(int) for one in (found, written))
        assert np.abs(ours - theirs).mean() < 2
    with pytest.raises(UsageError, match=r"an exported sample .*tiles 2x2.*the station has .*tiles 3x1"):
        read_golden(folder, shipped("line"), tiled(tmp_path, "3x1"), scorer())
    moved = station.model_copy(update={"roi": RegionOfInterest(crop=(0.1, 0.1, 0.9, 0.9))})
    with pytest.raises(UsageError, match="an exported sample of another region of interest"):
        read_golden(folder, shipped("line"), moved, scorer())
    masked = station.model_copy(update={"roi": RegionOfInterest(masks={"lamp": HALF})})
    again = KeptRegion.of("line", masked.roi, prepared_as(picture_of(masked, "squash")))
    contact_sheet.write(baseline, tmp_path / "masked", again)
    folder = tmp_path / "masked" / contact_sheet.FOLDERS[who]
    kept = read_golden(folder, shipped("line"), masked, scorer()).samples
    assert np.array_equal(kept.pictures, found.pictures)  # masks are in it already, where its tile has them


def test_a_picture_whose_tiles_are_too_small_is_refused(tmp_path: Path) -> None:
    """By its name."""
    (tmp_path / "golden" / "ok").mkdir(parents=True)
    Image.fromarray(photos()[PARTS - 1][:40, :40]).save(tmp_path / "golden" / "ok" / "small.png")
    with pytest.raises(UsageError, match=r"small\.png: tiles of .*set fewer tiles.*take it out"):
        read_golden(tmp_path / "golden", shipped("line"), tiled(tmp_path, "8x1"), scorer())
