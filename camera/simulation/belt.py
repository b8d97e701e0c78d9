"""The simulated belt as a camera above it sees it: parts that come, touch, stop and go, and what disturbs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from camera.core.frame import Image
from camera.simulation.flange import RIM, Floats, Scene
from camera.simulation.part import LABELS, SIZE_PX, render_part

WIDTH, HEIGHT = 480, 270
DIAMETER: Final = 84
"""Of a part in the picture, px."""

Disturbance = Literal["gaps", "touching", "stops", "hand", "slow_light", "sudden_light"]

_SPEED_PX: Final = 14.0
_KINDS: Final = 12  # different parts; the belt shows them in turn
_SKIN: Final = (196.0, 146.0, 118.0)


@dataclass(frozen=True, slots=True)
class OnBelt:
    """A part that lies on the belt.

    Attributes:
        number: 1, 2, ...
        place: of its centre along the belt, px.
        row: of its centre in the picture, px.
    """

    number: int
    place: float
    row: float


@dataclass(frozen=True, slots=True)
class Instant:
    """The belt at one picture.

    Attributes:
        moved: how far the belt has gone, px.
        gain: of the light; 1 as at the start.
        slant: how much brighter the right edge is than the left one.
        hand: how far the hand reaches into the picture, from above, px; 0 without one, and its column.
    """

    moved: float
    gain: float = 1.0
    slant: float = 0.0
    hand: float = 0.0
    hand_column: float = 0.0


class SimulatedBelt:
    """A belt with parts and one kind of disturbance; all of it known before the first picture.

    Args:
        parts: how many.
        kind: what happens besides.
        seed: fixes all.
    """

    def __init__(self, parts: int, kind: Disturbance, seed: int) -> None:
        rng = np.random.default_rng([seed, parts])
        self._seed = seed
        self.parts = _laid(parts, kind, rng)
        self.course = _course(self.parts[-1].place + DIAMETER, kind, rng)

    def __len__(self) -> int:
        """Return how many pictures there are."""
        return len(self.course)

    def in_view(self, picture: int) -> list[tuple[int, float, float]]:
        """Return number, column and row of the parts of which anything is in a picture, counted from 0."""
        moved = self.course[picture].moved
        columns = [(one, moved - one.place - DIAMETER / 2) for one in self.parts]
        return [
            (one.number, column, one.row)
            for one, column in columns
            if -DIAMETER / 2 < column < WIDTH + DIAMETER / 2
        ]

    def picture(self, number: int) -> Image:
        """Return a picture, counted from 0: ``(270, 480, 3)`` uint8 RGB."""
        now = self.course[number]
        rows = np.arange(HEIGHT)
        columns = (np.arange(WIDTH) - round(now.moved)) % _belt().shape[1]
        seen = _belt()[rows[:, None], columns].copy()
        for which, column, row in self.in_view(number):
            _lay(seen, *_part(which % _KINDS), column, row)
        if now.hand:
            tip = (round(now.hand_column), round(now.hand))
            cv2.line(seen, (tip[0] + 20, -60), tip, _SKIN, 46, cv2.LINE_AA)
            for finger in (-18, -6, 6, 18):
                cv2.line(seen, tip, (tip[0] + finger, tip[1] + 34), _SKIN, 9, cv2.LINE_AA)
        light = now.gain * (1 + now.slant * np.linspace(-0.5, 0.5, WIDTH, dtype=np.float32))
        seen *= light[None, :, None].astype(np.float32)
        rng = np.random.default_rng([self._seed, number])
        shift = (
            int(rng.integers(0, _noise().shape[0] - HEIGHT)),
            int(rng.integers(0, _noise().shape[1] - WIDTH)),
        )
        seen += _noise()[shift[0] : shift[0] + HEIGHT, shift[1] : shift[1] + WIDTH]
        return np.asarray(np.clip(np.rint(seen), 0, 255), dtype=np.uint8)


def _laid(parts: int, kind: Disturbance, rng: np.random.Generator) -> list[OnBelt]:
    place, laid = WIDTH / 2.0, list[OnBelt]()
    for number in range(1, parts + 1):
        gap = DIAMETER * rng.uniform(0.15, 3.0)
        # No two in a row: three that touch would be one bar.
        if (
            kind == "touching"
            and number > 4
            and laid[-1].place - laid[-2].place > 1.1 * DIAMETER
            and rng.random() < 0.4
        ):
            gap = 0.0
        place += (DIAMETER if laid else 0.0) + gap
        near = gap == 0.0 and laid
        row = (
            laid[-1].row + rng.uniform(-4, 4)
            if near
            else rng.uniform(DIAMETER / 2 + 12, HEIGHT - DIAMETER / 2 - 12)
        )
        laid.append(OnBelt(number, place, float(row)))
    return laid


def _course(length: float, kind: Disturbance, rng: np.random.Generator) -> list[Instant]:
    course, moved, gain, pause, reach = list[Instant](), 0.0, 1.0, 0, -1
    column = 0.0
    while moved < length + WIDTH:
        now = Instant(moved)
        if kind == "stops":
            pause = pause - 1 if pause else int(rng.integers(20, 260)) if rng.random() < 0.02 else 0
        elif kind == "slow_light":
            at = len(course) / 900 * 2 * np.pi
            now = replace(now, gain=1.0 + 0.4 * np.sin(at), slant=0.3 * np.sin(0.37 * at))
        elif kind == "sudden_light":
            gain = float(rng.uniform(0.6, 1.6)) if rng.random() < 0.012 and moved > WIDTH else gain
            now = replace(now, gain=gain)
        elif kind == "hand":
            if reach < 0 and rng.random() < 0.02:
                reach, column = 0, float(rng.uniform(80, WIDTH - 80))
            if reach >= 0:
                far = float(np.sin(np.pi * reach / 24)) * 170
                now = replace(now, hand=max(far, 1.0), hand_column=column + 30 * float(np.sin(reach / 5)))
                reach = -1 if reach >= 24 else reach + 1
        course.append(now)
        moved += 0.0 if pause else _SPEED_PX
    return course


def _lay(seen: Floats, part: Floats, cover: Floats, column: float, row: float) -> None:
    """Lay a part into a picture in place, where it is in it."""
    side = part.shape[0]
    left, top = round(column - side / 2), round(row - side / 2)
    x0, x1 = max(left, 0), min(left + side, WIDTH)
    y0, y1 = max(top, 0), min(top + side, HEIGHT)
    if x0 >= x1 or y0 >= y1:
        return
    cut = slice(y0 - top, y1 - top), slice(x0 - left, x1 - left)
    alpha = cover[cut][:, :, None]
    seen[y0:y1, x0:x1] = seen[y0:y1, x0:x1] * (1 - alpha) + part[cut] * alpha


@lru_cache(maxsize=_KINDS)
def _part(which: int) -> tuple[Floats, Floats]:
    """Return a part without its belt, and how much of each pixel it covers."""
    scene = Scene.draw(np.random.default_rng([7, which]))
    picture, _mask = render_part(LABELS[which % len(LABELS)], np.random.default_rng([7, which]))
    cover = np.zeros((SIZE_PX, SIZE_PX), np.float32)
    middle = round(scene.centre[0] * 16), round(scene.centre[1] * 16)
    cv2.circle(cover, middle, round(RIM * scene.scale * 16), 1.0, -1, cv2.LINE_AA, 4)
    shrink = DIAMETER / (2 * RIM)
    move = np.array([[1, 0, SIZE_PX / 2 - scene.centre[0]], [0, 1, SIZE_PX / 2 - scene.centre[1]]])
    side = round(SIZE_PX * shrink)
    small = [
        cv2.resize(cv2.warpAffine(one, move, (SIZE_PX, SIZE_PX)), (side, side), interpolation=cv2.INTER_AREA)
        for one in (picture.astype(np.float32), cover)
    ]
    return np.asarray(small[0], np.float32), np.asarray(small[1], np.float32)


@lru_cache(maxsize=1)
def _belt() -> Floats:
    """Return ``(270, 1440, 3)``: dark rubber with scratches, three pictures long, without an end."""
    rng = np.random.default_rng(3)
    level = 46 + rng.normal(0, 1.5, (HEIGHT, 3 * WIDTH)).astype(np.float32)
    coarse = rng.standard_normal((6, 32)).astype(np.float32)
    level += 3 * cv2.resize(coarse, (3 * WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
    for _ in range(60):
        start = int(rng.integers(3 * WIDTH)), int(rng.integers(HEIGHT))
        cv2.line(level, start, (start[0] + int(rng.integers(-40, 40)), start[1] + 6), 58.0, 1, cv2.LINE_AA)
    return np.repeat(cv2.GaussianBlur(level, (0, 0), 0.8)[:, :, None], 3, axis=2)


@lru_cache(maxsize=1)
def _noise() -> NDArray[np.float32]:
    return np.random.default_rng(4).normal(0, 2.0, (HEIGHT + 64, WIDTH + 64, 3)).astype(np.float32)
