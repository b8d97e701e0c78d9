"""What of a picture is looked at."""

from __future__ import annotations

import numpy as np
import pytest

from camera.core.settings import RegionOfInterest
from camera.pictures.region import Region

LEFT_HALF = ((0.0, 0.0), (0.5, 0.0), (0.5, 1.0), (0.0, 1.0))


def picture(height: int = 60, width: int = 100) -> np.ndarray:
    image = np.random.default_rng(0).integers(1, 256, (height, width, 3), dtype=np.uint8)
    image.setflags(write=False)
    return image


def test_without_a_region_the_picture_is_untouched():
    """The default region is the whole picture, not copied."""
    image = picture()
    cut, seen = Region(RegionOfInterest()).cut(image)
    assert cut is image
    assert seen is None


def test_a_crop_is_in_shares_of_the_picture():
    """Left, top, right, bottom are shares of width and height."""
    cut, _ = Region(RegionOfInterest(crop=(0.1, 0.5, 0.4, 1.0))).cut(picture())
    assert np.array_equal(cut, picture()[30:60, 10:40])
    assert cut.base is None  # does not keep the whole picture in memory
    assert not cut.flags.writeable


def test_a_mask_is_black_before_anything_else_sees_it():
    """Inside the polygon everything is black, outside nothing has changed."""
    image = picture()
    cut, seen = Region(RegionOfInterest(masks={"lamp": LEFT_HALF})).cut(image)
    assert (cut[:, :50] == 0).all()
    assert np.array_equal(cut[:, 52:], image[:, 52:])  # the border pixel may go either way
    assert np.array_equal(seen == 0, (cut == 0).all(axis=2))
    assert image[0, 0, 0] != 0  # the capture itself is not changed


def test_masks_that_overlap_stay_black():
    """Where two polygons overlap the picture is masked, not uncovered again."""
    roi = RegionOfInterest(masks={"a": LEFT_HALF, "b": ((0.2, 0.2), (0.8, 0.2), (0.8, 0.8), (0.2, 0.8))})
    cut, _ = Region(roi).cut(picture())
    assert (cut[20:40, 25:45] == 0).all()
    assert (cut[20:40, 60:75] == 0).all()


def test_masks_are_shares_of_the_whole_picture_not_of_the_crop():
    """A crop moves the mask with the picture."""
    roi = RegionOfInterest(crop=(0.25, 0.0, 1.0, 1.0), masks={"a": LEFT_HALF})
    cut, _ = Region(roi).cut(picture())
    assert cut.shape == (60, 75, 3)
    assert (cut[:, :25] == 0).all()
    assert (cut[:, 27:] != 0).all()


def test_the_mask_follows_the_size_of_the_picture():
    """A camera that changes its resolution gets a new mask."""
    region = Region(RegionOfInterest(masks={"a": LEFT_HALF}))
    for width in (100, 200, 100):
        cut, _ = region.cut(picture(60, width))
        assert (cut[:, : width // 2] == 0).all()
        assert (cut[:, width // 2 + 2 :] != 0).all()


@pytest.mark.parametrize("crop", [(0.0, 0.0, 0.001, 0.001), (0.999, 0.999, 1.0, 1.0)])
@pytest.mark.parametrize("size", [(1, 1), (1, 9), (60, 100)])
def test_a_crop_is_never_empty(crop, size):
    """However small the crop or the picture, at least one pixel is left."""
    assert Region(RegionOfInterest(crop=crop)).cut(picture(*size))[0].size >= 3
