"""Where a file of a watched folder goes when it is done."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Final, Literal

from camera.watched_folder.arrivals import DONE, FAILED

_REMEMBERED: Final = 10_000


class PutAway:
    """Moves files into `done/` and `failed/` below the watched folder, or deletes them. Used by one thread.

    Nothing is overwritten: a name that is taken gets a number, ``part-1.png``.

    Args:
        folder: the watched one.
        when_done: ``move``, or ``delete`` what was inspected; what could not be read is moved in any case.
    """

    def __init__(self, folder: Path, when_done: Literal["move", "delete"]) -> None:
        self._folder = folder
        self._delete = when_done == "delete"
        self._taken: dict[Path, int] = {}  # the last number of a name, so that nobody has to count again

    def __call__(self, name: str, *, failed: bool) -> None:
        """Put a file away.

        Raises:
            OSError: it is where it was.
        """
        if self._delete and not failed:
            (self._folder / name).unlink()
            return
        target = self.target(name, failed=failed)
        self._make(target.parent)
        (self._folder / name).rename(self._free(target))

    def target(self, name: str, *, failed: bool) -> Path:
        """Return where a file is to go."""
        return self._folder / (FAILED if failed else DONE) / PurePosixPath(name)

    def _make(self, folder: Path) -> None:
        """Make a folder with the permissions of the watched one, for whoever works with its files."""
        if folder == self._folder or folder.is_dir():
            return
        self._make(folder.parent)
        folder.mkdir(exist_ok=True)
        with suppress(PermissionError):  # of some network shares, which have permissions of their own
            folder.chmod(self._folder.stat().st_mode & 0o2777)

    def _free(self, target: Path) -> Path:
        """Return the target, or the first name behind it that seems free."""
        if not os.path.lexists(target):
            return target
        last = self._taken.pop(target, 0)
        step = 1
        while os.path.lexists(_numbered(target, last + step)):
            last += step
            step *= 2  # a camera that always writes the same name has left thousands
        while step > 1:
            step //= 2
            if os.path.lexists(_numbered(target, last + step)):
                last += step
        if len(self._taken) >= _REMEMBERED:
            self._taken.clear()
        self._taken[target] = last + 1
        return _numbered(target, last + 1)


def _numbered(target: Path, number: int) -> Path:
    return target.with_name(f"{target.stem}-{number}{target.suffix}")
