"""Pictures on disk: `evidence/<station>/<day>/<event id>.jpg`, and where they wait to be recorded."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

FOLDER = "evidence"
_NEW = ".new"
_LOST = ".lost"
"""No station is called so: names begin with a letter or digit."""


@dataclass(frozen=True, slots=True)
class Written:
    """A picture that is on disk and not recorded yet."""

    event_id: str
    bytes: int


class ImageFiles:
    """Owns the folder. The evidence thread stages; all the rest is the publisher's.

    A picture is staged first, then recorded in the database, then moved to its place. So what lies in its
    place is recorded, and after a crash only what is staged has to be looked at.

    Args:
        data: the data folder.

    Attributes:
        discarded: pictures that went because their result was lost, since the start.
    """

    def __init__(self, data: Path) -> None:
        self.discarded = 0
        self.root = data / FOLDER
        self._new = self.root / _NEW

    def place(self, station: str, day: str, event_id: str) -> Path:
        """Return where a picture lies; `day` is the UTC date of its verdict."""
        return self.root / station / day / f"{event_id}.jpg"

    def stage(self, event_id: str, jpeg: bytes) -> None:
        """Write a picture, durably, that is not recorded yet.

        Raises:
            OSError: the disk does not take it; nothing of it is left.
        """
        self._new.mkdir(parents=True, exist_ok=True)
        path = self._new / f"{event_id}.jpg"
        try:
            with path.open("wb") as file:
                file.write(jpeg)
                file.flush()
                os.fsync(file.fileno())
            # Its name too: what is recorded must be there after a power cut.
            folder = os.open(self._new, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        except OSError:
            path.unlink(missing_ok=True)
            raise

    def staged(self) -> list[Written]:
        """Return the pictures that are not in their places."""
        return [Written(path.stem, path.stat().st_size) for path in sorted(self._new.glob("*.jpg"))]

    def settled(self) -> Iterator[Path]:
        """Return the pictures that are in their places."""
        return (path for path in self.root.glob("*/*/*.jpg") if path.parent.parent.name != _NEW)

    def set_aside(self, picture: Path) -> None:
        """Move a picture whose result was lost with a damaged database out of the way."""
        aside = self.root / _LOST
        aside.mkdir(exist_ok=True)
        picture.replace(aside / picture.name)

    def settle(self, event_id: str, station: str, day: str) -> None:
        """Move a recorded picture to its place; a power cut may undo that, the next start does it again."""
        place = self.place(station, day, event_id)
        place.parent.mkdir(parents=True, exist_ok=True)
        (self._new / place.name).replace(place)

    def discard(self, event_id: str) -> None:
        """Remove a staged picture that nobody will record, and count it."""
        (self._new / f"{event_id}.jpg").unlink(missing_ok=True)
        self.discarded += 1

    def remove(self, station: str, day: str, event_id: str) -> None:
        """Remove a picture, and its folder where that was the last one."""
        place = self.place(station, day, event_id)
        place.unlink(missing_ok=True)
        (self._new / place.name).unlink(missing_ok=True)
        try:
            place.parent.rmdir()
        except OSError:  # others are in it, or it never was
            return
