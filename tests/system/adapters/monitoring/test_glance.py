"""A glance: a turn of the pictures shows in a few of them, a burst of defects does not."""

from __future__ import annotations

import math
from collections.abc import Iterable
from copy import deepcopy
from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from adapters.core.observation import Bytes, Observation
from adapters.monitoring.block_statistics import SCALARS, Doubles, looks, measure
from adapters.monitoring.change_point import (
    APART,
    LEAST_LEVEL,
    LEVEL,
    NEWEST,
    WINDOW,
    ChangePointDetector,
    DomainMark,
)
from adapters.monitoring.drift_baseline import DriftReference
from tests.support.drift_lines import COMMISSIONING, line
from tests.support.learning_site import clean, scorer, stream
from tests.support.line_site import FEW

KINDS = ["dim", "defocus", "noise"]
LUMA = SCALARS.index("luma")
OF_THE_PICTURE = range(SCALARS.index("luma"), len(SCALARS))
"""Of a row; before them stands what the model says of the part, behind them its features."""


def worse(kind: str, count: int, first: int) -> list[Observation]:
    return stream(count, kind, first, severity=3.0)


def bursts(count: int, first: int) -> list[Observation]:
    """A clean line on which half of the parts are defective in every third stretch of 25."""
    shares = [0.5 if stretch % 3 == 2 else 0.05 for stretch in range(count // 25)]
    return [s for row, share in enumerate(shares) for s in stream(25, first=first + 25 * row, defects=share)]


@cache
def features() -> NDArray[np.float32]:
    return scorer().look(clean().good, scorer().source).features


def at(frames: Iterable[Observation]) -> ChangePointDetector:
    """A glance at the flanges after these frames."""
    glance = ChangePointDetector(clean().drift, looks(clean().good), features())
    for seen in frames:
        glance.add(measure(seen))
    return glance


def turned_after(glance: ChangePointDetector, frames: Iterable[Observation]) -> int | None:
    """How many more frames it takes until they are seen to be others."""
    for count, seen in enumerate(frames, 1):
        glance.add(measure(seen))
        if glance.turned:
            return count
    return None


def test_a_clean_line_with_bursts_of_defects_never_turns() -> None:
    """Else whatever answers would be given up whenever there is something to find."""
    frames = bursts(750, first=1)
    assert np.mean([seen.score > clean().offset for seen in frames]) > 0.15
    assert turned_after(at([]), frames) is None


@pytest.mark.parametrize("kind", KINDS)
def test_worse_pictures_turn_in_a_few_and_not_with_the_first(kind: str) -> None:
    """From a line with bursts, and back."""
    there = turned_after(at(bursts(75, first=1)), worse(kind, NEWEST, first=100))
    back = turned_after(at(worse(kind, LEAST_LEVEL + NEWEST, first=200)), stream(NEWEST, first=300))
    assert there is not None
    assert back is not None
    assert 1 < min(there, back) <= max(there, back) <= NEWEST


@pytest.mark.parametrize("kind", KINDS)
def test_a_condition_is_near_its_own_place_alone(kind: str) -> None:
    """Other parts of the same condition; near home again when it is over."""
    place = at(worse(kind, LEVEL, first=100)).place
    glance = at(worse(kind, WINDOW, first=200))
    assert glance.near(place)
    assert not glance.near(glance.home)
    for seen in stream(WINDOW, first=300):
        glance.add(measure(seen))
    assert glance.near(glance.home)
    assert not glance.near(place)


def test_three_conditions_are_three_places() -> None:
    """Bad pictures are not alike for being bad."""
    places = {kind: at(worse(kind, LEVEL, first=100)).place for kind in KINDS}
    for kind in KINDS:
        glance = at(worse(kind, LEVEL, first=200))
        assert [other for other, place in places.items() if glance.near(place)] == [kind]


@cache
def reference() -> DriftReference:
    return DriftReference.calibrate(list(line(COMMISSIONING, seed=1)))


@cache
def good() -> tuple[Bytes, NDArray[np.float32]]:
    """Pictures and features of good parts of a line that nobody rendered."""
    seen = list(line(60, seed=3, defects=0.0, bursts=0.0))
    return np.stack([one.picture for one in seen]), np.stack([one.feature for one in seen])


@cache
def rows(lamp: float) -> Doubles:
    """Of that line under a lamp; good parts and bad ones."""
    return np.stack([measure(seen) for seen in line(200, seed=2, lamp=lamp)])


@cache
def unused() -> ChangePointDetector:
    pictures, seen = good()
    return ChangePointDetector(reference(), looks(pictures), seen)


def glanced(shown: Iterable[NDArray[np.float64]], pictures: Bytes | None = None) -> ChangePointDetector:
    """A glance after these rows; where pictures are given, on a line of which these are good parts."""
    glance = (
        deepcopy(unused())
        if pictures is None
        else ChangePointDetector(reference(), looks(pictures), good()[1])
    )
    for row in shown:
        glance.add(row)
    return glance


@pytest.mark.parametrize(("before", "turned"), [(LEAST_LEVEL - 1, False), (LEAST_LEVEL, True)])
def test_nothing_turns_before_there_is_a_level_to_turn_from(before: int, turned: bool) -> None:
    """However far away: the first pictures after a start or a turn have too little before them."""
    glance = glanced([*rows(0.0)[:before], *rows(5.0)[:NEWEST]])
    assert glance.turned is turned
    assert glance.count == before + NEWEST


@FEW
@given(st.integers(0, 100), st.integers(1, LEVEL + NEWEST))
def test_forgetting_is_as_good_as_new(before: int, after: int) -> None:
    """A place is of the pictures after it alone."""
    used, new = glanced(rows(5.0)[:before]), glanced([])
    used.forget()
    assert used.count == 0
    for row in rows(0.0)[:after]:
        used.add(row)
        new.add(row)
        assert (used.count, used.turned) == (new.count, new.turned)
    assert np.array_equal(used.place.row, new.place.row)
    assert used.place.rough == new.place.rough


@FEW
@given(st.integers(1, 60), st.sampled_from([0.0, 2.0, 5.0]))
def test_what_is_long_past_does_not_count(past: int, lamp: float) -> None:
    """As many pictures as the level has and the newest decide everything."""
    newest = [*rows(0.0)[:LEVEL], *rows(lamp)[:NEWEST]]
    one, other = glanced([*rows(5.0)[:past], *newest]), glanced(newest)
    assert (one.count, one.turned, one.place.rough) == (other.count, other.turned, other.place.rough)
    assert np.array_equal(one.place.row, other.place.row)


@FEW
@given(
    st.permutations(range(LEVEL)), st.permutations(range(NEWEST)), st.sampled_from([2.0, 2.2, 2.4, 3.0, 4.0])
)
def test_the_order_of_the_pictures_does_not_matter(before: list[int], newest: list[int], lamp: float) -> None:
    """Of those before, and of the newest, under a lamp that may turn or not: parts come as they come."""
    level, few = rows(0.0)[:LEVEL], rows(lamp)[:NEWEST]
    one, other = glanced([*level, *few]), glanced([*level[before], *few[newest]])
    assert one.turned is other.turned
    assert np.array_equal(one.place.row, other.place.row)


@FEW
@given(st.integers(0, NEWEST - 1), st.sampled_from(OF_THE_PICTURE), st.floats(-1e6, 1e6))
def test_one_odd_picture_turns_nothing(place: int, number: int, size: float) -> None:
    """A hand, a part that lies askew: however odd it is, and wherever it comes."""
    shown = rows(0.0)[: LEVEL + NEWEST].copy()
    shown[LEVEL + place, number] += size
    assert not glanced(shown).turned


@FEW
@given(st.integers(0, 99), st.floats(0, 1e6))
def test_what_the_model_says_of_the_parts_turns_nothing(seed: int, size: float) -> None:
    """A glance looks at light, colour and sharpness: more or other defects are no other pictures."""
    shown = rows(0.0)[: LEVEL + NEWEST].copy()
    said = [number for number in range(shown.shape[1]) if number not in OF_THE_PICTURE]
    shown[LEVEL:, said] += size * np.random.default_rng(seed).standard_normal(len(said))
    assert not glanced(shown).turned


@pytest.mark.parametrize(("errors", "alike"), [(APART - 0.1, True), (APART + 0.1, False)])
def test_pictures_are_others_by_the_usual_errors_of_a_median(errors: float, alike: bool) -> None:
    """One of the seven numbers of a picture, where parts all look the same and blocks differ a little."""
    same = np.repeat(good()[0][:1], 60, axis=0)
    shown = np.tile(reference().centre, (LEVEL + NEWEST, 1))
    before = glanced(shown, same).place
    moved = errors * math.sqrt(7) * reference().scale[LUMA]
    shown[LEVEL:, LUMA] += reference().tolerance[LUMA] + moved
    assert glanced(shown, same).turned is not alike
    assert glanced(np.repeat(shown[-1:], WINDOW, axis=0), same).near(before) is alike
    assert glanced(np.repeat(shown[-1:], LEVEL, axis=0), same).moved(before) is not alike


def test_a_line_of_two_kinds_of_parts_does_not_turn_with_every_run_of_one_kind() -> None:
    """Three in ten parts are much darker, so that often two of the newest four are: that is usual there."""
    rng = np.random.default_rng(4)
    kinds = rows(0.0), rows(5.0)
    pictures = [next(line(1, seed=n, lamp=5.0 * (n % 10 < 3), defects=0.0)).picture for n in range(60)]
    glance = glanced([], np.stack(pictures))
    for dark in rng.random(600) < 0.3:
        glance.add(kinds[int(dark)][rng.integers(200)])
        assert not glance.turned


@pytest.mark.parametrize(("lengths", "alike"), [(APART - 0.1, True), (APART + 0.1, False)])
def test_what_looks_alike_and_shows_other_things_is_not_near(lengths: float, alike: bool) -> None:
    """Dirt on the lens hardly changes a picture's light: features tell, in lengths of their roughness.

    Whether it moved is asked of more pictures, whose median is less rough.
    """
    few, many = rows(0.0)[:WINDOW].copy(), rows(0.0)[:LEVEL].copy()
    there, here = DomainMark.of(few), DomainMark.of(many)
    assert glanced(few).near(there)
    assert not glanced(many).moved(here)
    few[:, len(SCALARS) + 3] += lengths * there.rough
    many[:, len(SCALARS) + 3] += lengths * here.rough * math.sqrt(2 / LEVEL / (1 / WINDOW + 1 / LEVEL))
    assert glanced(few).near(there) is alike
    assert glanced(many).moved(here) is not alike


@pytest.mark.parametrize(("count", "moved"), [(LEVEL - 1, False), (LEVEL, True)])
def test_small_steps_show_when_there_are_many_pictures(count: int, moved: bool) -> None:
    """A lamp that loses a little goes unnoticed by the newest few, and is not what it was all the same."""
    place = DomainMark.of(rows(0.0)[:LEVEL])
    glance = glanced([*rows(0.0)[:LEVEL], *rows(1.8)[:NEWEST]])
    assert not glance.turned
    assert glanced(rows(0.0)[100 : 100 + LEVEL]).moved(place) is False
    assert glanced(rows(1.8)[:count]).moved(place) is moved


def test_rough_is_how_far_the_medians_of_one_condition_lie_apart() -> None:
    """Of a window and of the pictures that made the place; to a tenth, of 400 pairs of normal features."""
    rng = np.random.default_rng(0)
    spreads = rng.uniform(0.5, 2.0, 32)

    def some(count: int) -> Doubles:
        return np.hstack([np.zeros((count, len(SCALARS))), spreads * rng.standard_normal((count, 32))])

    places = [DomainMark.of(some(LEVEL)) for _ in range(400)]
    apart = [np.linalg.norm(np.median(some(WINDOW), axis=0) - place.row) for place in places]
    usual = math.sqrt(np.mean(np.square(apart)))
    assert np.mean([place.rough for place in places]) == pytest.approx(usual, rel=0.1)
