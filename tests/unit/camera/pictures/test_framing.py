"""The one way from a region to the model's input."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from camera.pictures.framing import Framing, in_picture
from camera.pictures.preprocess import InputSpec, prepare

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
WEB = InputSpec(32, MEAN, STD)
"""As most CLIPs from the web: a cut."""


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("mode", ["squash", "longest"])
@pytest.mark.parametrize("shape", [(64, 64), (48, 64), (90, 40), (270, 480)])
def test_a_model_that_cuts_nothing_gets_what_it_got(mode, shape) -> None:
    """By default, to the last bit; its own padding has its own brightness."""
    spec = replace(WEB, resize_mode=mode, fill=114)
    shown = Framing(spec).inputs(picture(*shape))
    assert shown.pixels.tobytes() == prepare(picture(*shape), spec)[None].tobytes()
    assert shown.boxes == ((0.0, 0.0, 1.0, 1.0),)
    assert not shown.pixels.flags.writeable


def test_a_square_region_is_cut_as_ever() -> None:
    """Nothing is lost there."""
    for shape in ((64, 64), (64, 66)):
        assert np.array_equal(Framing(WEB).inputs(picture(*shape)).pixels[0], prepare(picture(*shape), WEB))


def test_the_sides_are_seen() -> None:
    """Two pictures that differ in their sides alone are two to the model; under its own cut they were one."""
    one, other = picture(108, 192), picture(108, 192)
    other[:, :30] = 255 - other[:, :30]  # of the 42 that are cut off; the filter looks a few pixels beyond
    other[:, -30:] = 0
    for framing in (Framing(WEB, "crop"), Framing(WEB, measured="crop")):
        assert np.array_equal(framing.inputs(one).pixels, framing.inputs(other).pixels)
    for framing in (Framing(WEB), Framing(WEB, "fill"), Framing(WEB, tiles=(2, 1))):
        assert not np.array_equal(framing.inputs(one).pixels, framing.inputs(other).pixels)


def test_padding_that_the_model_was_not_trained_on_is_nothing_at_its_input() -> None:
    """Its mean colour, within half a grey level; a model that was trained on padding keeps its own."""
    pixels = Framing(WEB, "fit").inputs(np.full((16, 64, 3), 255, np.uint8)).pixels[0]
    half = 0.5 / 255 / np.array(STD)
    assert (np.abs(pixels[:, :12]).max(axis=(1, 2)) <= half + 1e-6).all()
    assert (pixels[:, 12:20] > 1).all()
    trained = replace(WEB, resize_mode="longest", fill=0)
    own = Framing(trained, "fit").inputs(np.full((16, 64, 3), 255, np.uint8))
    assert (own.pixels[0][:, :12].max(axis=(1, 2)) < -1).all()


def test_each_tile_is_prepared_like_a_picture() -> None:
    """Row by row, by its own shape: square tiles of a wide region are cut by a model that cuts."""
    whole = picture(60, 113)
    shown = Framing(WEB, tiles=(2, 1)).inputs(whole)
    assert shown.view == "crop"
    assert shown.boxes == ((0.0, 0.0, 61 / 113, 1.0), (52 / 113, 0.0, 1.0, 1.0))
    for pixels, piece in zip(shown.pixels, (whole[:, :61], whole[:, 52:]), strict=True):
        assert np.array_equal(pixels, prepare(piece, WEB))
    grid = Framing(WEB, "fill", (3, 2)).inputs(whole)
    assert grid.pixels.shape == (6, 3, 32, 32)
    corners = [box[:2] for box in grid.boxes]
    assert corners == sorted(corners, key=lambda corner: corner[::-1])


@given(
    arrays(np.uint8, st.tuples(st.integers(1, 40), st.integers(1, 40), st.just(3))),
    st.sampled_from(["auto", "fit", "fill", "crop"]),
    st.tuples(st.integers(1, 8), st.integers(1, 8)),
)
def test_any_picture_in_any_tiles_is_finite(image, view, tiles) -> None:
    """The smallest too."""
    shown = Framing(WEB, view, tiles).inputs(image)
    assert shown.pixels.shape == (tiles[0] * tiles[1], 3, 32, 32)
    assert np.isfinite(shown.pixels).all()
    assert len(shown.boxes) == len(shown.pixels)


def test_only_an_old_baseline_is_called_cropped() -> None:
    """What the config names, what is nearly square, and what is seen is meant."""
    assert Framing(WEB, measured="crop").cropped(1920, 1080) == pytest.approx(1 - 1080 / 1920)
    for framing in (
        Framing(WEB),
        Framing(WEB, "crop"),
        Framing(WEB, "crop", measured="crop"),
        Framing(WEB, measured="fit"),
        Framing(WEB, measured="auto"),
        Framing(replace(WEB, resize_mode="squash"), measured="fill"),
    ):
        assert framing.cropped(1920, 1080) is None
    assert Framing(WEB, measured="crop").cropped(1000, 1020) is None


def test_a_box_of_a_region_is_one_of_the_picture() -> None:
    """In shares of all that the camera gave."""
    assert in_picture((0.5, 0.0, 1.0, 0.25), (0.2, 0.4, 0.6, 0.8)) == pytest.approx((0.4, 0.4, 0.6, 0.5))
