"""How a region becomes the model's square, by config, model, shape and baseline."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from camera.pictures.view import NEARLY_SQUARE, OVERLAP, native, parse_tiles, resolve, seen_share, spans

SIDES = st.integers(1, 10_000)
MODES = st.sampled_from(["longest", "squash", "shortest"])
VIEWS = st.sampled_from(["fit", "fill", "crop"])
MEASURED = st.sampled_from([None, "auto", "fit", "fill", "crop"])


@given(VIEWS, MODES, SIDES, SIDES, MEASURED)
def test_what_is_named_holds(view, mode, width, height, measured) -> None:
    """Whatever the model, the region and the baseline are."""
    assert resolve(view, mode, width, height, measured) == view


@given(MODES, SIDES, SIDES)
def test_auto_is_the_models_own_but_cuts_no_sides_off(mode, width, height) -> None:
    """Padded and squashed stay what they are; a cut is taken of regions that are nearly square alone."""
    found = resolve("auto", mode, width, height)
    off = max(width, height) / min(width, height) > NEARLY_SQUARE
    assert found == ("fit" if mode == "shortest" and off else native(mode))
    assert resolve("auto", mode, width, height, "auto") == found
    assert seen_share(width, height, (1, 1), found) > 0.9


@given(MODES, SIDES, SIDES, VIEWS)
def test_a_station_goes_on_as_its_baseline_was_measured(mode, width, height, measured) -> None:
    """`auto` never moves a station that was measured."""
    assert resolve("auto", mode, width, height, measured) == measured


@pytest.mark.parametrize(("side", "view"), [(1050, "crop"), (1051, "fit")])
def test_five_percent_is_nearly_square(side: int, view: str) -> None:
    """And no more."""
    assert resolve("auto", "shortest", side, 1000) == resolve("auto", "shortest", 1000, side) == view


@given(SIDES, st.integers(1, 8))
def test_tiles_cover_a_side_and_overlap(length: int, count: int) -> None:
    """From end to end, equally long, and what is smaller than the overlap is whole in one of them."""
    found = spans(length, count)
    side = found[0][1]
    assert len(found) == count
    assert (found[0][0], found[-1][1]) == (0, length)
    assert {end - start for start, end in found} == {side}
    assert all(end - start > 0 for start, end in found)
    for (start, end), (after, _) in pairwise(found):
        assert start <= after <= end
        assert end - after >= OVERLAP * side - 1


@given(SIDES, SIDES, st.tuples(st.integers(1, 8), st.integers(1, 8)), VIEWS)
def test_a_share_is_one(width: int, height: int, tiles: tuple[int, int], view) -> None:
    """More than nothing, no more than all, and all of it where nothing is cut off."""
    share = seen_share(width, height, tiles, view)
    assert 0 < share <= 1 + 1e-9
    assert share == 1 or view == "crop"


def test_the_share_of_a_cut() -> None:
    """Of full HD the middle 1080 columns of 1920; of two tiles of 1024 x 1080 almost all."""
    assert seen_share(1920, 1080, (1, 1), "crop") == pytest.approx(1080 / 1920)
    assert seen_share(1920, 1080, (2, 1), "crop") == pytest.approx(1024 / 1080)
    assert seen_share(1000, 100, (2, 1), "crop") == pytest.approx(0.2)


def test_tiles_are_columns_and_rows() -> None:
    """As the config writes them."""
    assert (parse_tiles("2x1"), parse_tiles("8x3")) == ((2, 1), (8, 3))
