"""Pictures on disk: `evidence/<station>/<day>/<event id>.jpg`, and where they wait to be recorded.

Beside one may lie `<event id>.map.png`: where the part differs from good ones. It is part of the picture, and
comes and goes with it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from camera.core.kept_region import MAP_SUFFIX

FOLDER = "evidence"
_NEW = ".new"
_LOST = ".lost"
"""No station is called so: names begin with a letter or digit."""


@dataclass(frozen=True, slots=True)
class Written:
    """A picture that is on disk and not recorded yet; its bytes are those of its map too."""

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

    def map_place(self, station: str, day: str, event_id: str) -> Path:
        """Return where the map of a picture lies, if it has one."""
        return _map_of(self.place(station, day, event_id))

    def size(self, place: Path) -> int:
        """Return the bytes of a picture with its map.

        Raises:
            FileNotFoundError: the picture is not there.
        """
        return place.stat().st_size + _size_of_map(place)

    def stage(self, event_id: str, jpeg: bytes, drawn: bytes | None = None) -> None:
        """Write a picture, durably, that is not recorded yet.

        Args:
            event_id: of its result.
            jpeg: the picture.
            drawn: its map as PNG; None where it has none.

        Raises:
            OSError: the disk does not take it; nothing of it is left.
        """
        self._new.mkdir(parents=True, exist_ok=True)
        path = self._new / f"{event_id}.jpg"
        try:
            # The picture last: where there is one, its map is complete.
            if drawn is not None:
                _write(_map_of(path), drawn)
            _write(path, jpeg)
            # Its name too: what is recorded must be there after a power cut.
            folder = os.open(self._new, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        except OSError:
            _unlink(path)
            raise

    def staged(self) -> list[Written]:
        """Return the pictures that are not in their places."""
        return [Written(path.stem, self.size(path)) for path in sorted(self._new.glob("*.jpg"))]

    def lonely_maps(self) -> Iterator[Path]:
        """Return the maps in their places whose picture is not beside them; they are settled first."""
        found = self.root.glob(f"*/*/*{MAP_SUFFIX}")
        return (path for path in found if path.parent.parent.name != _NEW and not _picture_of(path).exists())

    def drop_half_staged(self) -> None:
        """Remove the maps whose picture was not written any more; for the start."""
        for path in self._new.glob(f"*{MAP_SUFFIX}"):
            if not _picture_of(path).exists():
                path.unlink()

    def settled(self) -> Iterator[Path]:
        """Return the pictures that are in their places."""
        return (path for path in self.root.glob("*/*/*.jpg") if path.parent.parent.name != _NEW)

    def set_aside(self, picture: Path) -> None:
        """Move a picture whose result was lost with a damaged database out of the way."""
        aside = self.root / _LOST
        aside.mkdir(exist_ok=True)
        _move(_map_of(picture), aside / _map_of(picture).name)
        picture.replace(aside / picture.name)

    def settle(self, event_id: str, station: str, day: str) -> None:
        """Move a recorded picture to its place; a power cut may undo that, the next start does it again."""
        place = self.place(station, day, event_id)
        place.parent.mkdir(parents=True, exist_ok=True)
        # The map first: as long as the picture is staged, the next start does both again.
        _move(_map_of(self._new / place.name), _map_of(place))
        (self._new / place.name).replace(place)

    def discard(self, event_id: str) -> None:
        """Remove a staged picture that nobody will record, and count it."""
        _unlink(self._new / f"{event_id}.jpg")
        self.discarded += 1

    def remove(self, station: str, day: str, event_id: str) -> None:
        """Remove a picture, and its folder where that was the last one."""
        place = self.place(station, day, event_id)
        _unlink(place)
        _unlink(self._new / place.name)
        try:
            place.parent.rmdir()
        except OSError:  # others are in it, or it never was
            return


def _map_of(picture: Path) -> Path:
    return picture.with_name(picture.name.replace(".jpg", MAP_SUFFIX))


def _picture_of(drawn: Path) -> Path:
    return drawn.with_name(drawn.name.replace(MAP_SUFFIX, ".jpg"))


def _size_of_map(picture: Path) -> int:
    try:
        return _map_of(picture).stat().st_size
    except FileNotFoundError:
        return 0


def _write(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _move(path: Path, to: Path) -> None:
    """Move a map, if there is one."""
    try:
        path.replace(to)
    except FileNotFoundError:
        return


def _unlink(picture: Path) -> None:
    """Remove a picture with its map."""
    _map_of(picture).unlink(missing_ok=True)
    picture.unlink(missing_ok=True)
