"""A folder of pictures as a camera."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Iterator
from dataclasses import replace
from itertools import cycle
from pathlib import Path
from threading import Event
from typing import Final

from camera.core.frame import CameraError, Capture, Fault
from camera.core.kept_region import MAP_SUFFIX, kept_region
from camera.core.settings import FolderCamera
from camera.core.source import SourceStats, file_id, paced, stamp
from camera.pictures.images import SUFFIXES, UnreadableImage, read_image
from camera.watched_folder.presence import Presence

_AGAIN_S: Final = 1.0

log = logging.getLogger(__name__)


class Folder:
    """The pictures that lie in a folder when it is opened, sub-folders included, in the order of their names.

    A file that cannot be read is a capture with the fault UNREADABLE; the next one follows. Where the folder
    itself is gone, one capture says CAMERA_OFFLINE; once it is back, the same file is read again.

    Raises:
        CameraError: the folder is missing, or holds no picture.
    """

    live = False

    def __init__(self, settings: FolderCamera) -> None:
        self._settings = settings
        self._folder = Path(settings.path)
        self._files = picture_files(self._folder)
        self._presence = Presence(self._folder)
        self._presence.problem()
        self._noted = False  # what is odd is told of the first file
        self._stats = SourceStats(connected=True)  # written by the iterating thread only

    @property
    def stats(self) -> SourceStats:
        """The counters as they are now."""
        return self._stats

    def captures(self, stop: Event) -> Iterator[Capture]:
        """Yield one capture per file, `fps` of them a second where that is set."""
        files = cycle(self._files) if self._settings.loop else self._files
        fps = self._settings.fps or math.inf
        for path in paced(((index / fps, path) for index, path in enumerate(files)), stop):
            capture = self._capture(path)
            while capture.fault is not None and (problem := self._presence.problem()) is not None:
                self._stats = replace(self._stats, connected=False, problem=problem)
                yield stamp(fault=Fault.CAMERA_OFFLINE, detail=problem)
                if not self._is_back(stop):
                    return
                capture = self._capture(path)
            yield capture

    def _is_back(self, stop: Event) -> bool:
        """Wait until the folder is there again; False where `stop` came first."""
        while self._presence.problem() is not None:
            if stop.wait(_AGAIN_S):
                return False
        log.info("camera: %s is back", self._folder)
        again = self._stats.reconnects + 1
        self._stats = replace(self._stats, connected=True, problem=None, reconnects=again)
        return True

    def _capture(self, path: Path) -> Capture:
        part_id = file_id(path.relative_to(self._folder))
        try:
            image = read_image(path, self._settings.bit_depth, self._note)
        except UnreadableImage as error:
            return stamp(part_id=part_id, fault=Fault.UNREADABLE, detail=str(error))
        self._stats = replace(self._stats, frames=self._stats.frames + 1)
        return stamp(image, part_id=part_id, kept=kept_region(path))

    def _note(self, text: str) -> None:
        if not self._noted:
            log.warning("camera: %s", text)
        self._noted = True


def picture_files(folder: Path) -> tuple[Path, ...]:
    """Return the picture files below `folder`, sorted; hidden ones and maps of kept pictures are left out.

    Raises:
        CameraError: the folder is missing, or holds no picture.
    """
    if not folder.is_dir():
        raise CameraError(f"{folder}: no such folder: name one that holds pictures")
    found = []
    for at, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        paths = [Path(at, name) for name in names if not name.startswith(".")]
        # Only regular files: to open a pipe would wait for somebody to write into it.
        found += [path for path in paths if path.suffix.lower() in SUFFIXES and path.is_file()]
    found = [path for path in found if not _is_map(path)]
    if not found:
        raise CameraError(f"{folder}: no picture in it: add some that end in {', '.join(sorted(SUFFIXES))}")
    return tuple(sorted(found))


def _is_map(path: Path) -> bool:
    """Whether a file is the drawing beside a picture that an agent kept."""
    name = path.name
    return name.endswith(MAP_SUFFIX) and path.with_name(name.removesuffix(MAP_SUFFIX) + ".jpg").is_file()
