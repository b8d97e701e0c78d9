"""Golden samples of a station with tiles."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from adapters.core.observation import as_bytes
from agent.base.errors import UsageError
from agent.baseline.golden_samples import read_golden
from agent.config.recipes import shipped
from agent.inspection.feed_factory import framing_of
from tests.support.learning_site import PARTS, engine, photos, scorer, site, write_photos


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


def test_a_picture_whose_tiles_are_too_small_is_refused(tmp_path: Path) -> None:
    """By its name."""
    (tmp_path / "golden" / "ok").mkdir(parents=True)
    Image.fromarray(photos()[PARTS - 1][:40, :40]).save(tmp_path / "golden" / "ok" / "small.png")
    with pytest.raises(UsageError, match=r"small\.png: tiles of .*set fewer tiles.*take it out"):
        read_golden(tmp_path / "golden", shipped("line"), tiled(tmp_path, "8x1"), scorer())
