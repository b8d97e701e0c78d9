"""Parts in pictures that are drawn here: each once, whatever else is in view."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from camera.core.frame import Capture, Image
from camera.core.presence_settings import PresenceTrigger
from camera.presence.watch import Chosen, PresenceWatch

WIDTH, HEIGHT, SIDE = 320, 180, 40


def scene(*places: tuple[float, float], light: float = 1.0, side: int = SIDE, seed: int = 0) -> Image:
    """A grey belt with bright squares whose left upper corners are given."""
    seen = np.full((HEIGHT, WIDTH, 3), 60.0)
    for x, y in places:
        left, top = max(round(x), 0), max(round(y), 0)
        seen[top : max(round(y) + side, 0), left : max(round(x) + side, 0)] = (170, 150, 120)
    seen = seen * light + np.random.default_rng(seed).normal(0, 1.5, seen.shape)
    return np.clip(seen, 0, 255).astype(np.uint8)


def look(shown: Iterable[Image], **settings: Any) -> tuple[list[Chosen], PresenceWatch]:
    watch, chosen = PresenceWatch(PresenceTrigger(**settings)), list[Chosen]()
    for number, image in enumerate(shown):
        chosen += watch.look(Capture(image, datetime.now(UTC), number * 33_000_000, str(number)))
    return chosen + watch.flush(), watch


def passing(start: float = -60, stop: float = WIDTH + 60, step: float = 10, row: float = 70) -> list[Image]:
    return [scene((x, row), seed=n) for n, x in enumerate(np.arange(start, stop, step))]


def empty(pictures: int) -> list[Image]:
    return [scene(seed=1000 + n) for n in range(pictures)]


def test_an_empty_belt_is_counted_and_never_chosen() -> None:
    chosen, watch = look(empty(30))
    assert (chosen, watch.count.no_part, watch.count.parts) == ([], 30, 0)


def test_a_part_that_passes_is_one_part_shown_as_a_whole() -> None:
    chosen, watch = look(empty(3) + passing() + empty(10))
    assert [(one.part, one.place, one.of) for one in chosen] == [(1, 1, 1)]
    left, _top, right, _bottom = chosen[0].box
    assert left > 0.1
    assert right < 0.9
    assert watch.count.disturbances == 0


def test_two_parts_in_view_together_are_two() -> None:
    pictures = [scene((x, 30), (x - 70, 110), seed=n) for n, x in enumerate(range(-60, WIDTH + 150, 10))]
    chosen, _watch = look(empty(3) + pictures + empty(10))
    assert [one.part for one in chosen] == [1, 2]


def test_a_belt_that_stops_shows_its_part_once_and_does_not_learn_it() -> None:
    comes, goes = passing(-60, 120), passing(120, WIDTH + 60)
    chosen, watch = look(empty(3) + comes + [scene((120, 70), seed=n) for n in range(900)] + goes + empty(10))
    assert [one.part for one in chosen] == [1]
    assert watch.count.no_part < 30


def test_a_part_that_is_to_stand_still_is_chosen_while_it_does() -> None:
    comes, stands = passing(-60, 120), [scene((120, 70), seed=n) for n in range(30)]
    chosen, _watch = look(empty(3) + comes + stands + passing(120), still=True)
    assert len(chosen) == 1
    assert 3 + len(comes) <= int(chosen[0].capture.part_id or 0) < 3 + len(comes) + len(stands)


def test_several_pictures_of_a_part_come_in_the_order_of_capture() -> None:
    chosen, _watch = look(empty(3) + passing() + empty(10), pictures=3)
    assert [(one.part, one.place, one.of) for one in chosen] == [(1, 1, 3), (1, 2, 3), (1, 3, 3)]
    shown = [int(one.capture.part_id or 0) for one in chosen]
    assert shown == sorted(set(shown))


def test_a_hand_that_reaches_in_is_a_disturbance() -> None:
    reach = [*range(10, 120, 10), *range(120, 0, -10)]
    hand = []
    for number, far in enumerate(reach):
        picture = scene(seed=number)
        picture[:far, 140:190] = (200, 150, 120)
        hand.append(picture)
    chosen, watch = look(empty(3) + hand + empty(10))
    assert (chosen, watch.count.disturbances) == ([], 1)


def test_what_goes_the_wrong_way_is_no_part() -> None:
    chosen, watch = look(empty(3) + passing() + empty(10), direction="left")
    assert (chosen, watch.count.disturbances) == ([], 1)


def test_what_is_too_small_is_no_part() -> None:
    chosen, _watch = look(empty(3) + passing() + empty(10), min_size=0.1)
    assert chosen == []


@pytest.mark.parametrize("light", [0.6, 1.5])
def test_light_that_jumps_or_drifts_makes_no_part(light: float) -> None:
    jump = [scene(light=light, seed=n) for n in range(30)]
    drift = [scene(light=light + (1 - light) * n / 300, seed=n) for n in range(300)]
    chosen, _watch = look(empty(10) + jump + drift + passing() + empty(10))
    assert len(chosen) == 1


def test_the_same_pictures_give_the_same_parts() -> None:
    pictures = empty(3) + passing() + empty(10)
    first, second = (look(pictures, pictures=2)[0] for _ in range(2))
    told = [[(one.part, one.place, one.capture.part_id, one.box) for one in run] for run in (first, second)]
    assert told[0] == told[1]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"min_size": 0.5, "max_size": 0.4}, "nothing would be a part"),
        ({"region": (0.5, 0.0, 0.5, 1.0)}, "at least 0.05 of the picture"),
    ],
)
def test_settings_that_find_nothing_are_refused(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        PresenceTrigger(**wrong)
