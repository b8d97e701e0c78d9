"""What is said of what the model sees."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from camera.core.settings import RegionOfInterest
from camera.pictures.framing import Framing
from camera.pictures.preprocess import InputSpec
from camera.pictures.sight import LEAST_MODEL_PX, PictureSight, sight
from camera.pictures.view import parse_tiles

WEB = InputSpec(224, (0.5,) * 3, (0.5,) * 3)
HD = (1920, 1080)


@pytest.mark.parametrize(
    ("framing", "said"),
    [
        (Framing(WEB), "fit into 224x224: all of it is seen, 8.6 picture pixels per model pixel"),
        (
            Framing(WEB, "crop"),
            "its middle cut out and scaled to 224x224: 56% of it is seen, 4.8 picture pixels per model pixel",
        ),
        (
            Framing(WEB, "fill"),
            "squashed into 224x224: all of it is seen, 8.6 x 4.8 picture pixels per model pixel",
        ),
        (
            Framing(WEB, "fit", (2, 1)),
            "2x1 tiles of 1024x1080, each fit into 224x224: all of it is seen,"
            " 4.8 picture pixels per model pixel",
        ),
    ],
)
def test_one_sentence(framing: Framing, said: str) -> None:
    """How much of the region is seen, and how finely."""
    assert PictureSight.of(HD, HD, framing).sentence() == f"1920x1080, region 1920x1080, {said}"


def test_the_region_counts() -> None:
    """Not the picture."""
    roi = RegionOfInterest(crop=(0.0, 0.0, 0.5, 1.0))
    said = sight(HD, roi, Framing(WEB)).sentence()
    assert said.startswith("1920x1080, region 960x1080, fit into 224x224: all of it is seen, 4.8 picture")


def test_a_cut_of_almost_nothing_is_not_all() -> None:
    """99.9 % is not 100."""
    assert "99% of it is seen" in PictureSight.of((1001, 1000), (1001, 1000), Framing(WEB, "crop")).sentence()


@given(
    st.integers(16, 8000), st.integers(16, 8000), st.floats(0.1, 500),
    st.sampled_from(["auto", "fit", "fill"]), st.sampled_from(["squash", "shortest", "longest"]),
)  # fmt: skip
def test_a_remedy_is_one(width: int, height: int, defect_px: float, view, mode) -> None:
    """With the tiles that a warning names there is no warning; with fewer it would come."""
    framing = Framing(replace(WEB, resize_mode=mode), view)
    one = PictureSight.of((width, height), (width, height), framing)
    said = one.lost(defect_px)
    assert (said is not None) == (defect_px / max(one.scale) < LEAST_MODEL_PX)
    if said is None or "not even" in said:
        return
    tiles = parse_tiles(said.partition("set tiles: ")[2].partition(",")[0])
    after = PictureSight.of((width, height), (width, height), replace(framing, tiles=tiles))
    assert after.lost(defect_px) is None


def test_a_warning_names_size_and_remedy() -> None:
    """In model pixels, against what is needed."""
    said = PictureSight.of(HD, HD, Framing(WEB)).lost(12.0)
    assert said is not None
    assert "a defect of 12 picture pixels, the recipe's smallest_defect_px, is 1.4 model pixels" in said
    assert "2 are needed: set tiles: 2x1, or a smaller roi.crop" in said
    assert PictureSight.of(HD, HD, Framing(WEB)).lost(None) is None
    hopeless = PictureSight.of(HD, HD, Framing(WEB)).lost(0.5)
    assert hopeless is not None
    assert "not even tiles: 8x8 would do" in hopeless
