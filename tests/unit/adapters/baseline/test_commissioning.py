"""A commissioning is what the clean line was like: whole, of one model and recipe, or refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.baseline.baseline import (
    Commissioning,
    CommissioningError,
    ReferenceSamples,
)
from adapters.baseline.build import BESIDE_GOLDEN, GOOD, KNOWN_PER_CLASS, commission
from adapters.baseline.claims import FalseRejectClaim, allowed, bound
from adapters.baseline.clean_share import clean_half
from adapters.baseline.guard_sight import LEAST_DEFECTS
from adapters.baseline.reference_samples import NamedBy, named_by_of_old
from adapters.core.observation import Observation
from adapters.monitoring.degradation_fit import PictureStatistics, estimate
from camera.core.settings import RegionOfInterest
from camera.pictures.region import Region
from tests.support.line_site import (
    PLAIN,
    PLAIN_FAILS,
    RECIPE,
    UNHURRIED,
    WEIGHTS,
    commissioned,
    frames,
    part,
    prepared,
)

FRAMES = 1000


@pytest.fixture(scope="module")
def seen() -> list[Observation]:
    return frames(FRAMES, seed=1)


@pytest.fixture(scope="module")
def clean(seen: list[Observation]) -> Commissioning:
    return commissioned(seen)


def golden(each: int) -> ReferenceSamples:
    pictures = np.random.default_rng(3).integers(0, 256, (each * len(PLAIN), 16, 16, 3), dtype=np.uint8)
    return ReferenceSamples(pictures, np.repeat(np.arange(len(PLAIN)), each))


def test_what_was_saved_is_what_is_loaded(clean: Commissioning, tmp_path: Path) -> None:
    """Equal digest, arrays and numbers, however often; nothing is left beside the file."""
    file = tmp_path / "top.safetensors"
    clean.save(file)
    Commissioning.load(file).save(file)
    loaded = Commissioning.load(file)
    assert loaded.digest == clean.digest
    assert [path.name for path in tmp_path.iterdir()] == [file.name]
    assert np.array_equal(loaded.known.pictures, clean.known.pictures)
    assert np.array_equal(loaded.statistics.cells, clean.statistics.cells)
    assert loaded.drift.block_frames == clean.drift.block_frames
    assert (loaded.offset, dict(loaded.numbers)) == (clean.offset, dict(clean.numbers))
    assert (loaded.sight, loaded.counts) == (clean.sight, clean.counts)
    assert loaded.testimony == clean.testimony


def test_the_same_line_is_commissioned_the_same(seen: list[Observation], clean: Commissioning) -> None:
    """The digest says whether two are equal, and any difference changes it."""
    assert commissioned(seen).digest == clean.digest
    others = [
        replace(clean, offset=clean.offset + 1e-9),
        replace(clean, station="side"),
        replace(clean, good=clean.good[::-1]),
        replace(clean, known=ReferenceSamples(clean.known.pictures, clean.known.classes[::-1].copy())),
        replace(clean, fails=~clean.fails),
    ]
    assert clean.digest not in {other.digest for other in others}


def test_a_flipped_bit_anywhere_is_refused(clean: Commissioning, tmp_path: Path) -> None:
    """Every third byte of the head and 60 of the arrays: nothing altered is taken for the clean line."""
    file = tmp_path / "top.safetensors"
    clean.save(file)
    content = file.read_bytes()
    head = 8 + int.from_bytes(content[:8], "little")
    rng = np.random.default_rng(0)
    body = rng.integers(head, len(content), 60).tolist()
    for place in [*range(0, head, 3), *body]:
        flipped = bytearray(content)
        flipped[place] ^= 1 << int(rng.integers(8))
        file.write_bytes(flipped)
        if place < head and same_numbers(content[8:head], bytes(flipped[8:head])):
            continue  # the 17th digit of a number: it is the same number
        with pytest.raises(CommissioningError, match=r"(commission the station|install that version) again"):
            Commissioning.load(file)


def same_numbers(before: bytes, after: bytes) -> bool:
    """Whether two heads of a file say the same, though in other letters."""
    try:
        heads = [json.loads(text) for text in (before, after)]
        for one in heads:
            one["__metadata__"]["facts"] = json.loads(one["__metadata__"]["facts"])
    except (ValueError, TypeError, KeyError):
        return False
    return bool(heads[0] == heads[1])


@pytest.mark.parametrize("kept", [0, 7, 200, 0.5, 1.0])
def test_half_a_file_is_refused(clean: Commissioning, tmp_path: Path, kept: float) -> None:
    """Empty, cut off, or with something behind it."""
    file = tmp_path / "top.safetensors"
    clean.save(file)
    content = file.read_bytes()
    file.write_bytes(
        content + b"x" if kept == 1 else content[: int(kept * len(content) if kept < 1 else kept)]
    )
    with pytest.raises(CommissioningError, match="again"):
        Commissioning.load(file)


def test_no_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CommissioningError, match=r"absent\.safetensors: not readable.*again"):
        Commissioning.load(tmp_path / "absent.safetensors")


def test_another_model_or_recipe_is_refused(clean: Commissioning) -> None:
    """It says which of both, and which command helps."""
    clean.require(WEIGHTS, RECIPE)
    for what, weights, recipe in (("model", RECIPE, RECIPE), ("recipe", WEIGHTS, WEIGHTS)):
        with pytest.raises(CommissioningError, match=rf"another {what} .*mekiki commission --station top"):
            clean.require(weights, recipe)


def test_without_confirmed_defects_it_says_how_many_are_missing() -> None:
    """A line that made no defects can be commissioned and followed, but misses are not watched there."""
    bare = commissioned(frames(FRAMES, defects=0.0))
    assert (bare.sight.misses, bare.sight.learns) == (False, False)
    said = bare.sight.unwatched[0]
    assert said.startswith("missed defects: 0 defects confirmed by a person, 6 are needed")
    assert "--golden" in said
    json.dumps(dict(bare.numbers), allow_nan=False)
    few = commissioned(frames(FRAMES, defects=0.0), golden(2))
    assert few.sight.unwatched[0].startswith("missed defects: 4 defects confirmed")
    assert LEAST_DEFECTS == 6


def test_what_the_model_named_is_no_known_defect(seen: list[Observation], clean: Commissioning) -> None:
    """Its guesses are kept and counted as such, and neither learned from nor judged by."""
    guessed = clean.counts["model"]
    assert clean.counts["person"] == {}
    assert all(guessed[label] for label in PLAIN)
    assert clean.sight.guesses == sum(
        guessed[name] for name, bad in zip(PLAIN, PLAIN_FAILS, strict=True) if bad
    )
    assert not clean.fails[clean.usable.classes].any()
    assert "guessed by the model do not count" in clean.sight.unwatched[0]


def test_five_confirmed_defects_beside_many_guesses_are_five(seen: list[Observation]) -> None:
    """Also where the guesses are of the same class, and there are enough of both together."""
    samples = golden(5).some(np.arange(5 * len(PLAIN)) >= 5)
    five = commissioned(seen, samples.some(np.arange(len(samples.classes)) < 5))
    assert (five.sight.defects, five.sight.learns) == (5, False)
    assert five.sight.guesses > LEAST_DEFECTS


def test_samples_of_an_older_file_are_a_persons_only_where_that_is_certain() -> None:
    """Such a release put ten guesses at most of each class behind the samples of a person."""
    classes = np.array([0] * 25 + [1] * 12 + [2] * 3, np.int64)
    found = named_by_of_old("golden", classes)
    assert [int((found[classes == c] == NamedBy.PERSON).sum()) for c in range(3)] == [15, 2, 0]
    assert (found[np.flatnonzero(classes == 0)[:15]] == NamedBy.PERSON).all()
    assert set(found[found != NamedBy.PERSON]) == {NamedBy.UNKNOWN}
    assert set(named_by_of_old("model", classes)) == {NamedBy.MODEL}


def test_golden_pictures_are_all_known_by_a_persons_names(
    seen: list[Observation], clean: Commissioning
) -> None:
    """Every one is kept under its label, whatever else is known; without them the model names its own."""
    mine, theirs = commissioned(seen, golden(5)), golden(5)
    assert (mine.sight.learns, mine.labelled_by) == (True, "golden")
    assert (clean.sight.learns, clean.labelled_by) == (False, "model")
    assert mine.counts["person"] == dict.fromkeys(PLAIN, 5)
    assert max(mine.counts["model"].values()) <= BESIDE_GOLDEN
    known = dict(zip((p.tobytes() for p in mine.known.pictures), mine.known.classes, strict=True))
    for picture, c in zip(theirs.pictures, theirs.classes, strict=True):
        assert known[picture.tobytes()] == c


def test_what_is_kept_are_sure_parts_of_the_line_spread_over_time(
    seen: list[Observation], clean: Commissioning
) -> None:
    """Known ones by the name the model gave them, good ones good, neither all from the first minute."""
    where = {one.picture.tobytes(): one for one in seen}
    for picture, c in zip(clean.known.pictures, clean.known.classes, strict=True):
        assert where[picture.tobytes()].label == c
    assert max(np.bincount(clean.known.classes)) == KNOWN_PER_CLASS
    good = [where[picture.tobytes()] for picture in clean.good]
    assert len(good) == GOOD
    assert not any(PLAIN_FAILS[one.label] for one in good)
    assert min(one.number for one in good) < FRAMES / 10
    assert max(one.number for one in good) > FRAMES * 9 / 10


def test_unsure_names_are_not_taken_for_knowledge(seen: list[Observation]) -> None:
    """A line on which the model is sure of nothing is refused, in numbers."""
    unsure = [replace(one, entropy=1.0) for one in seen]
    with pytest.raises(CommissioningError, match=f"station top: 0 of {FRAMES} parts are surely good, {GOOD}"):
        commissioned(unsure)


def test_the_operating_point_tells_the_clean_lines_parts_apart(
    seen: list[Observation], clean: Commissioning
) -> None:
    """No more false rejects than allowed, and the known defects found; the numbers say so."""
    scores = np.array([one.score for one in seen])
    bad = PLAIN_FAILS[[one.label for one in seen]]
    assert (scores[~bad] >= clean.offset).mean() <= 0.01
    assert (scores[bad] >= clean.offset).all()
    assert clean.testimony.claim is None
    assert clean.numbers["missed"] == -1
    assert clean.numbers["rejects"] == pytest.approx(bad.mean(), abs=0.01)


def test_golden_good_samples_bound_false_rejects_and_have_no_say_in_the_threshold(
    seen: list[Observation],
) -> None:
    """The threshold is the same without them; what is claimed is the exact bound for so many."""
    mine = commissioned(seen, golden(20))
    defects = golden(20)
    bad_only = commissioned(seen, defects.some(PLAIN_FAILS[defects.classes]))
    assert mine.offset == bad_only.offset
    assert bad_only.testimony.claim is None
    good = 20 * int((~PLAIN_FAILS).sum())
    assert mine.testimony.claim == FalseRejectClaim(bound(0, good), 0.95, good, 0, "golden")


def test_who_vouches_for_all_parts_gets_a_claim_of_them() -> None:
    """The threshold leaves as few above it as the share allows, and there are no guesses of defects."""
    seen = frames(FRAMES, defects=0.02)
    mine = commissioned(seen, all_good=True)
    scores = np.array([one.score for one in seen])
    claim = mine.testimony.claim
    assert claim is not None
    assert (claim.good_parts, claim.basis) == (FRAMES, "all_good")
    assert claim.rejected == (scores >= mine.offset).sum() == allowed(FRAMES, 0.01)
    assert claim.false_rejects_at_most == bound(allowed(FRAMES, 0.01), FRAMES) <= 0.01
    assert (mine.sight.guesses, mine.sight.false_rejects) == (0, True)


@UNHURRIED
@given(st.lists(st.integers(0, 4), max_size=60))
def test_halves_share_no_part_and_lose_none(classes: list[int]) -> None:
    """What is learned from is never judged by; each class is dealt out evenly."""
    pictures = np.arange(len(classes), dtype=np.uint8)[:, None, None, None]
    known = ReferenceSamples(pictures, np.array(classes, np.int64))
    halves = known.half(0), known.half(1)
    ids = [half.pictures.ravel().tolist() for half in halves]
    assert sorted(ids[0] + ids[1]) == list(range(len(classes)))
    for half in halves:
        assert [classes[n] for n in half.pictures.ravel()] == half.classes.tolist()
    for c in set(classes):
        first, second = ((half.classes == c).sum() for half in halves)
        assert 0 <= first - second <= 1


def test_a_burst_of_defects_is_not_what_the_line_is_like() -> None:
    """Statistics are of the pictures that look least like a defect: a tenth of white ones leaves no trace."""
    pictures = np.full((50, 4, 4, 3), 100, np.uint8)
    scores = np.full(50, -4, np.float32)
    pictures[10:15], scores[10:15] = 255, 5
    kept = clean_half(pictures, scores)
    assert (len(kept), kept.max()) == (40, 100)


def test_what_the_region_of_interest_masks_is_black_in_all_that_is_kept() -> None:
    """Nobody sees behind a mask: not in known or good parts, nor in the statistics."""
    mask = ((0.0, 0.0), (0.5, 0.0), (0.5, 1.0), (0.0, 1.0))
    region = Region(RegionOfInterest(crop=(0.0, 0.0, 1.0, 0.5), masks={"hand": mask}))
    photos = [region.cut(part("ok", number))[0] for number in range(50)]
    masked = np.tile(prepared(photos, 32), (20, 1, 1, 1))
    site = commissioned(frames(FRAMES, pictures=masked))
    hidden = np.s_[:, :, :14]  # bicubic reaches two pixels across the edge
    for kept in (site.known.pictures, site.good, site.statistics.mean[None]):
        assert not kept[hidden].any()
        assert kept[:, :, 18:].mean() > 0
    # Nor does a condition that is estimated from such pictures put light there.
    darker = PictureStatistics.of((masked[:100] * 0.5).astype(np.uint8))
    assert estimate(site.statistics, darker).render(site.good, seed=0)[hidden].max() <= 2


def test_too_few_frames_are_refused() -> None:
    """Drift needs its blocks: the message names how many frames there must be."""
    from adapters.core.adapter import AdapterError

    with pytest.raises(AdapterError, match="200 commissioning frames: drift needs 1000"):
        commissioned(frames(200))


def test_commissioning_takes_what_a_station_gives(seen: list[Observation]) -> None:
    """The names stand in the result, for whoever asks later which line that was."""
    made = commission(
        seen, None, None, station="side", weights=WEIGHTS, recipe=RECIPE, labels=PLAIN, fails=PLAIN_FAILS,
        made_at="2026-05-01T12:00:00Z",
    )  # fmt: skip
    assert (made.station, made.labels, made.made_at) == ("side", PLAIN, "2026-05-01T12:00:00Z")
    assert made.numbers["parts"] == FRAMES
