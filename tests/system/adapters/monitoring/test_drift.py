"""Drift is a changed world: not time, not correlation, not a burst of defects, not a worse product."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from adapters.core.observation import Observation
from adapters.monitoring.block_statistics import measure, middle, summarise
from adapters.monitoring.drift_baseline import DriftReference, DriftReferenceError
from adapters.monitoring.drift_detector import Drift, DriftMonitor, DriftReport, bet, threshold, update
from tests.support.drift_lines import AXES, COMMISSIONING, line


def reports(reference: DriftReference, frames: Iterator[Observation]) -> list[DriftReport]:
    monitor = DriftMonitor(reference)
    return [report for seen in frames if (report := monitor.add(seen)) is not None]


@pytest.fixture(scope="module")
def reference() -> DriftReference:
    return DriftReference.calibrate(list(line(COMMISSIONING, seed=1)))


@pytest.mark.parametrize("seed", [11, 12, 13])
def test_a_clean_line_that_wanders_is_no_drift_though_it_is_to_a_test_on_single_frames(seed: int) -> None:
    """Each seed commissions its own line. The test on frames bets alike, for the same rate of alarms."""
    commissioning = [seen.score for seen in line(COMMISSIONING, seed)]
    reference = DriftReference.calibrate(list(line(COMMISSIONING, seed)))
    frames = list(line(8000, seed + 100))
    clean = reports(reference, iter(frames))
    assert not any(report.drifting or report.abrupt for report in clean)
    assert max(report.gradual for report in clean) < 0.7
    assert np.mean([report.normal for report in clean]) > 0.8

    ordered, evidence, most = np.sort(commissioning), 0.0, 0.0
    for seen in frames:
        above = COMMISSIONING - np.searchsorted(ordered, seen.score)
        evidence = (1 + evidence) * bet((1 + above) / (1 + COMMISSIONING))
        most = max(most, evidence)
    assert most > threshold(reference) * reference.block_frames


@pytest.mark.parametrize(("defects", "bursts"), [(0.3, 0.02), (0.02, 0.56), (0.35, 0.3)])
def test_ten_times_the_defects_are_no_drift(reference: DriftReference, defects: float, bursts: float) -> None:
    """Else a learner would be set on the very frames that a station must report."""
    bad = list(line(6000, seed=2, defects=defects, bursts=bursts))
    assert np.mean([seen.label > 0 for seen in bad]) > 0.26
    assert not any(report.drifting or report.abrupt for report in reports(reference, iter(bad)))


@pytest.mark.parametrize("bad", [0, 10, 20, 25, 35])
def test_what_sums_up_a_block_of_fifty_are_good_parts(bad: int) -> None:
    """Also where most parts are bad, in one way and so more alike than the good ones."""
    rng = np.random.default_rng(bad)
    good = []
    for _ in range(100):
        scores = np.concatenate([rng.normal(-6, 1, (50 - bad, 1)), rng.normal(6, 0.7, (bad, 1))])
        kept = middle(rng.permutation(scores))
        assert len(kept) >= 15
        good.append((kept < 0).mean())
    assert np.mean(good) > 0.97


def test_known_defects_are_no_drift_even_where_the_model_misses_them() -> None:
    """Defects that score like good parts are in the middle of every block."""

    def missed(frames: int, seed: int, share: float) -> list[Observation]:
        rng = np.random.default_rng(seed)
        shift = (0.8 * AXES[20]).astype(np.float32)
        return [
            replace(seen, feature=(seen.feature + shift) / np.linalg.norm(seen.feature + shift))
            if rng.random() < share
            else seen
            for seen in line(frames, seed, defects=0.0, bursts=0.0)
        ]

    commissioning, stream = missed(COMMISSIONING, 17, 0.0), missed(2000, 18, 0.3)
    unknown = DriftReference.calibrate(commissioning)
    known = DriftReference.calibrate(commissioning, missed(60, 19, 1.0))
    assert reports(unknown, iter(stream))[-1].drifting
    assert not any(report.drifting for report in reports(known, iter(stream)))


def test_clean_blocks_are_as_far_away_as_the_reference_says() -> None:
    """A quarter of new blocks are in the farthest quarter; by the blocks that it was fitted to, more."""
    far = []
    for seed in range(30, 36):
        reference = DriftReference.calibrate(list(line(1000, seed, memory=0.0)))
        strict = replace(reference, tolerance=np.zeros_like(reference.tolerance))
        rows = np.stack([measure(seen) for seen in line(2000, seed + 100, memory=0.0)])
        blocks = [summarise(block) for block in rows.reshape(40, 50, -1)]
        far += [strict.chance(strict.distance(block)) <= 0.25 for block in blocks]
    assert 0.12 < np.mean(far) < 0.3


@pytest.mark.parametrize(("offset", "abrupt"), [(0, [12, 27]), (20, [13, 28])])
def test_a_step_is_found_at_once_and_its_end_too(
    reference: DriftReference, offset: int, abrupt: list[int]
) -> None:
    """Two blocks are wholly of the new world, or nearly; the learner is told once, not block after block."""
    length = reference.block_frames
    lamp = np.repeat([0.0, 3.0, 0.0], [10 * length + offset, 15 * length, 12 * length])
    told = reports(reference, line(len(lamp), seed=3, lamp=lamp))
    assert [report.block for report in told if report.abrupt] == abrupt
    first = next(report.block for report in told if report.drifting)
    assert 11 <= first <= 13
    assert all(report.drifting and not report.normal for report in told[first - 1 : 25])
    assert dict(told[15].moved)["luma"] < 0
    ended = next(report.block for report in told[25:] if not report.drifting)
    assert ended <= 30
    assert not any(report.drifting for report in told[ended:])


def test_drift_ends_after_four_blocks_in_a_row_near_commissioning_and_not_before(
    reference: DriftReference,
) -> None:
    """A world that is half-way back loses its evidence faster than it gains any, and is not back."""
    axis = np.zeros_like(reference.centre)
    axis[0] = 1.0
    low, high = 0.0, 100.0
    while high - low > 1e-6:
        middle_ = (low + high) / 2
        low, high = (
            (low, middle_)
            if reference.distance(reference.centre + middle_ * axis) > 1.02
            else (middle_, high)
        )
    near, just_outside, far = (reference.centre + by * axis for by in (0.0, high, 100.0))
    drift = Drift()
    for block in (far, far, far, *(near, near, near, just_outside) * 20):
        drift = update(drift, reference, block)
    assert drift.report.gradual < 1
    assert drift.report.drifting
    for _ in range(4):
        assert drift.report.drifting
        drift = update(drift, reference, near)
    assert not drift.report.drifting
    assert drift.report.normal


@pytest.mark.parametrize(("frames", "lamp"), [(3000, 3.0), (2500, 9.5)])
def test_a_ramp_is_found_before_its_end_and_is_no_jump(
    reference: DriftReference, frames: int, lamp: float
) -> None:
    lamps = np.concatenate([np.zeros(1000), np.linspace(0, lamp, frames)])
    told = reports(reference, line(len(lamps), seed=4, lamp=lamps))
    first = next(report for report in told if report.drifting)
    assert 1000 < first.frame < 1000 + 0.6 * frames
    assert not any(report.abrupt for report in told)
    assert all(report.drifting for report in told[first.block - 1 :])


def test_a_station_that_starts_in_a_changed_world_says_so_in_two_blocks(reference: DriftReference) -> None:
    told = reports(reference, line(2 * reference.block_frames, seed=5, lamp=3.0))
    assert told[-1].drifting


def test_one_block_of_foreign_parts_is_no_drift(reference: DriftReference) -> None:
    length = reference.block_frames
    lamp = np.repeat([0.0, 30.0, 0.0], [5 * length, length, 5 * length])
    told = reports(reference, line(len(lamp), seed=6, lamp=np.minimum(lamp, 6)))
    assert told[5].distance > 5
    assert not any(report.drifting or report.abrupt for report in told)


def test_nothing_is_known_before_the_first_block_is_full(reference: DriftReference) -> None:
    monitor = DriftMonitor(reference)
    *most, last = line(reference.block_frames, seed=7, lamp=5.0)
    assert all(monitor.add(seen) is None for seen in most)
    assert monitor.report.warming
    assert not monitor.report.drifting
    told = monitor.add(last)
    assert told is monitor.report
    assert told is not None
    assert (told.block, told.frame, told.warming) == (1, reference.block_frames - 1, False)
    assert all(math.isfinite(number) for number in told.numbers().values())


def test_equal_frames_give_equal_reports_one_by_one_and_block_by_block(reference: DriftReference) -> None:
    lamp = np.linspace(0, 2, 1500)
    told = reports(reference, line(1500, seed=8, lamp=lamp))
    assert told == reports(reference, line(1500, seed=8, lamp=lamp))
    rows = np.stack([measure(seen) for seen in line(1500, seed=8, lamp=lamp)])
    drift, length = Drift(), reference.block_frames
    for end in range(length, 1501, length):
        drift = update(drift, reference, summarise(rows[end - length : end]), end - 1, float(end - 1))
    assert drift.report == told[-1]


def test_a_stored_reference_is_the_same_reference(reference: DriftReference) -> None:
    file = io.BytesIO()
    np.savez(file, allow_pickle=False, **reference.arrays())
    file.seek(0)
    with np.load(file) as arrays:
        again = DriftReference.from_arrays(arrays)
    frames = list(line(1000, seed=9, lamp=1.0))
    assert reports(again, iter(frames)) == reports(reference, iter(frames))


def test_a_damaged_reference_is_refused_by_name(reference: DriftReference) -> None:
    arrays = reference.arrays()
    with pytest.raises(DriftReferenceError, match="scale"):
        DriftReference.from_arrays({**arrays, "scale": arrays["scale"][:-1]})
    with pytest.raises(DriftReferenceError, match="centre"):
        DriftReference.from_arrays({**arrays, "centre": arrays["centre"] * math.nan})
    with pytest.raises(DriftReferenceError, match="jumps"):
        DriftReference.from_arrays({name: a for name, a in arrays.items() if name != "jumps"})


def test_frames_that_make_no_reference_are_refused() -> None:
    frames = list(line(1000, seed=10))
    with pytest.raises(DriftReferenceError, match="999 commissioning frames: drift needs 1000"):
        DriftReference.calibrate(frames[:999])
    with pytest.raises(DriftReferenceError, match="not finite"):
        DriftReference.calibrate([*frames[:-1], replace(frames[-1], score=math.nan)])
    with pytest.raises(DriftReferenceError, match="stay alike"):
        DriftReference.calibrate(_slow(1000))


def test_blocks_are_longer_where_scores_stay_alike_for_longer() -> None:
    quick = DriftReference.calibrate(list(line(1000, seed=14, memory=0.0)))
    slow = DriftReference.calibrate(_slow(6000))
    assert quick.block_frames == 50
    assert slow.block_frames > 100


def test_an_answer_that_is_not_finite_is_no_row(reference: DriftReference) -> None:
    seen = replace(next(line(1, seed=15)), score=math.nan)
    with pytest.raises(ValueError, match="frame 0: the frozen model's answer is not finite"):
        DriftMonitor(reference).add(seen)


def test_a_bet_wins_nothing_on_average_against_a_fair_p_value() -> None:
    """The mean over uniform p is 1, less what the limit per block takes; small p pay, large p cost half."""
    chances = (np.arange(200_000) + 0.5) / 200_000
    assert 0.8 < np.mean([bet(chance) for chance in chances]) <= 1
    assert bet(1.0) == pytest.approx(0.5)
    assert bet(1e-9) == 20


def _slow(frames: int) -> list[Observation]:
    """A line whose scores are mostly memory."""
    rng = np.random.default_rng(16)
    wander, seen = 0.0, []
    for one in line(frames, seed=16, bursts=0.0, defects=0.0):
        wander = 0.97 * wander + math.sqrt(1 - 0.97**2) * rng.standard_normal()
        seen.append(replace(one, score=-4 + 2 * wander))
    return seen
