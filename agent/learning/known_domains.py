"""The conditions that a station's versions answered under, and how far the learner was with each."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

from adapters.core.version import SOURCE
from adapters.gate.state_machine import State, Turn
from adapters.monitoring.block_statistics import Doubles
from adapters.monitoring.change_point import WINDOW, ChangePointDetector, DomainMark
from agent.learning.episode import Episode

_SAID = -1
"""Instead of a number: that the pictures are none of the source's was said."""


@dataclass(frozen=True, slots=True)
class KnownDomain:
    """One condition.

    Attributes:
        place: what its pictures are like.
        state: of the learner, when it was left.
        episode: what was being made of it; a copy, so that what follows does not change it.
        left_at: frame at which both were so.
    """

    place: DomainMark
    state: State
    episode: Episode
    left_at: int


class KnownDomains:
    """Owns what the newest pictures are held against; for the learner's thread. Not kept over a restart.

    Args:
        detector: of the station.
    """

    def __init__(self, detector: ChangePointDetector) -> None:
        self._detector = detector
        self._met: dict[int, KnownDomain] = {}
        self._turned = False
        self._asked: int | None = None
        self._chosen = False

    def add(self, row: Doubles) -> None:
        """Take one picture, as `adapters.monitoring.block_statistics.measure` has it."""
        self._detector.add(row)
        if self._detector.turned:
            # Seen here and not in `turn`: whoever asks seldom would miss it.
            self._detector.forget()
            self._turned, self._chosen = True, False

    @property
    def count(self) -> int:
        """How many of the newest pictures are known to be of one condition, `WINDOW` at most."""
        return min(self._detector.count, WINDOW)

    @property
    def chosen(self) -> bool:
        """Whether a person chose what answers, and the pictures have not changed since."""
        return self._chosen

    def turn(self, here: int) -> tuple[Turn | None, int]:
        """Return what the newest pictures are, and the version that was made for their like.

        What was learned for other pictures is left at the first sign. The source is left only when the next
        pictures are none of its own: a hand in the picture is no new condition.

        Args:
            here: version that answers; where they are as it was made for, there is no turn, except that the
                line is at home again when what answered meanwhile was the source.
        """
        if self._turned:
            self._turned, self._asked = False, here
            if here != SOURCE:
                return "unknown", here
        if self._detector.count < WINDOW or self._chosen:
            return None, here
        # The source first, then the newest.
        met = reversed(self._met.items())
        places = [(SOURCE, self._detector.home), *((number, one.place) for number, one in met)]
        near = [number for number, place in places if self._detector.near(place)]
        asked = self._asked
        if near:
            self._asked = None
        if here in near and (asked is None or here != SOURCE):
            return None, here
        if here == SOURCE and SOURCE not in near and self._detector.looks_like(self._detector.home):
            return None, here  # a burst of defects, under the light of home
        if near:
            return ("home" if near[0] == SOURCE else "met"), near[0]
        if asked != SOURCE:
            return None, here
        self._asked = _SAID
        return "unknown", here

    def drifted(self, here: int) -> bool:
        """Whether the pictures are no longer quite those for which a version answers."""
        return here in self._met and self._detector.moved(self._met[here].place)

    def remember(
        self, number: int, state: State, episode: Episode, frame: int, stored: Collection[int]
    ) -> None:
        """Keep what the pictures are like for which a version answers: the newest of a place counts.

        Args:
            number: of the version.
            state, episode: how far the learner is with it.
            frame: of now.
            stored: versions that there still are.
        """
        if number == SOURCE or self._detector.count < WINDOW:
            return
        near = self._detector.near
        self._met = {n: met for n, met in self._met.items() if n in stored and not near(met.place)}
        self._met[number] = KnownDomain(self._detector.place, state, replace(episode), frame)

    def leave(self, number: int, state: State, episode: Episode, frame: int) -> None:
        """Keep how far the learner was."""
        if number in self._met:
            place = self._met[number].place
            self._met[number] = KnownDomain(place, state, replace(episode), frame)

    def choose(self) -> None:
        """A person chose what answers: nothing that is known of these pictures is held against it."""
        self.clear()
        self._chosen = True

    def changed(self) -> None:
        """The pictures are no longer those for which a person chose."""
        self._chosen = False

    def find(self, number: int) -> KnownDomain:
        """Return what is known of the condition that a version was made for."""
        return self._met[number]

    def forget(self, number: int) -> None:
        """Do not go back to a version."""
        self._met.pop(number, None)

    def clear(self) -> None:
        """Do not go back to any version."""
        self._met.clear()
        self._turned, self._asked = False, None
