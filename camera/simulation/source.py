"""The simulated line: parts on a belt, some of them defective, under a lamp and a lens that age."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from itertools import count
from threading import Event
from typing import Final

import numpy as np
from numpy.typing import NDArray

from camera.core.frame import CameraError, Capture, Image
from camera.core.settings import SimulatedCamera, SimulatedCondition
from camera.core.source import SourceStats, paced, stamp
from camera.simulation.degradations import degrade
from camera.simulation.part import LABELS, render_part

BURST_PARTS: Final = 25
"""Parts in a block; in a burst, half of a block is defective."""

_DEFECTS: Final = LABELS[1:]
_LIGHT_PATH: Final = ("dim", "cast", "fog", "glare", "dirt", "defocus", "motion", "contrast", "noise")
"""From the lamp over the lens to the sensor: the order in which conditions change the picture."""

_PART, _LABEL, _BURST = range(3)  # what random numbers are drawn for


class SimulatedLine:
    """What the line makes and what the camera sees of it, with the truth about each part.

    Holds no state: any part, counted from 1, can be asked for at any time, in any order and from any
    thread, and is the same each time.
    """

    def __init__(self, settings: SimulatedCamera) -> None:
        self._settings = settings
        self._seed = settings.seed % 2**32  # numpy takes no negative seeds

    def label(self, number: int) -> str:
        """Return what the part really is, one of `LABELS`."""
        block, place = divmod(number - 1, BURST_PARTS)
        burst = self._rng(_BURST, block)
        if burst.random() < self._settings.burst_rate:
            # One cause, such as a broken drill, spoils part after part in the same way.
            kind = _DEFECTS[burst.integers(len(_DEFECTS))]
            spoilt = burst.permutation(BURST_PARTS)[: BURST_PARTS // 2]
            return kind if place in spoilt else "ok"
        rng = self._rng(_LABEL, number)
        if rng.random() < self._settings.defect_rate:
            return _DEFECTS[rng.integers(len(_DEFECTS))]
        return "ok"

    def part_id(self, number: int) -> str:
        """Return the serial number of a part, such as ``P0000001``."""
        return f"P{number:07d}"

    def number(self, part_id: str) -> int:
        """Return which part bears this serial number.

        Raises:
            CameraError: it is not a serial number of this line.
        """
        digits = part_id.removeprefix("P")
        if not (digits.isascii() and digits.isdigit() and part_id == self.part_id(int(digits))):
            raise CameraError(f"part {part_id!r}: not from the simulated line, which counts P0000001, ...")
        return int(digits)

    def conditions(self, number: int) -> tuple[tuple[str, float], ...]:
        """Return kind and severity of what lamp, lens and sensor do to this picture, in the light's order.

        Of two conditions of one kind the stronger counts.
        """
        strongest: dict[str, float] = {}
        for condition in self._settings.conditions:
            strongest[condition.kind] = max(strongest.get(condition.kind, 0.0), _severity(condition, number))
        return tuple((kind, strongest[kind]) for kind in _LIGHT_PATH if strongest.get(kind, 0.0) > 0)

    def picture(self, number: int) -> Image:
        """Return what the camera sees of the part: ``(256, 256, 3)`` uint8 RGB, the caller's to keep."""
        image, _ = self._render(number)
        for kind, severity in self.conditions(number):
            # Lamp and lens stay as they are from part to part; noise is new in each picture.
            seed = self._seed + (number << 32) if kind == "noise" else self._seed
            image = degrade(image, kind, severity, seed)
        return image

    def defect_mask(self, number: int) -> NDArray[np.bool_]:
        """Return where the defect is, ``(256, 256)`` bool; all False for an ok part."""
        _, mask = self._render(number)
        return mask

    def _render(self, number: int) -> tuple[Image, NDArray[np.bool_]]:
        return render_part(self.label(number), self._rng(_PART, number))

    def _rng(self, purpose: int, number: int) -> np.random.Generator:
        return np.random.default_rng([self._seed, purpose, number])


class SimulatedSource:
    """The simulated line as a camera: one capture per part, from part 1 on.

    It waits for whoever takes the captures, so that no part goes uninspected.
    """

    live = False

    def __init__(self, settings: SimulatedCamera) -> None:
        self.line = SimulatedLine(settings)
        self._settings = settings
        self._stats = SourceStats(connected=True)  # written by the iterating thread only

    @property
    def stats(self) -> SourceStats:
        """The counters as they are now."""
        return self._stats

    def captures(self, stop: Event) -> Iterator[Capture]:
        """Yield `parts` captures, or captures without end; `fps` of them a second where that is set."""
        parts = count(1) if self._settings.parts is None else range(1, self._settings.parts + 1)
        fps = self._settings.fps or math.inf
        for number in paced(((number / fps, number) for number in parts), stop):
            self._stats = replace(self._stats, frames=number)
            yield stamp(self.line.picture(number), part_id=self.line.part_id(number))


def _severity(condition: SimulatedCondition, number: int) -> float:
    """Return how far the condition has come: 0 before `from_part` and from `to_part` on."""
    since = number - condition.from_part
    if since < 0 or (condition.to_part is not None and number >= condition.to_part):
        return 0.0
    return condition.severity * (min(1.0, since / condition.ramp_parts) if condition.ramp_parts else 1.0)
