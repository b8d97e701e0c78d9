"""Is a picture fit to be judged?"""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from camera.core.frame import Fault
from camera.core.settings import QualityLimits
from camera.pictures.quality import FreezeWatch, assess, is_stale

LIMITS = QualityLimits(min_sharpness=20.0)
OFF = QualityLimits(min_luma=None, max_luma=None, min_sharpness=None, frozen_s=None, stale_s=None)


def textured(mean: float = 128, height: int = 240, width: int = 320) -> np.ndarray:
    noise = np.random.default_rng(0).normal(mean, 20, (height, width, 1))
    return np.repeat(noise.clip(0, 255).astype(np.uint8), 3, axis=2)


def flat(value: int) -> np.ndarray:
    return np.full((240, 320, 3), value, dtype=np.uint8)


@pytest.mark.parametrize(
    ("image", "fault"),
    [
        (textured(), None),
        (flat(0), Fault.BLACK),
        (flat(7), Fault.BLACK),
        (flat(255), Fault.SATURATED),
        (flat(128), Fault.BLURRED),
        (cv2.GaussianBlur(textured(), (0, 0), 5), Fault.BLURRED),
    ],
)
def test_a_picture_is_judged_by_its_light_and_its_edges(image, fault):
    """Black, saturated and blurred pictures are told from good ones."""
    assert assess(image, LIMITS).fault is fault


def test_every_check_can_be_switched_off():
    """With no limits nothing is refused."""
    for value in (0, 128, 255):
        assert assess(flat(value), OFF).fault is None


def test_luma_is_the_mean_brightness():
    """A grey of 100 has a luma of 100; a green picture counts as bright as the eye sees it."""
    assert assess(flat(100), OFF).luma == pytest.approx(100)
    green = flat(0)
    green[..., 1] = 255
    assert assess(green, OFF).luma == pytest.approx(0.587 * 255, abs=1)


def test_sharpness_hardly_depends_on_the_camera_s_resolution():
    """The same scene at twice the resolution is about as sharp: within 25 %."""
    scene = cv2.resize(textured(height=120, width=160), (640, 480), interpolation=cv2.INTER_CUBIC)
    large = cv2.resize(scene, (1280, 960), interpolation=cv2.INTER_CUBIC)
    assert assess(large, OFF).sharpness == pytest.approx(assess(scene, OFF).sharpness, rel=0.25)


@pytest.mark.parametrize("size", [(240, 320), (1080, 1920)])
def test_a_masked_part_neither_darkens_nor_sharpens(size):
    """A picture that is half masked measures like its visible half."""
    image = np.full((*size, 3), 100, dtype=np.uint8)
    seen = np.full(size, 255, dtype=np.uint8)
    image[:, : size[1] // 2] = 0
    seen[:, : size[1] // 2] = 0
    quality = assess(image, OFF, seen)
    assert quality.luma == pytest.approx(100)
    assert quality.sharpness == pytest.approx(0)


def test_a_picture_that_is_masked_altogether_is_black():
    """Nothing to see counts as black, without an error."""
    seen = np.zeros((240, 320), dtype=np.uint8)
    assert assess(flat(0), LIMITS, seen).fault is Fault.BLACK


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (500, 1), (2, 2)])
def test_tiny_pictures_are_measured(size):
    """A picture of one pixel has a luma and no sharpness, without an error."""
    quality = assess(np.full((*size, 3), 50, dtype=np.uint8), OFF)
    assert quality.luma == pytest.approx(50)
    assert quality.sharpness == pytest.approx(0)


def test_the_very_same_picture_for_long_enough_is_frozen():
    """Equal for 5 s: frozen. One changed bit: alive again."""
    watch = FreezeWatch(QualityLimits(frozen_s=5.0))
    second = 1_000_000_000
    assert [watch.frozen(textured(), at * second) for at in range(7)] == [False] * 5 + [True] * 2
    other = textured()
    other[3, 5, 1] ^= 1  # off the grid of the quick check
    assert not watch.frozen(other, 7 * second)
    assert not watch.frozen(other, 11 * second)
    assert watch.frozen(other, 12 * second)


def test_another_size_is_another_picture():
    """A camera that changes its resolution is not frozen."""
    watch = FreezeWatch(QualityLimits(frozen_s=0.001))
    assert not watch.frozen(flat(0), 0)
    assert not watch.frozen(flat(0)[:100], 10**9)


def test_without_a_limit_nothing_is_frozen():
    """`frozen_s: null` switches the check off."""
    watch = FreezeWatch(OFF)
    assert not any(watch.frozen(flat(1), at * 10**10) for at in range(3))


def test_a_picture_grows_stale():
    """Older than `stale_s` is stale, exactly that old is not yet."""
    limits = QualityLimits(stale_s=2.0)
    assert not is_stale(0, 2_000_000_000, limits)
    assert is_stale(0, 2_000_000_001, limits)
    assert not is_stale(0, 10**15, OFF)
