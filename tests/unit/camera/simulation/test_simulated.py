"""The simulated line: its truth is exact, its parts repeatable, its lamp and lens as bad as asked for."""

from __future__ import annotations

import threading
import time
from collections import Counter
from itertools import islice

import cv2
import numpy as np
import pytest

from camera.core.frame import CameraError
from camera.core.settings import SimulatedCamera, SimulatedCondition
from camera.simulation.degradations import KINDS, degrade
from camera.simulation.part import LABELS, SIZE_PX, render_part
from camera.simulation.source import BURST_PARTS, SimulatedLine, SimulatedSource

DEFECTS = LABELS[1:]
QUIET = SimulatedCamera(seed=3, defect_rate=0.03, burst_rate=0.0)


def part(label: str, seed: int = 0) -> np.ndarray:
    return render_part(label, np.random.default_rng(seed))[0]


@pytest.mark.parametrize("label", LABELS)
def test_a_part_is_the_same_for_the_same_seed(label):
    """A seed gives one picture and one mask, to the last bit, and another seed another part."""
    image, mask = render_part(label, np.random.default_rng(7))
    again, mask_again = render_part(label, np.random.default_rng(7))
    assert image.shape == (SIZE_PX, SIZE_PX, 3)
    assert image.dtype == np.uint8
    assert np.array_equal(image, again)
    assert np.array_equal(mask, mask_again)
    assert not np.array_equal(image, part(label, seed=8))


def test_an_ok_part_has_no_defect():
    """The mask of an ok part is empty."""
    _, mask = render_part("ok", np.random.default_rng(0))
    assert mask.shape == (SIZE_PX, SIZE_PX)
    assert not mask.any()


@pytest.mark.parametrize("label", DEFECTS)
@pytest.mark.parametrize("seed", range(12))
def test_the_defect_is_where_the_mask_says_and_nowhere_else(label, seed):
    """The same part with and without the defect differs inside the mask, and not beyond its seam."""
    image, mask = render_part(label, np.random.default_rng(seed))
    change = np.abs(image.astype(int) - part("ok", seed)).max(axis=2)
    # A chipped edge also lets light through to where the part cast its shadow, some 20 px wide.
    reach = 49 if label == "chipped_edge" else 25
    near = cv2.dilate(mask.astype(np.uint8), np.ones((reach, reach), np.uint8)) > 0
    assert change[~near].max() <= 2
    assert change[mask].mean() > 12  # grey levels: it can be seen
    assert 40 <= mask.sum() <= 2500


def test_an_unknown_label_is_refused():
    """A label that the line does not know is an error, not an ok part."""
    with pytest.raises(KeyError, match="rust"):
        render_part("rust", np.random.default_rng(0))


def test_parts_can_be_asked_for_in_any_order():
    """A second line, asked backwards, shows the same parts as the first, and the source the same again."""
    settings = SimulatedCamera(
        seed=5,
        defect_rate=0.5,
        parts=8,
        conditions=(SimulatedCondition(kind="noise"), SimulatedCondition(kind="dirt")),
    )
    line, other = SimulatedLine(settings), SimulatedLine(settings)
    backwards = {number: (other.label(number), other.picture(number)) for number in range(8, 0, -1)}
    captures = list(SimulatedSource(settings).captures(threading.Event()))
    assert [capture.part_id for capture in captures] == [line.part_id(number) for number in range(1, 9)]
    for number, capture in enumerate(captures, start=1):
        label, picture = backwards[number]
        assert line.label(number) == label
        assert np.array_equal(line.picture(number), picture)
        assert np.array_equal(capture.image, picture)
        assert line.defect_mask(number).any() == (label != "ok")


@pytest.mark.parametrize("seed", [-1, 0, 1])
def test_lines_of_different_seeds_differ(seed):
    """Every whole number is a seed, and seeds do not share their parts."""
    line, other = (SimulatedLine(SimulatedCamera(seed=s)) for s in (seed, seed + 1))
    assert not np.array_equal(line.picture(1), other.picture(1))


def test_the_defect_rate_is_met():
    """Of 20 000 parts as many are defective as the rate says, within four standard deviations."""
    line, parts, rate = SimulatedLine(QUIET), 20_000, 0.03
    labels = Counter(line.label(number) for number in range(1, parts + 1))
    spread = np.sqrt(parts * rate * (1 - rate))
    assert abs(parts - labels["ok"] - parts * rate) < 4 * spread
    each = parts * rate / len(DEFECTS)
    assert all(abs(labels[label] - each) < 4 * np.sqrt(each) for label in DEFECTS)


@pytest.mark.parametrize(("rate", "expected"), [(0.0, {"ok"}), (1.0, set(DEFECTS))])
def test_rates_of_none_and_all_are_exact(rate, expected):
    """A line without defects makes none; a line of defects makes nothing else."""
    line = SimulatedLine(SimulatedCamera(defect_rate=rate, burst_rate=0.0))
    assert {line.label(number) for number in range(1, 201)} == expected


def test_half_of_a_burst_is_defective_in_the_same_way():
    """In a burst 12 of the 25 parts have one and the same defect; bursts come as often as set."""
    line = SimulatedLine(SimulatedCamera(seed=2, defect_rate=0.0, burst_rate=0.25))
    blocks = 400
    bursts = 0
    for block in range(blocks):
        first = block * BURST_PARTS + 1
        found = Counter(line.label(number) for number in range(first, first + BURST_PARTS))
        spoilt = BURST_PARTS - found.pop("ok")
        assert spoilt in (0, BURST_PARTS // 2)
        assert len(found) == (spoilt > 0)
        bursts += spoilt > 0
    assert abs(bursts - 0.25 * blocks) < 4 * np.sqrt(blocks * 0.25 * 0.75)


def test_part_ids_round_trip():
    """A serial number names its part, and nothing else is a serial number."""
    line = SimulatedLine(QUIET)
    assert line.part_id(1) == "P0000001"
    assert all(line.number(line.part_id(number)) == number for number in (1, 42, 9_999_999, 12_345_678))
    for foreign in (
        "",
        "P",
        "P1",
        "0000001",
        "P00000001",
        "P000000x",
        "P-000001",
        "P\u0660\u0660\u0660\u0660\u0660\u0660\u0661",
    ):
        with pytest.raises(CameraError, match="not from the simulated line"):
            line.number(foreign)


def test_a_ramp_grows_part_by_part_and_stays():
    """Nothing before `from_part`, a straight line over `ramp_parts`, then the severity until `to_part`."""
    dim = SimulatedCondition(kind="dim", from_part=100, to_part=300, severity=4.0, ramp_parts=50)
    line = SimulatedLine(SimulatedCamera(conditions=(dim,)))
    assert line.conditions(99) == line.conditions(100) == ()
    assert line.conditions(125) == (("dim", 2.0),)
    assert line.conditions(150) == line.conditions(299) == (("dim", 4.0),)
    assert line.conditions(300) == ()


def test_conditions_apply_in_the_order_of_the_light():
    """A sudden condition is there at once; lamp comes before sensor; the stronger of one kind counts."""
    conditions = (
        SimulatedCondition(kind="noise", severity=1.0),
        SimulatedCondition(kind="dim", from_part=5, severity=2.0),
        SimulatedCondition(kind="dim", from_part=7, severity=3.0),
    )
    line = SimulatedLine(SimulatedCamera(conditions=conditions))
    assert line.conditions(4) == (("noise", 1.0),)
    assert line.conditions(5) == (("dim", 2.0), ("noise", 1.0))
    assert line.conditions(7) == (("dim", 3.0), ("noise", 1.0))


def test_noise_is_new_in_each_picture_and_dirt_stays():
    """Dirt lies at the same place of the lens for every part of a line; noise never repeats."""
    blank = np.full((64, 64, 3), 128, np.uint8)
    assert np.array_equal(degrade(blank, "dirt", 3, seed=1), degrade(blank, "dirt", 3, seed=1))
    assert not np.array_equal(degrade(blank, "dirt", 3, seed=1), degrade(blank, "dirt", 3, seed=2))
    clean = SimulatedLine(QUIET)
    noisy = SimulatedLine(QUIET.model_copy(update={"conditions": (SimulatedCondition(kind="noise"),)}))
    first, second = (noisy.picture(n).astype(int) - clean.picture(n) for n in (1, 2))
    assert abs(np.corrcoef(first.ravel(), second.ravel())[0, 1]) < 0.1


@pytest.mark.parametrize("kind", KINDS)
def test_severity_takes_the_picture_ever_further_from_the_clean_one(kind):
    """Severity 0 changes nothing at all; from there on every step costs, and none is a jump."""
    image = part("ok")
    assert degrade(image, kind, 0, seed=4) is image
    untouched = image.copy()
    distances = []
    for severity in np.arange(0, 5.25, 0.25):
        degraded = degrade(image, kind, float(severity), seed=4)
        assert degraded.shape == image.shape
        assert degraded.dtype == np.uint8
        distances.append(np.sqrt(np.mean((degraded.astype(float) - image) ** 2)))
    assert np.array_equal(image, untouched)
    steps = np.diff(distances)
    assert (steps >= 0).all()  # a fifth of a pixel out of focus changes no byte
    assert (np.diff(distances[::4]) > 0).all()
    assert steps.max() < 0.25 * distances[-1]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(1, 1, 3), (37, 90, 3), (640, 480, 3)])
def test_any_size_of_picture_can_be_degraded(kind, shape):
    """Degradations are for photos too, whatever their size."""
    image = np.full(shape, 90, np.uint8)
    assert degrade(image, kind, 5, seed=0).shape == shape


def test_an_unknown_degradation_is_refused():
    """A kind that does not exist is an error, not a clean picture."""
    with pytest.raises(KeyError, match="rain"):
        degrade(part("ok"), "rain", 1, seed=0)


def test_the_source_ends_after_its_parts():
    """So many parts as set, each with a read-only picture and its serial number; all are counted."""
    source = SimulatedSource(SimulatedCamera(parts=3))
    captures = list(source.captures(threading.Event()))
    assert [capture.part_id for capture in captures] == ["P0000001", "P0000002", "P0000003"]
    assert all(capture.image is not None and not capture.image.flags.writeable for capture in captures)
    assert source.stats.frames == 3
    assert not source.live


def test_the_source_keeps_its_pace():
    """At 50 parts a second ten parts take nine gaps of 20 ms."""
    started_s = time.monotonic()
    captures = list(SimulatedSource(SimulatedCamera(fps=50, parts=10)).captures(threading.Event()))
    assert len(captures) == 10
    assert time.monotonic() - started_s >= 9 / 50


def test_stop_ends_a_waiting_source_at_once():
    """A source that waits a minute for its next part ends when it is told to, not when the minute is over."""
    stop = threading.Event()
    source = SimulatedSource(SimulatedCamera(fps=1 / 60))
    taken = []
    thread = threading.Thread(target=lambda: taken.extend(islice(source.captures(stop), 2)))
    thread.start()
    while source.stats.frames < 1:
        thread.join(0.01)
    stop.set()
    thread.join(5)
    assert not thread.is_alive()
    assert len(taken) == 1
