"""The map of what differs lies where the part differs, through tile and view."""

from __future__ import annotations

import numpy as np
import pytest

from camera.pictures.difference_picture import draw_difference, over_tile
from camera.pictures.framing import Framing, in_tile
from camera.pictures.preprocess import InputSpec
from camera.pictures.view import ViewName

WHOLE = ((0.0, 0.0, 1.0, 1.0),)
SPEC = InputSpec(64, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), "bilinear", "squash")
VIEWS: tuple[ViewName, ...] = ("fit", "fill", "crop")


def spotted(width: int, height: int, box: tuple[int, int, int, int]) -> np.ndarray:
    image = np.zeros((height, width, 3), np.uint8)
    left, top, right, bottom = box
    image[top:bottom, left:right] = 255
    return image


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize(("width", "height"), [(120, 80), (80, 120), (96, 96)])
def test_a_place_in_the_square_is_found_in_the_tile(view: ViewName, width: int, height: int) -> None:
    """What the model saw of a spot leads back to the spot, to a pixel of the model's."""
    middle = (width // 2 - 8, height // 2 - 16, width // 2 + 24, height // 2 + 8)
    seen = Framing(SPEC, view).inputs(spotted(width, height, middle)).pixels[0].mean(axis=0) > 0.5
    rows, columns = np.flatnonzero(seen.any(axis=1)), np.flatnonzero(seen.any(axis=0))
    square = (columns[0] / 64, rows[0] / 64, (columns[-1] + 1) / 64, (rows[-1] + 1) / 64)
    left, top, right, bottom = in_tile(square, width, height, view)
    found = (left * width, top * height, right * width, bottom * height)
    assert found == pytest.approx(middle, abs=2 * max(width, height) / 64)


def test_a_place_in_the_padding_is_clipped_to_the_tile() -> None:
    assert in_tile((0.0, 0.0, 1.0, 0.5), 200, 100, "fit") == (0.0, 0.0, 1.0, 0.5)
    assert in_tile((0.0, 0.0, 1.0, 0.2), 200, 100, "fit") == (0.0, 0.0, 1.0, 0.0)


@pytest.mark.parametrize("view", VIEWS)
def test_scores_lie_where_the_square_was(view: ViewName) -> None:
    """Padded and squashed ones cover the tile; of a cut the ends have none."""
    scores = over_tile(np.ones((4, 4), np.float32), 120, 80, view)
    assert scores.shape == (80, 120)
    assert (scores[:, 20:100] == 1).all()
    assert (scores[:, :20] == (0 if view == "crop" else 1)).all()


def test_only_what_differs_is_coloured() -> None:
    """What good parts have too keeps its own pixels; far beyond that it turns red."""
    image = np.full((64, 64, 3), 100, np.uint8)
    maps = np.full((1, 8, 8), 0.1, np.float32)
    maps[0, :2, :2] = 5.0
    drawn = draw_difference(image, maps, WHOLE, "fill", max_width_px=64)
    assert (drawn[32:, 32:] == 100).all()
    red, green, blue = drawn[2, 2].astype(int)
    assert red > green
    assert red > blue
    assert drawn[2, 2].tolist() != [100, 100, 100]


def test_of_tiles_that_overlap_the_worse_counts() -> None:
    image = np.full((40, 80, 3), 100, np.uint8)
    maps = np.stack([np.full((4, 4), 5.0, np.float32), np.zeros((4, 4), np.float32)])
    tiles = ((0.0, 0.0, 0.6, 1.0), (0.4, 0.0, 1.0, 1.0))
    drawn = draw_difference(image, maps, tiles, "fill", max_width_px=80)
    assert (drawn[:, 50:] == 100).all()
    assert (drawn[:, :47] != 100).any(axis=2).all()


def test_a_wide_picture_is_scaled_down_and_no_number_stops_it() -> None:
    """Scores that are no numbers are drawn as what they are: far beyond."""
    image = np.full((50, 200, 3), 100, np.uint8)
    maps = np.array([[[np.nan, 0.0], [np.inf, 0.0]]], np.float32)
    drawn = draw_difference(image, maps, WHOLE, "fill", max_width_px=100)
    assert drawn.shape == (25, 100, 3)
