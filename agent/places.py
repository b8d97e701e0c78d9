"""The conditions that a station's versions answered under, and how far the learner was with each."""

from __future__ import annotations

from dataclasses import dataclass, replace

from adapters.drift_block import Doubles
from adapters.glance import WINDOW, Glance, Place
from adapters.lifecycle import State, Turn
from adapters.version import SOURCE
from agent.episode import Episode


@dataclass(frozen=True, slots=True)
class Met:
    """One condition.

    Attributes:
        place: what its pictures are like.
        state: of the learner, when it was left.
        episode: what was being made of it.
        left_at: frame.
    """

    place: Place
    state: State
    episode: Episode
    left_at: int


class Places:
    """Owns what the newest pictures are held against; for the learner's thread. Not kept over a restart.

    Args:
        glance: of the station.
    """

    def __init__(self, glance: Glance) -> None:
        self._glance = glance
        self._met: dict[int, Met] = {}
        self._asked: int | None = None

    def add(self, row: Doubles) -> None:
        """Take one picture, as `adapters.drift_block.measure` has it."""
        self._glance.add(row)

    @property
    def count(self) -> int:
        """How many of the newest pictures are known to be of one condition, `WINDOW` at most."""
        return min(self._glance.count, WINDOW)

    def turn(self, here: int) -> tuple[Turn | None, int]:
        """Return what the newest pictures are, and the version that was made for their like.

        What was learned for other pictures is left at the first sign. The source is left only when the next
        pictures are none of its own: a hand in the picture is no new condition.

        Args:
            here: version that answers; where they are as it was made for, there is no turn, except that the
                line is at home again when what answered meanwhile was the source.
        """
        if self._glance.turned:
            self._glance.forget()
            self._asked = here
            return (None if here == SOURCE else "unknown"), here
        if self._glance.count < WINDOW:
            return None, here
        # The source first, then the newest.
        met = reversed(self._met.items())
        places = [(SOURCE, self._glance.home), *((number, one.place) for number, one in met)]
        near = [number for number, place in places if self._glance.near(place)]
        asked, self._asked = self._asked, None
        if here in near and (asked is None or here != SOURCE):
            return None, here
        if here == SOURCE and SOURCE not in near and self._glance.looks_like(self._glance.home):
            return None, here  # a burst of defects, under the light of home
        if near:
            return ("home" if near[0] == SOURCE else "met"), near[0]
        return ("unknown" if asked == SOURCE else None), here

    def crept(self, here: int) -> bool:
        """Whether the pictures are no longer quite those for which a version answers."""
        return here in self._met and self._glance.moved(self._met[here].place)

    def remember(self, number: int, state: State, episode: Episode, frame: int) -> None:
        """Keep what the pictures are like for which a version answers: the newest of a place counts."""
        if number == SOURCE or self._glance.count < WINDOW:
            return
        near = self._glance.near
        self._met = {other: met for other, met in self._met.items() if not near(met.place)}
        self._met[number] = Met(self._glance.place, state, episode, frame)

    def leave(self, number: int, state: State, frame: int) -> None:
        """Keep how far the learner was."""
        if number in self._met:
            self._met[number] = replace(self._met[number], state=state, left_at=frame)

    def find(self, number: int) -> Met:
        """Return what is known of the condition that a version was made for."""
        return self._met[number]

    def forget(self, number: int) -> None:
        """Do not go back to a version."""
        self._met.pop(number, None)

    def clear(self) -> None:
        """Do not go back to any version."""
        self._met.clear()
