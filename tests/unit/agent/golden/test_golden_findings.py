"""What is odd about golden samples: each finding names the picture and the reason."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from agent.config.models import Station
from agent.config.recipes import Recipe, ReferenceSettings
from agent.golden import changes
from agent.golden.check import check
from agent.golden.findings import of_classes, of_defect_scores, of_good_scores
from agent.golden.pictures import named_files
from agent.golden.store import GoldenChange, GoldenStore
from tests.support.tiny_patches import PixelPatches, part, write_parts

ALONE = Recipe(reference=ReferenceSettings())
STATION = Station.model_validate({"camera": {"kind": "simulated"}, "recipe": "line"})


def checked(store: GoldenStore, tmp_path: Path) -> dict[str, list[str]]:
    changes.add(store, STATION, named_files([tmp_path / "in"], None), GoldenChange("a", "add"), by="a")
    found = check(store, store.index(), ALONE, STATION, PixelPatches())
    assert found.judged
    reasons: dict[str, list[str]] = {}
    for one in found.findings:
        reasons.setdefault(one.kind, []).append(one.reason)
    return reasons


@pytest.fixture
def store(tmp_path: Path) -> GoldenStore:
    return GoldenStore(tmp_path / "golden", "top")


def test_a_good_set_has_nothing_odd(store: GoldenStore, tmp_path: Path) -> None:
    write_parts(tmp_path / "in" / "good", range(100, 112))
    write_parts(tmp_path / "in" / "spot", range(20, 24), spot=True)
    assert checked(store, tmp_path) == {}


def test_each_odd_picture_is_named_with_its_reason(store: GoldenStore, tmp_path: Path) -> None:
    """A part in the wrong folder either way, a blurred, a dark one, one twice, another camera's, too few."""
    good = write_parts(tmp_path / "in" / "good", range(100, 112))
    spots = write_parts(tmp_path / "in" / "spot", range(20, 22), spot=True)
    Image.fromarray(part(30, spot=True)).save(good / "swapped.png")
    Image.fromarray(part(31)).save(spots / "fine.png")
    Image.fromarray(np.full((64, 64, 3), 128, np.uint8)).save(good / "flat.png")
    Image.fromarray(part(32) // 4).save(good / "dim.png")
    Image.fromarray(part(103)).save(good / "again.jpg", quality=95)
    Image.fromarray(np.tile(part(33), (1, 2, 1))).save(good / "wide.png")
    write_parts(tmp_path / "in" / "scratch", range(40, 41), spot=True)
    found = checked(store, tmp_path)
    assert any(
        "good/swapped.png" in one and "unlike the other good samples" in one for one in found["mislabel"]
    )
    assert any("spot/fine.png" in one and "takes it for good" in one for one in found["mislabel"])
    assert any(one.startswith("good/flat.png") for one in found["blurred"])
    assert any(one.startswith("good/dim.png") for one in found["dark"])
    assert any("again.jpg" in one and "103.png" in one for one in found["near_duplicate"])
    assert ["good/wide.png" in one for one in found["size"]] == [True]
    assert found["few"] == ["class scratch: 1 samples: 3 are needed, 2 more"]


def test_nearly_the_same_picture_in_two_classes_contradicts(store: GoldenStore, tmp_path: Path) -> None:
    write_parts(tmp_path / "in" / "good", range(100, 112))
    spots = write_parts(tmp_path / "in" / "spot", range(20, 23), spot=True)
    Image.fromarray(np.clip(part(105).astype(int) + 1, 0, 255).astype(np.uint8)).save(spots / "five.png")
    found = checked(store, tmp_path)
    assert any("called" in one and "105.png" in one and "five.png" in one for one in found["contradiction"])


def test_a_damaged_picture_is_found_and_the_others_are_looked_at(store: GoldenStore, tmp_path: Path) -> None:
    write_parts(tmp_path / "in" / "good", range(100, 112))
    done = changes.add(store, STATION, named_files([tmp_path / "in"], None), GoldenChange("a", "add"), by="a")
    store.place(done.new[0]).write_bytes(b"rubbish")
    found = check(store, store.index(), ALONE, STATION, PixelPatches())
    assert [one.kind for one in found.findings] == ["damaged"]
    assert found.findings[0].samples == (done.new[0],)


def test_small_classes_are_told() -> None:
    found = [one.reason for one in of_classes(Counter(good=9, spot=2, dent=3), {"good"})]
    assert found == [
        "9 good samples: a station begins well with 10",
        "class spot: 2 samples: 3 are needed, 1 more",
    ]


def test_scores_at_the_threshold_pass_and_are_told() -> None:
    """As on the line: a part fails above the threshold, not at it."""
    scores = np.array([1.0, 1.1], np.float32)
    found = list(of_defect_scores(["a", "b"], ["one", "two"], ["dent", "dent"], scores, 1.0))
    assert [one.samples for one in found] == [("a",)]


def test_good_samples_that_are_all_alike_accuse_nobody() -> None:
    ids = list("abcdefgh")
    scores = np.array([1, 1, 1, 1, 1, 1, 1, 1.1], np.float32)
    assert list(of_good_scores(ids, ids, scores)) == []
    scores[3] = 4
    assert [one.samples for one in of_good_scores(ids, ids, scores)] == [("d",)]
