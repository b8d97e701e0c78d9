"""A reference: what it is built of, what it says of a part, and its file."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st

from adapters.core.patches import PatchInfo
from adapters.core.protocol import Floats, Preprocess
from adapters.files.tensors import read_tensors
from adapters.reference.good_scores import MOST_LEFT_OUT
from adapters.reference.reference import Reference, UnusableReference
from tests.support.line_site import FEW

GRID, CHANNELS = (6, 5), 8
INFO = PatchInfo(
    "small",
    "sha256:small",
    Preprocess(48, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), "bilinear", "squash"),
    GRID,
    CHANNELS,
)
FACTS = {"station": "left", "recipe": "bracket", "samples": ["sha256:a", "sha256:b"]}


def parts(count: int, seed: int = 0, tiles: int = 1) -> Floats:
    """Return features of good parts: each place looks like itself, a little different from part to part."""
    random = np.random.default_rng(seed)
    place = np.random.default_rng(99).normal(size=(1, tiles, *GRID, CHANNELS))
    return (place + 0.1 * random.normal(size=(count, tiles, *GRID, CHANNELS))).astype(np.float32)


def with_defect(part: Floats, tile: int = 0, row: int = 2, column: int = 3) -> Floats:
    bad = part.copy()
    bad[tile, row, column] += 5
    return bad


def test_a_good_part_passes_and_a_defect_is_found_at_its_place() -> None:
    reference = Reference.build(parts(10), INFO)
    good, bad = parts(2, seed=7)
    assert reference.judge(good).score <= reference.threshold
    found = reference.judge(with_defect(bad))
    assert found.score > reference.threshold
    assert found.tile == 0
    assert found.box == pytest.approx((3 / 5, 2 / 6, 4 / 5, 3 / 6))
    assert found.maps.shape == (1, *GRID)
    assert found.maps.dtype == np.float32


def test_a_defect_on_any_tile_fails_the_part() -> None:
    reference = Reference.build(parts(6, tiles=3), INFO)
    found = reference.judge(with_defect(parts(1, 5, tiles=3)[0], tile=2))
    assert found.tile == 2
    assert found.score > reference.threshold


def test_few_samples_all_are_remembered_and_nothing_is_claimed() -> None:
    reference = Reference.build(parts(10), INFO)
    assert (reference.samples, reference.basis, reference.claim) == (10, "leave_one_out", None)
    assert len(reference.scores) == 10
    assert (np.diff(reference.scores) >= 0).all()
    assert min(reference.judge(part).score for part in parts(10)) < reference.scores.min()


def test_enough_samples_some_are_held_out_and_claim() -> None:
    reference = Reference.build(parts(45), INFO, false_rejects=0.1)
    assert (reference.samples, reference.basis, len(reference.scores)) == (16, "held_out", 29)
    assert reference.claim is not None
    assert reference.claim.good_parts == 29
    assert reference.claim.false_rejects_at_most < 0.1


def test_one_sample_is_enough_for_a_score() -> None:
    reference = Reference.build(parts(1), INFO)
    good, bad = parts(2, seed=7)
    assert reference.claim is None
    assert reference.judge(with_defect(bad)).score > reference.judge(good).score


def test_layers_are_judged_on_a_grid_of_half_the_places_where_there_are_many() -> None:
    info = replace(INFO, grid=(16, 18), channels=12, layers=(2, 4, 6))
    random = np.random.default_rng(1)
    good = random.normal(size=(12, 2, 16, 18, 12)).astype(np.float32)
    reference = Reference.build(good[:8], info, most=50)
    assert reference.appearance.memory.shape == (50, 12)
    assert reference.appearance.deep.shape == (2, 8, 9, 6)
    odd = good[9].copy()
    odd[1, 5, 7, :2] += 60
    found = reference.judge(odd)
    assert found.tile == 1
    assert found.maps.shape == (2, 16, 18)
    assert found.box == pytest.approx((7 / 18, 5 / 16, 8 / 18, 6 / 16), abs=0.07)


def test_an_odd_sample_is_left_out_of_all_that_it_is_compared_with() -> None:
    """Its score is that of the next part, not the smaller one of a part that is known."""
    good = parts(8)
    good[5] += np.random.default_rng(5).normal(size=good[5].shape).astype(np.float32)
    reference = Reference.build(good, INFO)
    assert reference.scores[-1] > 2 * reference.judge(good[5]).score
    assert reference.scores[-1] > 2 * reference.scores[-2]
    assert reference.threshold == MOST_LEFT_OUT


@FEW
@given(st.integers(1, 8), st.integers(0, 9))
def test_the_same_samples_and_seed_make_the_same_reference(count: int, seed: int) -> None:
    once, again = (Reference.build(parts(count, seed), INFO, seed=seed) for _ in range(2))
    assert once.digest == again.digest


def test_the_file_says_the_same(tmp_path: Path) -> None:
    path = tmp_path / "reference.safetensors"
    for count in (5, 40):
        made = Reference.build(parts(count), INFO, facts=FACTS)
        made.save(path)
        read = Reference.load(path)
        assert read.digest == made.digest
        assert read.facts == FACTS
        assert read.claim == made.claim
        part = parts(1, seed=3)[0]
        assert read.judge(part).score == made.judge(part).score
        assert read.features == INFO.digest


def test_facts_are_part_of_the_digest() -> None:
    made = Reference.build(parts(3), INFO, facts=FACTS)
    assert replace(made, facts={**FACTS, "station": "right"}).digest != made.digest


@pytest.mark.parametrize(
    ("good", "said"),
    [
        (parts(0), "no good samples: add some with mekiki golden add"),
        (parts(3)[..., :7], "features of shape (3, 1, 6, 5, 7), small makes (parts, tiles, 6, 5, 8)"),
        (parts(3)[0], "features of shape (1, 6, 5, 8)"),
        (np.where(np.arange(3)[:, None, None, None, None] == 1, np.nan, parts(3)), "good sample 2 of 3"),
    ],
)
def test_what_no_reference_can_be_made_of_is_named(good: Floats, said: str) -> None:
    with pytest.raises(UnusableReference, match=re.escape(said)):
        Reference.build(good.astype(np.float32), INFO)


def test_features_of_another_backbone_are_refused() -> None:
    with pytest.raises(ValueError, match="the reference has"):
        Reference.build(parts(3), INFO).judge(parts(1)[0][..., :5])


def test_a_file_that_is_missing_cut_altered_or_newer_is_named(tmp_path: Path) -> None:
    path = tmp_path / "reference.safetensors"
    with pytest.raises(UnusableReference, match=r"reference.safetensors: there is no reference"):
        Reference.load(path)
    made = Reference.build(parts(4), INFO)
    made.save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[:-10])
    with pytest.raises(UnusableReference, match="not readable"):
        Reference.load(path)
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(UnusableReference, match="altered since it was written"):
        Reference.load(path)
    head, arrays = read_tensors_of(whole, tmp_path)
    path.write_bytes(safetensors.numpy.save(arrays, {**head, "format": "mekiki.reference.v2"}))
    with pytest.raises(UnusableReference, match="written by a newer version of the agent"):
        Reference.load(path)
    path.write_bytes(safetensors.numpy.save(arrays, {"format": "mekiki.reference.v1"}))
    with pytest.raises(UnusableReference, match="damaged"):
        Reference.load(path)


def read_tensors_of(content: bytes, folder: Path) -> tuple[dict[str, str], dict[str, Floats]]:
    (folder / "copy").write_bytes(content)
    return read_tensors(folder / "copy")
