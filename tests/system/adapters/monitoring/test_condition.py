"""What lamp, lens and sensor do is found without labels and can be put on other parts."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from adapters.core.observation import Bytes
from adapters.monitoring.degradation import Blur, Degradation, Noise
from adapters.monitoring.degradation_fit import LEAST, PictureStatistics, estimate
from camera.simulation.degradations import ANCHORS, KINDS
from tests.support.line_site import flanges, line_eye

PARTS, OTHERS = 100, 24
SEVERITY = 3
FINE = ("defocus", "motion", "noise")
"""Kinds that leave the mean picture almost as it is and show in the spectrum."""


@cache
def clean(side: int) -> PictureStatistics:
    return PictureStatistics.of(flanges(["ok"] * PARTS, 20_000, side))


@cache
def found(kind: str | None, side: int = 128) -> Degradation:
    """The condition of 100 parts that are others than those of commissioning."""
    worse = None if kind is None else (kind, SEVERITY)
    return estimate(clean(side), PictureStatistics.of(flanges(["ok"] * PARTS, 21_000, side, worse)))


def others(kind: str | None = None, side: int = 128, count: int = OTHERS) -> Bytes:
    """Parts that no estimate has seen."""
    return flanges(["ok"] * count, 25_000, side, None if kind is None else (kind, SEVERITY))


def as_float(pictures: Bytes) -> np.ndarray:
    return pictures.astype(np.float64)


def grey_levels_off(one: Bytes, other: Bytes, where: np.ndarray) -> float:
    """How far two mean pictures are from each other at some pixels."""
    return float(np.sqrt(((as_float(one).mean(axis=0) - as_float(other).mean(axis=0))[where] ** 2).mean()))


def spectrum(pictures: Bytes) -> np.ndarray:
    return np.log(PictureStatistics.of(pictures).cells + 1e-8)


def usual_feature(pictures: Bytes) -> np.ndarray:
    scorer = line_eye()
    return scorer.look(pictures, scorer.source).features.mean(axis=0)


@pytest.mark.parametrize("kind", KINDS)
def test_to_the_model_other_parts_look_as_they_would_under_the_condition(kind: str) -> None:
    """Rendered parts are far nearer to truly degraded ones than clean ones are, in the frozen features.

    Specks and glare have edges that statistics over 100 pictures show only so well.
    """
    pytest.importorskip("torch")
    truth = usual_feature(others(kind))
    without = ((usual_feature(others()) - truth) ** 2).sum()
    rendered = ((usual_feature(found(kind).render(others(), seed=1)) - truth) ** 2).sum()
    assert rendered < without / (2 if kind in ("dirt", "glare") else 5)


@pytest.mark.parametrize("side", [128, 32])
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in FINE])
def test_other_parts_get_the_light_where_it_is(kind: str, side: int) -> None:
    """Where the condition changes the mean picture most, that of rendered parts is at least twice as near."""
    truth, untouched = others(kind, side), others(None, side)
    change = np.abs(as_float(truth).mean(axis=0) - as_float(untouched).mean(axis=0))
    where = change >= np.quantile(change, 0.95)
    rendered = grey_levels_off(found(kind, side).render(untouched, seed=1), truth, where)
    assert rendered < grey_levels_off(untouched, truth, where) / (2 if kind == "dirt" else 5)


@pytest.mark.parametrize(("kind", "side"), [(k, 128) for k in FINE] + [("defocus", 32), ("motion", 32)])
def test_other_parts_get_the_sharpness_and_noise_of_the_condition(kind: str, side: int) -> None:
    """The log spectrum of rendered parts is at least five times as near; noise hardly survives 32 pixels."""
    truth, untouched = (spectrum(others(k, side, LEAST)) for k in (kind, None))
    rendered = spectrum(found(kind, side).render(others(None, side, LEAST), seed=1))
    assert np.abs(rendered - truth).mean() < np.abs(untouched - truth).mean() / 5


@pytest.mark.parametrize("side", [128, 32])
def test_a_clean_line_is_in_no_condition(side: int) -> None:
    """Other parts under the same lamp: rendering under that moves the mean by 2 grey levels at most.

    Single pixels of a mean over so few parts do move, by what parts differ in.
    """
    condition = found(None, side)
    untouched = others(None, side)
    change = as_float(condition.render(untouched, seed=1)) - as_float(untouched)
    assert np.abs(change.mean(axis=(0, 1, 2))).max() < 2
    assert np.sqrt((change.mean(axis=0) ** 2).mean()) < 4
    assert max(condition.blur.x, condition.blur.y) < 0.3
    assert condition.noise.sigma(side, side) < 2 / 255
    assert condition.gain.mean() == pytest.approx(1, abs=0.05)


def test_noise_is_measured() -> None:
    """To 15 % of what stands in the pictures, which resizing has smoothed and black has cut off."""
    noise = as_float(others("noise")) - as_float(others())
    assert found("noise").noise.sigma(128, 128) * 255 == pytest.approx(noise.std(), rel=0.15)
    drawn = found("noise").noise.draw((20, 128, 128, 3), np.random.default_rng(0))
    assert drawn.std() == pytest.approx(found("noise").noise.sigma(128, 128), rel=0.02)


@pytest.mark.parametrize("side", [128, 32])
def test_blur_is_measured(side: int) -> None:
    """Sigma of a Gaussian and travel of the belt, to 15 % and each as what it is."""
    shrunk = side / 256
    lens, belt = found("defocus", side).blur, found("motion", side).blur
    sigma = ANCHORS["defocus"][SEVERITY] * shrunk
    assert lens.kind == "gaussian"
    assert (lens.x, lens.y) == (pytest.approx(sigma, rel=0.15), pytest.approx(sigma, rel=0.15))
    travel = (1 + ANCHORS["motion"][SEVERITY]) * shrunk
    assert (belt.kind, belt.x) == ("smear_x", pytest.approx(travel, rel=0.15))
    assert belt.y < 0.3


@pytest.mark.parametrize("kind", ["dim", "contrast"])
def test_lost_contrast_is_measured(kind: str) -> None:
    """What is left of it to 10 %, and no blur or noise that is not there."""
    condition = found(kind)
    assert condition.gain.mean() == pytest.approx(ANCHORS[kind][SEVERITY], rel=0.1)
    assert max(condition.blur.x, condition.blur.y) < 0.3
    assert condition.noise.sigma(128, 128) < 2 / 255


def test_the_same_pictures_give_the_same_condition() -> None:
    """To the last bit; noise is that of the seed, and new with another one."""
    kind = "noise"
    again = found.__wrapped__(kind)
    assert again.numbers() == found(kind).numbers()
    assert np.array_equal(again.gain, found(kind).gain)
    assert np.array_equal(again.light, found(kind).light)
    first, second, other = (again.render(others(), seed) for seed in (3, 3, 4))
    assert np.array_equal(first, second)
    assert not np.array_equal(first, other)


def test_too_few_pictures_are_refused() -> None:
    """Fewer than an estimate takes: said in numbers, not guessed at."""
    few = flanges(["ok"] * (LEAST - 1), 20_000, 32)
    with pytest.raises(ValueError, match=f"{LEAST - 1} pictures.*{LEAST} or more"):
        PictureStatistics.of(few)
    PictureStatistics.of(flanges(["ok"] * LEAST, 20_000, 32))


def test_a_condition_leaves_its_pictures_alone_and_says_what_it_is() -> None:
    """Read-only pictures can be rendered, in any number; the numbers are for the audit record."""
    pictures = others(None, 32, 3)
    pictures.setflags(write=False)
    condition = found("contrast", 32)
    assert condition.render(pictures, seed=0).shape == pictures.shape
    assert condition.render(pictures[:0], seed=0).shape == (0, 32, 32, 3)
    assert all(np.isfinite(value) and type(value) is float for value in condition.numbers().values())
    assert condition.numbers()["picture_gain"] == pytest.approx(float(condition.gain.mean()))


def test_nothing_at_all_changes_nothing() -> None:
    """The identity gives the very same bytes."""
    flat = np.ones((32, 32, 3), np.float32)
    pictures = others(None, 32)
    identity = Degradation(Blur(), flat, 0 * flat, Noise(), np.zeros(flat.shape[:2], bool), 0.0)
    assert np.array_equal(identity.render(pictures, seed=0), pictures)


def test_what_is_masked_stays_black_under_noise() -> None:
    """Nothing is drawn where nobody may look."""
    flat = np.ones((32, 32, 3), np.float32)
    masked = np.zeros((32, 32), bool)
    masked[:8] = True
    noisy = Degradation(Blur(), flat, 0 * flat, Noise(0.2), masked, 0.0)
    pictures = np.full((4, 32, 32, 3), 120, np.uint8)
    pictures[:, :8] = 0
    shown = noisy.render(pictures, seed=1)
    assert not shown[:, :8].any()
    assert shown[:, 8:].std() > 20
