"""The model's input is open_clip's own, to the last bit, without torch."""

from __future__ import annotations

import time

import numpy as np
import pytest
from PIL import Image as Pillow

from camera.pictures.preprocess import InputSpec, prepare
from camera.simulation.part import render_part

MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)
SIZES = [(1, 1), (2, 3), (1, 40), (37, 1), (31, 32), (32, 32), (33, 31), (64, 64), (190, 190), (90, 123)]
SIZES += [(123, 90), (97, 170), (180, 171), (31, 97), (101, 33), (150, 181)]


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize("mode", ["shortest", "squash", "longest"])
@pytest.mark.parametrize(("mean", "std"), [(MEAN, STD), ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))])
def test_input_is_open_clips_to_the_last_bit(interpolation, mode, mean, std):
    """For every mode and size the pixels equal those of open_clip's own transform exactly."""
    transform = pytest.importorskip("open_clip.transform")
    for size in (32, 33):
        spec = InputSpec(size, mean, std, interpolation, mode, fill=114)
        cfg = transform.PreprocessCfg(
            size=size, mean=mean, std=std, interpolation=interpolation, resize_mode=mode, fill_color=114
        )
        reference = transform.image_transform_v2(cfg, is_train=False)
        for height, width in SIZES:
            if mode == "longest" and min(height, width) * size < max(height, width) / 2:
                continue  # open_clip itself fails on a side that rounds to no pixel
            image = picture(height, width)
            ours = prepare(image, spec)
            theirs = reference(Pillow.fromarray(image)).numpy()
            assert ours.dtype == np.float32
            assert ours.shape == (3, size, size)
            assert np.array_equal(ours, theirs), (mode, interpolation, size, height, width)


def test_input_is_open_clips_at_the_size_of_a_real_model():
    """The same at 224 pixels from a full-HD picture."""
    transform = pytest.importorskip("open_clip.transform")
    image = picture(1080, 1920)
    reference = transform.image_transform_v2(transform.PreprocessCfg(size=224), is_train=False)
    assert np.array_equal(
        prepare(image, InputSpec(224, MEAN, STD)), reference(Pillow.fromarray(image)).numpy()
    )


@pytest.mark.parametrize("mode", ["shortest", "squash", "longest"])
@pytest.mark.parametrize(
    ("height", "width", "size"), [(1080, 1920, 128), (2160, 3840, 224), (900, 1600, 100)]
)
def test_a_large_picture_is_open_clips_within_a_grey_level(mode, height, width, size):
    """Shrunk to a sixth and less, no number is off by more than two levels, one in 500 by more than one."""
    transform = pytest.importorskip("open_clip.transform")
    part = render_part("scratch", np.random.default_rng(3))[0]
    image = np.asarray(Pillow.fromarray(part).resize((width, height), Pillow.Resampling.BICUBIC))
    cfg = transform.PreprocessCfg(size=size, mean=(0.0,) * 3, std=(1 / 255,) * 3, resize_mode=mode)
    theirs = transform.image_transform_v2(cfg, is_train=False)(Pillow.fromarray(image)).numpy()
    ours = prepare(image, InputSpec(size, (0.0,) * 3, (1 / 255,) * 3, resize_mode=mode))
    off = np.abs(ours - theirs)
    assert off.max() < 2.01
    assert (off > 1.01).mean() < 2e-3


@pytest.mark.parametrize("mode", ["shortest", "squash", "longest"])
@pytest.mark.parametrize("shape", [(1, 100_000), (100_000, 1)])
def test_a_hair_of_a_picture_costs_no_memory(mode, shape):
    """A picture of 1 x 100 000 pixels is prepared at once, not blown up to 224 x 22 400 000 first."""
    began_s = time.monotonic()
    pixels = prepare(picture(*shape), InputSpec(224, MEAN, STD, resize_mode=mode))
    assert pixels.shape == (3, 224, 224)
    assert time.monotonic() - began_s < 5


def test_the_long_shape_keeps_its_middle():
    """Cutting the ends off an extremely long picture keeps what is in its middle."""
    image = np.zeros((2, 2000, 3), dtype=np.uint8)
    image[:, 990:1010] = 255
    pixels = prepare(image, InputSpec(32, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)))
    assert pixels.min() == 1.0


def test_the_picture_is_left_alone():
    """A read-only picture is prepared, and not changed."""
    image = picture(32, 32)
    image.setflags(write=False)
    before = image.copy()
    prepare(image, InputSpec(32, MEAN, STD))
    assert np.array_equal(image, before)
