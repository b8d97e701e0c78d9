"""The pictures of one part, where the agent finds the parts itself, and what each said."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from camera.core.frame import PartPicture


@dataclass(frozen=True, slots=True)
class PictureSaid:
    """What one picture of a part said by itself.

    Attributes:
        event_id: of its result.
        verdict: pass, fail, unsure or not_inspected.
        label: see `agent.domain.verdict.Decision`.
    """

    event_id: str
    captured_at: datetime
    station: str
    verdict: str
    label: str | None


@dataclass(frozen=True, slots=True)
class PartPictures:
    """A part at one of its pictures.

    Attributes:
        number: of the part at the station since the start.
        place: of the picture among the part's, from 1 on.
        of: how many pictures of the part are judged.
        pictures: those judged so far, this one the last.
    """

    number: int
    place: int
    of: int
    pictures: tuple[PictureSaid, ...]

    def renamed(self, ids: Mapping[str, str]) -> PartPictures:
        """Return it with other ids for its results; all that it names are among `ids`."""
        return replace(
            self, pictures=tuple(replace(one, event_id=ids[one.event_id]) for one in self.pictures)
        )


def part_pictures(part: PartPicture, said: PictureSaid, before: PartPictures | None) -> PartPictures:
    """Return a part at its newest picture.

    Args:
        part: which picture of which part it is.
        said: what it said.
        before: the part that was looked at last at the station, this one or another.
    """
    same = before is not None and before.number == part.number and part.place > before.place
    earlier = before.pictures if before is not None and same else ()
    return PartPictures(part.number, part.place, part.of, (*earlier, said))
