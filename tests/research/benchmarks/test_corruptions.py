"""The fifteen corruptions: statistics by definition, rising severities, no influence of the neighbours."""

from __future__ import annotations

import io

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from benchmarks.corruption_kinds import CORRUPTIONS, glass_blur
from benchmarks.corruptions import KINDS, LINE_PX, MARGIN_PX, SEVERITIES, TILE_PX, corrupt, sheet

Images = NDArray[np.uint8]

WITHOUT_CHANCE = {"defocus_blur", "zoom_blur", "brightness", "contrast", "pixelate", "jpeg_compression"}
"""Kinds that draw no random numbers."""

UNORDERED = {"glass_blur", "motion_blur", "frost", "elastic_transform"}
"""Kinds that the authors' tables do not order by distance: each has a test of its own."""


def textures(count: int) -> Images:
    """Photos of nothing: smooth colours with finer and finer detail, the same every time."""
    rng = np.random.default_rng(0)
    pictures = []
    for _ in range(count):
        layers = [
            share * cv2.resize(rng.standard_normal((cells, cells, 3), np.float32), (32, 32))
            for cells, share in ((3, 45), (6, 32), (12, 22), (24, 13))
        ]
        pictures.append((128 + sum(layers)).clip(0, 255).astype(np.uint8))
    return np.stack(pictures)


def flat(level: int, count: int = 1) -> Images:
    return np.full((count, 32, 32, 3), level, np.uint8)


def dot() -> Images:
    """One white pixel in the middle of black."""
    pictures = flat(0)
    pictures[0, 16, 16] = 255
    return pictures


def distances(kind: str, pictures: Images) -> list[float]:
    """Mean absolute difference from the clean pictures, in grey levels, per severity."""
    clean = pictures.astype(float)
    return [float(np.abs(corrupt(pictures, kind, severity, 0) - clean).mean()) for severity in SEVERITIES]


def test_kinds_are_those_of_cifar10c_in_its_order() -> None:
    """Fifteen kinds, five severities, noise before blur before weather before digital."""
    assert len(KINDS) == 15
    assert (KINDS[0], KINDS[3], KINDS[7], KINDS[10], KINDS[14]) == (
        "gaussian_noise",
        "defocus_blur",
        "snow",
        "brightness",
        "jpeg_compression",
    )
    assert all(len(table) == len(SEVERITIES) for _, table in CORRUPTIONS.values())


@pytest.mark.parametrize("kind", KINDS)
def test_same_seed_same_pictures(kind: str) -> None:
    """Every severity keeps shape and type, repeats itself, and leaves the pictures passed as they were."""
    pictures = textures(3)
    before = pictures.copy()
    for severity in SEVERITIES:
        corrupted = corrupt(pictures, kind, severity, 4)
        assert corrupted.shape == pictures.shape
        assert corrupted.dtype == np.uint8
        assert not np.array_equal(corrupted, pictures)
        np.testing.assert_array_equal(corrupted, corrupt(pictures, kind, severity, 4))
    np.testing.assert_array_equal(pictures, before)


@pytest.mark.parametrize("kind", KINDS)
def test_a_picture_does_not_depend_on_its_neighbours(kind: str) -> None:
    """With other pictures before and behind it, and fewer of them, the third becomes what it was."""
    pictures = textures(5)
    others = flat(90, 4)
    others[2] = pictures[2]
    for severity in (1, 5):
        among = corrupt(pictures, kind, severity, 0)[2]
        np.testing.assert_array_equal(corrupt(others, kind, severity, 0)[2], among)


@pytest.mark.parametrize("kind", KINDS)
def test_chance_differs_by_seed_and_position(kind: str) -> None:
    """The same picture twice is corrupted in two ways, unless there is no chance in the kind."""
    twice = textures(1).repeat(2, 0)
    corrupted = corrupt(twice, kind, 3, 0)
    again = corrupt(twice, kind, 3, 1)
    assert np.array_equal(corrupted[0], corrupted[1]) == (kind in WITHOUT_CHANCE)
    assert np.array_equal(corrupted[0], again[0]) == (kind in WITHOUT_CHANCE)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in UNORDERED])
def test_distance_grows_with_severity(kind: str) -> None:
    """Each severity leaves the pictures farther from the clean ones than the one before."""
    rising = distances(kind, textures(40))
    assert rising == sorted(set(rising)), rising


def test_glass_gets_worse_with_its_second_round() -> None:
    """Severities 4 and 5 shuffle twice, and each is farther from clean than any that shuffles once."""
    away = distances("glass_blur", textures(40))
    assert min(away[3:]) > 1.4 * max(away[:3])


def test_motion_gets_worse_but_for_one_step() -> None:
    """Severity 4 has a larger radius than 3 and the same sigma, of which nothing is left out there."""
    away = distances("motion_blur", textures(100))
    assert away[0] < away[1] < min(away[2:4])
    assert away[2] == pytest.approx(away[3], rel=0.05)  # other angles
    assert max(away[2:4]) < away[4]


def test_frost_hides_more_and_more() -> None:
    """Behind the same pane, less of the picture's variation is left over the pane's at each severity."""
    picture = np.float32(0.25) + textures(1)[0] / np.float32(1020)  # dark enough to stay below white
    kind, table = CORRUPTIONS["frost"]
    shares = []
    for constants in table:
        frosted = kind(picture, constants, np.random.default_rng(0))
        shares.append(np.corrcoef(frosted.ravel(), picture.ravel())[0, 1])
    assert shares == sorted(shares, reverse=True)


def test_elastic_moves_corners_less_and_pixels_more() -> None:
    """The authors' table: the distance from clean falls, as the affine part is the larger one."""
    falling = distances("elastic_transform", textures(100))
    assert falling == sorted(falling, reverse=True)
    assert falling[-1] > 5


@pytest.mark.parametrize(("severity", "sigma"), zip(SEVERITIES, (0.04, 0.06, 0.08, 0.09, 0.10), strict=True))
def test_gaussian_noise_has_its_sigma(severity: int, sigma: float) -> None:
    """On grey, 61 440 values: sigma to 2 %, the mean half a level lower as levels are cut off."""
    noisy = corrupt(flat(128, 20), "gaussian_noise", severity, 0).astype(float)
    assert noisy.std() == pytest.approx(255 * sigma, rel=0.02)
    assert noisy.mean() == pytest.approx(127.5, abs=0.4)


@pytest.mark.parametrize(("severity", "photons"), zip(SEVERITIES, (500, 250, 100, 75, 50), strict=True))
@pytest.mark.parametrize("level", [51, 153])
def test_shot_noise_has_the_variance_of_poisson(severity: int, photons: int, level: int) -> None:
    """The variance grows with the light and falls with the photons that make white.

    To 10 %: at 250 photons one is about one grey level, and cutting off widens the bell by 8 %.
    """
    noisy = corrupt(flat(level, 20), "shot_noise", severity, 0) / 255
    assert noisy.var() == pytest.approx(level / 255 / photons, rel=0.1)


@pytest.mark.parametrize(("severity", "share"), zip(SEVERITIES, (0.01, 0.02, 0.03, 0.05, 0.07), strict=True))
def test_impulse_noise_hits_its_share(severity: int, share: float) -> None:
    """Of 184 320 values the share turns black or white, evenly, and each colour channel on its own."""
    noisy = corrupt(flat(128, 60), "impulse_noise", severity, 0)
    hit = noisy != 128
    assert hit.mean() == pytest.approx(share, rel=0.08)
    assert set(np.unique(noisy[hit])) == {0, 255}
    assert (noisy[hit] == 255).mean() == pytest.approx(0.5, abs=0.05)
    assert hit.all(3).sum() < 0.02 * hit.any(3).sum()


def test_defocus_spreads_a_dot_evenly() -> None:
    """Radius 1.5 holds nine pixels, and a ninth of white is level 28."""
    spread = corrupt(dot(), "defocus_blur", 5, 0)[0, ..., 0]
    expected = np.zeros((32, 32), np.uint8)
    expected[15:18, 15:18] = 28
    np.testing.assert_array_equal(spread, expected)


def test_glass_copies_as_the_authors_swap_does() -> None:
    """Two views of one array, exchanged from the last pixel to the first, give the same picture."""
    clean = textures(1)[0]
    rows, columns = np.random.default_rng(3).integers(-1, 1, (2, 30, 30))
    expected = clean.copy()
    for h in range(31, 1, -1):
        for w in range(31, 1, -1):
            y, x = h + rows[h - 2, w - 2], w + columns[h - 2, w - 2]
            expected[h, w], expected[y, x] = expected[y, x], expected[h, w]
    shuffled = glass_blur(clean.astype(np.float32) / 255, (0.05, 1), np.random.default_rng(3))
    np.testing.assert_array_equal(np.rint(255 * shuffled), expected)


def test_motion_smears_to_one_side_along_a_line() -> None:
    """A dot's light goes left, at most 45 degrees up or down, and all of it is still there."""
    for seed in range(20):
        smeared = corrupt(dot(), "motion_blur", 5, seed)[0, ..., 0]
        rows, columns = np.nonzero(smeared)
        assert columns.max() == 16
        assert np.all(np.abs(rows - 16) <= 16 - columns)
        assert smeared.sum() == pytest.approx(255, abs=5)  # rounding of about ten pixels


def test_zoom_blurs_the_rim_more_than_the_middle() -> None:
    """What is flat stays flat; elsewhere pixels move outwards, the more the farther out they are."""
    np.testing.assert_array_equal(corrupt(flat(77), "zoom_blur", 5, 0), flat(77))
    pictures = textures(40)
    change = np.abs(corrupt(pictures, "zoom_blur", 5, 0) - pictures.astype(float)).mean((0, 3))
    rim = np.concatenate([change[:3].ravel(), change[-3:].ravel()]).mean()
    assert change[13:19, 13:19].mean() < 0.6 * rim


def test_snow_falls_twice() -> None:
    """On black every flake shows again turned by 180 degrees, over the grey of the whitening."""
    for severity, kept in zip(SEVERITIES, (0.95, 0.9, 0.9, 0.85, 0.8), strict=True):
        snowed = corrupt(flat(0, 5), "snow", severity, 0)
        np.testing.assert_array_equal(snowed, snowed[:, ::-1, ::-1])
        assert snowed.min() >= int(255 * (1 - kept) * 0.5 + 1e-4)
        assert snowed.max() > snowed.min() + 50


def test_frost_is_as_bright_as_its_panes() -> None:
    """On black only the pane is left: a fifth of 78 to 214, and blue rather than red."""
    frosted = corrupt(flat(0, 40), "frost", 1, 0).astype(float).mean((1, 2))  # (40, 3)
    assert np.all((frosted > 0.2 * 78 - 1.5) & (frosted < 0.2 * 214))
    assert np.all(frosted[:, 2] > frosted[:, 0])


def test_fog_spans_its_range() -> None:
    """The plasma reaches 0 and 1: on white, white / (1 + thickness) up to white; black stays black."""
    for severity, thickness in zip(SEVERITIES, (0.2, 0.5, 0.75, 1, 1.5), strict=True):
        fogged = corrupt(flat(255, 3), "fog", severity, 0)
        np.testing.assert_array_equal(fogged.min((1, 2, 3)), int(255 / (1 + thickness) + 1e-3))
        np.testing.assert_array_equal(fogged.max((1, 2, 3)), 255)
    np.testing.assert_array_equal(corrupt(flat(0), "fog", 5, 0), flat(0))


def test_fog_is_as_smooth_as_the_authors() -> None:
    """At severity 5 neighbours differ by 2.8 % of the range; 6.4 % if the decay were not squared."""
    fogged = corrupt(flat(255, 40), "fog", 5, 0)[..., 0].astype(float)
    steps = np.abs(np.diff(fogged, axis=2)).mean((1, 2)) / np.ptp(fogged, axis=(1, 2))
    assert steps.mean() == pytest.approx(0.028, abs=0.005)


@pytest.mark.parametrize(("severity", "shift"), [(2, 25.5), (4, 51), (5, 76.5)])
def test_brightness_raises_the_value_and_keeps_the_hue(severity: int, shift: float) -> None:
    """The largest channel rises by the shift, the others in proportion; black turns grey; white stays."""
    pictures = np.stack([flat(0)[0], flat(255)[0], flat(0)[0]])
    pictures[2] = (120, 60, 30)
    black, white, orange = corrupt(pictures, "brightness", severity, 0)[:, 0, 0]
    np.testing.assert_array_equal(black, int(shift))
    np.testing.assert_array_equal(white, 255)
    np.testing.assert_array_equal(orange, [int((120 + shift) * part) for part in (1, 0.5, 0.25)])


@pytest.mark.parametrize(("severity", "share"), zip(SEVERITIES, (0.75, 0.5, 0.4, 0.3, 0.15), strict=True))
def test_contrast_keeps_its_share(severity: int, share: float) -> None:
    """Around each channel's mean, which stays but for the half level that is cut off."""
    clean = textures(1)
    dull = corrupt(clean, "contrast", severity, 0)
    np.testing.assert_allclose(dull.std((1, 2)), share * clean.std((1, 2)), rtol=0.02)
    np.testing.assert_allclose(dull.mean((1, 2)), clean.mean((1, 2)) - 0.5, atol=0.25)


@pytest.mark.parametrize(("severity", "side"), zip(SEVERITIES, (30, 28, 27, 24, 20), strict=True))
def test_pixelate_leaves_so_many_rows_and_columns(severity: int, side: int) -> None:
    """Enlarging by Pillow's box repeats pixels: no more different rows and columns than before."""
    blocks = corrupt(textures(1), "pixelate", severity, 0)[0]
    assert np.unique(blocks, axis=0).shape[0] == side
    assert np.unique(blocks, axis=1).shape[1] == side


@pytest.mark.parametrize(("severity", "quality"), zip(SEVERITIES, (80, 65, 58, 50, 40), strict=True))
def test_jpeg_is_pillows(severity: int, quality: int) -> None:
    """The same bytes as encoding and decoding with Pillow at that quality."""
    clean = textures(1)
    file = io.BytesIO()
    Image.fromarray(clean[0]).save(file, "JPEG", quality=quality)
    with Image.open(file) as decoded:
        np.testing.assert_array_equal(corrupt(clean, "jpeg_compression", severity, 0)[0], np.asarray(decoded))


def test_unknown_kind_names_the_choices() -> None:
    """A misspelt kind is answered with all fifteen."""
    with pytest.raises(ValueError, match=r"'gausian_noise' is unknown: use one of gaussian_noise, .*jpeg"):
        corrupt(flat(0), "gausian_noise", 1, 0)


@pytest.mark.parametrize("severity", [0, 6, -1])
def test_unknown_severity_names_the_choices(severity: int) -> None:
    """0 is not the clean picture, and nothing counts from the end of the table."""
    with pytest.raises(ValueError, match=rf"severity {severity} is unknown: use one of 1, 2, 3, 4, 5"):
        corrupt(flat(0), "fog", severity, 0)


@pytest.mark.parametrize(
    "pictures", [np.zeros((1, 32, 32, 3), np.float32), np.zeros((1, 64, 64, 3), np.uint8), flat(0)[0]]
)
def test_other_pictures_are_refused(pictures: Images) -> None:
    """The constants are those of 32x32 bytes."""
    with pytest.raises(ValueError, match=r"use uint8 \(N, 32, 32, 3\)"):
        corrupt(pictures, "fog", 1, 0)


def test_sheet_shows_every_kind_and_severity() -> None:
    """A row per kind, clean first, then the pictures of `corrupt`, enlarged."""
    photo = textures(1)[0]
    tiles = sheet(photo)[LINE_PX:, MARGIN_PX:]
    assert tiles.shape == (15 * TILE_PX, 6 * TILE_PX, 3)
    zoom = TILE_PX // 32
    np.testing.assert_array_equal(tiles[:TILE_PX:zoom, :TILE_PX:zoom], photo)
    fog = tiles[9 * TILE_PX : 10 * TILE_PX : zoom, 5 * TILE_PX :: zoom]
    np.testing.assert_array_equal(fog, corrupt(photo[None], "fog", 5, 0)[0])
