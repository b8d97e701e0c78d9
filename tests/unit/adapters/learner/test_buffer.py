"""The rolling buffer keeps what is worth learning from, within its limits, and the same each time."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.core.observation import Observation
from adapters.learner.sample_buffer import Buffer, BufferPolicy, good_parts
from tests.support.insides import evidence_of
from tests.support.line_site import UNHURRIED

CLASSES = 4
FAILS = np.array([False, True, False, True])
SIDE = 4


def frame(number: int, label: int = 0, *, entropy: float = 0.0, at_s: float | None = None) -> Observation:
    """A frame unlike any other: 256 random numbers have a cosine of about 0."""
    rng = np.random.default_rng(number)
    feature = rng.standard_normal(256).astype(np.float32)
    picture = rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
    at_s = float(number) if at_s is None else at_s
    return Observation(number, at_s, picture, feature / np.linalg.norm(feature), -3.0, label, entropy)


BYTES = frame(0).picture.nbytes + frame(0).feature.nbytes


def numbers(frames: list[Observation]) -> list[int]:
    return [seen.number for seen in frames]


def everything(buffer: Buffer) -> list[Observation]:
    """The evidence in the order of frames; the learner itself asks only how much there is."""
    return sorted((s for kept in evidence_of(buffer) for s in kept), key=lambda seen: seen.number)


def filled(labels: list[int], policy: BufferPolicy | None = None, seed: int = 0) -> Buffer:
    buffer = Buffer(CLASSES, policy, seed)
    for place, label in enumerate(labels):
        buffer.offer(frame(3 * place, label))
    return buffer


def test_the_ring_holds_the_last_frames_in_order_whatever_they_look_like() -> None:
    buffer = Buffer(CLASSES, BufferPolicy(recent=5))
    for number in range(9):
        buffer.offer(frame(number, entropy=math.log(CLASSES)))
    assert numbers(buffer.recent(99)) == [4, 5, 6, 7, 8]
    assert numbers(buffer.recent(2)) == [7, 8]
    assert buffer.recent(0) == []
    assert buffer.distinct.frames == 0


def test_one_class_for_an_hour_does_not_crowd_out_the_others() -> None:
    policy = BufferPolicy(per_class=8, max_age_frames=10**6, max_age_s=1e9)
    buffer = filled([1, 2, 2] + [0] * 3600, policy)
    assert buffer.distinct.counts == (8, 1, 2, 0)
    assert buffer.distinct.classes == 3
    assert buffer.distinct.classes_with(2) == 2


def test_what_is_kept_of_a_class_is_a_fair_sample_of_its_frames() -> None:
    """Each of 60 frames stays with a chance of 6 in 60; 400 seeds, and five standard deviations of room."""
    frames = [frame(3 * place) for place in range(60)]
    kept = np.zeros(60)
    for seed in range(400):
        buffer = Buffer(CLASSES, BufferPolicy(per_class=6), seed)
        for seen in frames:
            buffer.offer(seen)
        kept[[number // 3 for number in numbers(everything(buffer))]] += 1
    assert kept.sum() == 400 * 6
    assert np.abs(kept - 40).max() < 5 * math.sqrt(400 * 0.1 * 0.9)


def test_frames_that_are_too_old_do_not_count_in_the_sample() -> None:
    """Else the first frames of a class that comes back would stay, and all after them be turned away."""
    policy = BufferPolicy(per_class=4, max_age_frames=200)
    stream = [frame(3 * place, int(300 <= place < 400)) for place in range(440)]
    kept: list[int] = []
    for seed in range(40):
        buffer = Buffer(CLASSES, policy, seed)
        for seen in stream:
            buffer.offer(seen)
        kept += [number // 3 - 400 for number in numbers(everything(buffer)) if number >= 1200]
    assert len(kept) == 40 * 4
    assert 15 < np.mean(kept) < 24


@pytest.mark.parametrize(("frames", "seconds"), [(101, 0.0), (1, 61.0)])
def test_evidence_ends_with_its_age_in_frames_or_in_seconds(frames: int, seconds: float) -> None:
    buffer = Buffer(CLASSES, BufferPolicy(max_age_frames=100, max_age_s=60))
    buffer.offer(frame(0, 1, at_s=0.0))
    buffer.offer(replace(frame(frames, 2), at_s=seconds))
    assert buffer.distinct.counts == (0, 0, 1, 0)
    assert numbers(buffer.recent(9)) == [0, frames]


def test_neighbours_of_one_class_are_one_piece_of_evidence() -> None:
    buffer = Buffer(CLASSES, BufferPolicy(spacing=3))
    kept = [buffer.offer(frame(number, label)) for number, label in enumerate([0, 0, 1, 0, 1, 1])]
    assert kept == [True, False, True, True, False, True]


def test_of_two_frames_alike_the_newer_stays() -> None:
    buffer = Buffer(CLASSES)
    first = frame(0, 1)
    buffer.offer(first)
    buffer.offer(replace(first, number=10))
    buffer.offer(replace(first, number=20, label=2))
    assert numbers(everything(buffer)) == [10, 20]
    assert buffer.distinct.counts == (0, 1, 1, 0)


def test_what_the_model_is_unsure_about_is_no_evidence() -> None:
    buffer = Buffer(CLASSES, BufferPolicy(unsure=0.4))
    limit = 0.4 * math.log(CLASSES)
    kept = [buffer.offer(frame(5 * i, 0, entropy=e)) for i, e in enumerate([limit - 1e-6, limit, math.nan])]
    assert kept == [True, False, False]


def test_the_limit_in_bytes_counts_a_frame_once_and_is_kept() -> None:
    buffer = Buffer(CLASSES, BufferPolicy(recent=10, max_bytes=12 * BYTES))
    for number in range(0, 300, 3):
        buffer.offer(frame(number, number % CLASSES))
        assert buffer.nbytes <= 12 * BYTES
    assert len(buffer.recent(99)) == 6
    assert buffer.distinct.frames > 6


def test_cleared_is_as_good_as_new() -> None:
    buffer, new = (
        filled([0, 1, 2] * 50, BufferPolicy(per_class=4), 7),
        Buffer(CLASSES, BufferPolicy(per_class=4), 7),
    )
    buffer.clear()
    assert buffer.nbytes == buffer.distinct.frames == 0
    for place in range(100):
        buffer.offer(frame(3 * place))
        new.offer(frame(3 * place))
    assert numbers(everything(buffer)) == numbers(everything(new))


def test_a_frame_out_of_order_and_a_class_that_is_not_there_are_bugs() -> None:
    buffer = filled([0, 1])
    with pytest.raises(ValueError, match="frame 3 after frame 3"):
        buffer.offer(frame(3))
    with pytest.raises(ValueError, match="class 4 of 4"):
        buffer.offer(frame(9, 4))
    with pytest.raises(ValueError, match="1 or more"):
        BufferPolicy(per_class=0)


offers = st.lists(
    st.tuples(
        st.integers(1, 40),  # frames since the one before
        st.integers(0, CLASSES - 1),
        st.sampled_from([0.0, 0.5, 1.3]),  # entropy; the limit is 0.55
        st.integers(0, 6),  # one of seven parts, so that some look alike
    ),
    max_size=60,
)


@UNHURRIED
@given(offers, st.integers(0, 3), st.integers(1, 12))
def test_limits_hold_after_any_offers_and_equal_offers_leave_equal_content(
    stream: list[tuple[int, int, float, int]], seed: int, room: int
) -> None:
    policy = BufferPolicy(
        recent=8, per_class=3, max_age_frames=200, max_age_s=150.0, spacing=2, max_bytes=room * BYTES
    )
    buffers = [Buffer(CLASSES, policy, seed) for _ in range(2)]
    number = 0
    for gap, label, entropy, part in stream:
        number += gap
        seen = replace(frame(part, label, entropy=entropy), number=number, at_s=number * 0.9)
        for buffer in buffers:
            buffer.offer(seen)
        buffer = buffers[0]
        kept = everything(buffer)
        assert buffer.nbytes <= policy.max_bytes
        assert len(buffer.recent(99)) <= policy.recent
        assert max(buffer.distinct.counts) <= policy.per_class
        assert buffer.distinct.frames == len(kept) == len({id(s) for s in kept})
        assert all(number - s.number <= 200 and (number - s.number) * 0.9 <= 150 + 1e-9 for s in kept)
        assert all(s.entropy < 0.4 * math.log(CLASSES) for s in kept)
        for label_ in range(CLASSES):
            of_class = [s for s in kept if s.label == label_]
            assert all(b.number - a.number >= policy.spacing for a, b in pairwise(of_class))
            cosines = [a.feature @ b.feature for i, a in enumerate(of_class) for b in of_class[:i]]
            assert all(cosine <= policy.duplicate for cosine in cosines)
    one, other = buffers
    assert [id(s) for s in everything(one)] == [id(s) for s in everything(other)]
    assert [id(s) for s in one.recent(99)] == [id(s) for s in other.recent(99)]


SHOWN = st.lists(
    st.tuples(st.integers(-4, 4), st.integers(0, CLASSES - 1)),  # score, some of them equal, and class
    min_size=2,
    max_size=40,
)


@UNHURRIED
@given(SHOWN)
def test_good_parts_are_the_half_with_the_lowest_scores(shown: list[tuple[int, int]]) -> None:
    """Lowest first; of equal ones the older, so that a replay learns from the same."""
    recent = [replace(frame(3 * n, label), score=float(score)) for n, (score, label) in enumerate(shown)]
    pictures, classes = good_parts(recent, FAILS)
    ranked = sorted(recent, key=lambda seen: (seen.score, seen.number))[: len(recent) // 2]
    assert [picture.tobytes() for picture in pictures] == [seen.picture.tobytes() for seen in ranked]
    assert len(classes) == len(pictures)


@UNHURRIED
@given(SHOWN)
def test_good_parts_are_of_no_class_that_fails(shown: list[tuple[int, int]]) -> None:
    """A passing name stays; a defect's name gives way to the passing one that most of them bear."""
    recent = [replace(frame(3 * n, label), score=float(score)) for n, (score, label) in enumerate(shown)]
    _, classes = good_parts(recent, FAILS)
    assert not FAILS[classes].any()
    named = [seen.label for seen in sorted(recent, key=lambda seen: seen.score)][: len(classes)]
    passing = [label for label in named if not FAILS[label]]
    for label, given_ in zip(named, classes, strict=True):
        if not FAILS[label]:
            assert given_ == label
        elif passing:
            assert passing.count(given_) == max(map(passing.count, passing))


def test_the_usual_class_is_the_one_of_most_good_parts_not_of_most_frames() -> None:
    """A burst of one passing class among the high scores does not name the false alarms among the low."""
    low = [(2, -5.0), (2, -5.0), (1, -5.0), (0, -5.0)]
    high = [(0, 5.0)] * 4
    recent = [replace(frame(3 * n, label), score=score) for n, (label, score) in enumerate(low + high)]
    assert good_parts(recent, FAILS)[1].tolist() == [2, 2, 2, 0]


def test_where_every_good_part_is_called_a_defect_it_is_of_the_first_passing_class() -> None:
    """Under a lamp that makes the frozen model reject all."""
    recent = [frame(3 * n, 1) for n in range(6)]
    assert good_parts(recent, np.array([True, True, False, False]))[1].tolist() == [2, 2, 2]
