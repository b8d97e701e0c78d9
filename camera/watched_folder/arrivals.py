"""Which files of a folder are complete: those that have not changed for a while, by our own clock."""

from __future__ import annotations

import heapq
import logging
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Final

from camera.pictures.images import SUFFIXES

LOOK_AHEAD: Final = 2000
"""Files that are kept in mind, the oldest ones: more are found when these are done."""
DONE: Final = "done"
FAILED: Final = "failed"
"""Folders below the watched one, for what was inspected and for what could not be read."""
_EMPTY_TIMES: Final = 10

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Sight:
    """A file as it was seen; it is another one when either number is another."""

    size: int
    mtime_ns: int


@dataclass(frozen=True, slots=True)
class Arrival:
    """A file that is complete.

    Attributes:
        name: below the watched folder, with slashes; may hold what is no UTF-8 (surrogateescape).
    """

    name: str
    sight: Sight


@dataclass(slots=True)
class _Waiting:
    sight: Sight
    since_s: float
    tries: int = 0


class Arrivals:
    """Knows the oldest 2000 files that wait in a folder; what is beyond is looked at later.

    Used by one thread. The file server's clock is compared with no other: its times only say whether a file
    has changed, and which of two is older.

    Args:
        folder: to look at, with its sub-folders.
        settle_s: how long a file must not have changed.
    """

    def __init__(self, folder: Path, settle_s: float) -> None:
        self._folder = folder
        self._settle_s = settle_s
        self._waiting: dict[str, _Waiting] = {}
        self._empty: tuple[Arrival, float] | None = None  # the oldest one, and since when
        self._told_empty = False
        self._unreadable: dict[str, str] = {}  # sub-folder -> why

    @property
    def whole(self) -> bool:
        """Whether the last scan could look into every sub-folder."""
        return not self._unreadable

    def scan(self, now_s: float, known: Callable[[str, Sight], bool]) -> list[Arrival]:
        """Return the complete files, the oldest first; equally old ones by name.

        Args:
            now_s: by a clock that never goes back.
            known: says of a file that it need not be kept in mind: it is being inspected, or done.

        Raises:
            OSError: the folder itself cannot be read.
        """
        empty: list[Arrival] = []
        unreadable: dict[str, str] = {}

        def candidates() -> Iterator[Arrival]:
            for one in self._files(unreadable):
                if known(one.name, one.sight):
                    continue
                if one.sight.size:
                    yield one
                elif not empty or _age(one) < _age(empty[0]):
                    empty[:] = [one]

        found = heapq.nsmallest(LOOK_AHEAD, candidates(), key=_age)
        self._tell_folders(unreadable)
        self._look_at_empty(empty[0] if empty else None, now_s)
        before = self._waiting
        self._waiting = {one.name: self._seen(one, before.get(one.name), now_s) for one in found}
        return [one for one in found if now_s - self._waiting[one.name].since_s >= self._settle_s]

    def again(self, arrival: Arrival, now_s: float) -> int:
        """Let a file that cannot be read be complete only later; return how often that was so."""
        waiting = self._waiting.setdefault(arrival.name, _Waiting(arrival.sight, now_s))
        waiting.since_s = now_s
        waiting.tries += 1
        return waiting.tries

    def forget(self) -> None:
        """Begin anew: nobody knows what happened to the files meanwhile."""
        self._waiting.clear()

    def _seen(self, one: Arrival, before: _Waiting | None, now_s: float) -> _Waiting:
        return before if before is not None and before.sight == one.sight else _Waiting(one.sight, now_s)

    def _files(self, unreadable: dict[str, str]) -> Iterator[Arrival]:
        """Yield the picture files in no order; note which sub-folders cannot be read, and why."""
        folders = [""]
        while folders:
            at = folders.pop()
            try:
                with os.scandir(self._folder / at) as entries:
                    for entry in entries:
                        if entry.name.startswith(".") or (not at and entry.name in (DONE, FAILED)):
                            continue
                        if entry.is_dir(follow_symlinks=False):
                            folders.append(f"{at}{entry.name}/")
                        elif (sight := _sight(entry)) is not None:
                            yield Arrival(f"{at}{entry.name}", sight)
            except OSError as error:
                if not at:
                    raise
                if not isinstance(error, FileNotFoundError):  # it was taken away meanwhile
                    unreadable[at] = error.strerror or str(error)

    def _tell_folders(self, unreadable: dict[str, str]) -> None:
        """Say once of each sub-folder that it cannot be read."""
        for at, why in unreadable.items():
            if self._unreadable.get(at) != why:
                what = "cannot be read: %s: let the agent's user read it; the others are inspected"
                log.warning(f"camera: %r below %s: {what}", at, self._folder, why)
        self._unreadable = unreadable

    def _look_at_empty(self, oldest: Arrival | None, now_s: float) -> None:
        """Warn once of a file that stays empty."""
        before, self._empty = self._empty, None
        if oldest is None:
            self._told_empty = False
            return
        since_s = before[1] if before is not None and before[0] == oldest else now_s
        self._empty = oldest, since_s
        if not self._told_empty and now_s - since_s >= _EMPTY_TIMES * self._settle_s:
            self._told_empty = True
            what = "stays empty: it is left there: look at who writes it"
            log.warning(f"camera: %r below %s {what}", oldest.name, self._folder)


def sight_of(path: Path) -> Sight | None:
    """Return a file as it is now; None where it is no regular file.

    Raises:
        OSError: it is not there, or cannot be looked at.
    """
    found = path.lstat()
    return Sight(found.st_size, found.st_mtime_ns) if stat.S_ISREG(found.st_mode) else None


def _sight(entry: os.DirEntry[str]) -> Sight | None:
    """Return a picture file as it is now; None where it is none, no regular file, or was taken away."""
    if PurePath(entry.name).suffix.lower() not in SUFFIXES:
        return None
    try:
        if not entry.is_file(follow_symlinks=False):
            return None
        found = entry.stat(follow_symlinks=False)
    except FileNotFoundError:
        return None
    return Sight(found.st_size, found.st_mtime_ns)


def _age(one: Arrival) -> tuple[int, str]:
    return one.sight.mtime_ns, one.name
