"""Whether a folder of pictures is there now: a share may be unmounted while the line runs."""

from __future__ import annotations

import os
from pathlib import Path


class Presence:
    """Remembers whether the folder is a mount point: without its share it would be there, but empty.

    Used by one thread.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._mounted = False

    def problem(self) -> str | None:
        """Return why nothing can be read in the folder now, without a full stop; None where it is there."""
        try:
            mounted = self._folder.is_mount()
            if self._mounted and not mounted:
                return f"{self._folder}: nothing is mounted there any more: mount it again"
            with os.scandir(self._folder):
                self._mounted = mounted
        except OSError as error:
            return folder_problem(self._folder, error)
        return None


def folder_problem(folder: Path, error: OSError) -> str:
    """Return in words that `folder` cannot be read because of `error`."""
    if isinstance(error, FileNotFoundError):
        return f"{folder}: no such folder: mount it, or make it again"
    why = error.strerror or error
    return f"{folder}: cannot be read: {why}: look at its disk, its network and who may read it"
