"""Ballast: a file that takes space while there is plenty, to be thrown off when the disk is full.

On a full disk SQLite cannot even delete: its log needs space first.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path

NAME = "ballast"


class ReservedSpace:
    """Owns the file; the publisher's thread alone uses it.

    Args:
        data: the data folder.
    """

    def __init__(self, data: Path) -> None:
        self._path = data / NAME

    @property
    def size(self) -> int:
        """How many bytes it would give back; 0 where it was thrown off."""
        try:
            return self._path.stat().st_size
        except FileNotFoundError:
            return 0

    def throw_off(self) -> int:
        """Give its space back and return how much that was."""
        size = self.size
        self._path.unlink(missing_ok=True)
        return size

    def take_on(self, size: int, disk_free: int, floor: int) -> None:
        """Take `size` bytes where as much again is left above the floor; at another size, take it anew.

        Raises:
            OSError: the disk fails; that it is full is no error, the next call tries again.
        """
        if self.size == size:
            return
        disk_free += self.throw_off()
        if size == 0 or disk_free < floor + 2 * size:
            return
        try:
            with self._path.open("wb") as file:
                # Really taken, on file systems that keep holes too.
                os.posix_fallocate(file.fileno(), 0, size)
                os.fsync(file.fileno())
        except OSError as error:
            self._path.unlink(missing_ok=True)
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
