"""One thing on its way through the picture, and what is known of where it will be."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from camera.core.presence_settings import Direction
from camera.presence.blobs import Blob

STILL_PX: Final = 0.6
"""A thing whose centre moves less than this from picture to picture stands still."""
_TOWARDS: Final = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}


@dataclass(frozen=True, slots=True, eq=False)
class Track:
    """A thing that is followed; in pixels of the small picture.

    Attributes:
        key: of this thing among those that were followed.
        blob: as it was seen last.
        came_from: its centre when it was seen first.
        velocity: x, y per picture.
        seen: pictures in which it was found.
        inside: of these in how many no edge cut it.
        unseen: pictures in a row in which it was not found.
        still_s: for how long it has stood still.
        moved: the farthest that it has been from `came_from`.
        area: the largest that it has been while no edge cut it; 0 until then.
        told: its pictures have been chosen: what it still does counts for nothing.
        lasted_s: since it was seen first.
    """

    key: int
    blob: Blob
    came_from: tuple[float, float]
    velocity: tuple[float, float]
    seen: int = 1
    inside: int = 0
    unseen: int = 0
    still_s: float = 0.0
    moved: float = 0.0
    area: int = 0
    told: bool = False
    lasted_s: float = 0.0

    @property
    def expected(self) -> tuple[float, float]:
        """Where its centre is expected in the next picture."""
        steps = 1 + self.unseen
        (x, y), (dx, dy) = self.blob.centre, self.velocity
        return x + steps * dx, y + steps * dy

    def met(self, blob: Blob, dt_s: float) -> Track:
        """Return it as it is after it was found again."""
        steps = 1 + self.unseen
        step = (
            (blob.centre[0] - self.blob.centre[0]) / steps,
            (blob.centre[1] - self.blob.centre[1]) / steps,
        )
        # The centre of what an edge cuts moves at half the speed at most: that is not the thing's own speed.
        trust = 0.6 if blob.inside and self.blob.inside else 0.3
        if self.seen == 1 and blob.inside:
            trust = 1.0
        velocity = tuple(
            (1 - trust) * old + trust * new for old, new in zip(self.velocity, step, strict=True)
        )
        still = float(np.hypot(*step)) < STILL_PX and abs(blob.area - self.blob.area) < 0.1 * blob.area
        far = float(np.hypot(blob.centre[0] - self.came_from[0], blob.centre[1] - self.came_from[1]))
        return replace(
            self,
            blob=blob,
            velocity=(velocity[0], velocity[1]),
            seen=self.seen + 1,
            inside=self.inside + blob.inside,
            unseen=0,
            still_s=self.still_s + dt_s if still else 0.0,
            moved=max(self.moved, far),
            area=max(self.area, blob.area) if blob.inside else self.area,
            lasted_s=self.lasted_s + dt_s,
        )

    def missed(self, dt_s: float) -> Track:
        """Return it as it is after it was not found."""
        return replace(self, unseen=self.unseen + 1, still_s=0.0, lasted_s=self.lasted_s + dt_s)

    def goes(self, direction: Direction) -> bool:
        """Whether it has not gone elsewhere than parts do."""
        if direction == "any":
            return True
        x, y = self.blob.centre[0] - self.came_from[0], self.blob.centre[1] - self.came_from[1]
        towards = _TOWARDS[direction]
        along, aside = x * towards[0] + y * towards[1], abs(x * towards[1]) + abs(y * towards[0])
        return along > -2 * STILL_PX and (along >= aside or np.hypot(x, y) < 4 * STILL_PX)
