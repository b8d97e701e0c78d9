"""A video file as a camera."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from threading import Event

import cv2

from camera.frame import CameraError, Capture, Fault, Image
from camera.settings import OpenCVCamera
from camera.source import SourceStats, file_id, is_text, paced, stamp
from camera.video import Video, VideoError, find_backend


class Clip:
    """A video file: at its recorded pace it is live, like a camera; at full pace it waits for the inspector.

    It ends where its pictures end, whatever its header says. A file without one readable picture gives
    one capture with the fault UNREADABLE.

    Raises:
        CameraError: there is no such file, or OpenCV was built without the back end.
    """

    def __init__(self, settings: OpenCVCamera) -> None:
        self._settings = settings
        self._backend = find_backend(settings)
        # From the root, or FFmpeg takes what stands before a colon in the name for a protocol.
        self._path = Path(settings.source.get_secret_value()).absolute()
        if not self._path.is_file():
            raise CameraError(f"{settings.label}: no such video file: name one, or a camera")
        if not is_text(self._path):  # OpenCV ends the process at such a name
            raise CameraError(f"{file_id(self._path)}: its name is not UTF-8: give it another")
        self._stats = SourceStats(connected=True)  # written by the iterating thread only

    @property
    def live(self) -> bool:
        """Whether the clip plays at its recorded pace."""
        return self._settings.pace == "recorded"

    @property
    def stats(self) -> SourceStats:
        """The counters as they are now."""
        return self._stats

    def captures(self, stop: Event) -> Iterator[Capture]:
        """Yield the pictures, each with ``<file>#<index>`` as its part id, the first index 0."""
        name = file_id(Path(self._path.name))
        while True:
            read, wrong = 0, ""
            try:
                for index, image in self._play(stop):
                    read += 1
                    self._stats = replace(self._stats, frames=self._stats.frames + 1)
                    yield stamp(image, part_id=f"{name}#{index}")
            except VideoError as error:
                wrong = str(error)
            if stop.is_set():
                return
            if not read or wrong:
                detail = f"{self._path}: {wrong or 'no readable picture'}"
                yield stamp(part_id=name, fault=Fault.UNREADABLE, detail=detail)
            if wrong or not (self._settings.loop and read):
                return

    def _play(self, stop: Event) -> Iterator[tuple[int, Image]]:
        """Yield index and picture from beginning to end, no more than `fps` per second of the clip."""
        video = Video(str(self._path), self._backend)
        try:
            for index in paced(self._grabbed(video, stop), stop, catch_up=True):
                if (picture := video.picture()) is not None:
                    yield index, picture
        finally:
            video.release()

    def _grabbed(self, video: Video, stop: Event) -> Iterator[tuple[float, int]]:
        """Yield when a picture is due, 0 where it does not matter, and its index; `video` stands at it."""
        every_s = 1 / self._settings.fps if self._settings.fps else 0.0
        period_s = 1 / (video.get(cv2.CAP_PROP_FPS) or 25.0)
        index, at_s, due_s = 0, 0.0, 0.0
        while not stop.is_set() and video.grab():
            # The clip's own timestamps count; where they stand still, its nominal rate.
            stamped_s = video.get(cv2.CAP_PROP_POS_MSEC) / 1000
            if index == 0:
                at_s = due_s = stamped_s
            else:
                at_s = stamped_s if stamped_s > at_s else at_s + period_s
            # Half a period early is on time: timestamps are rounded.
            if at_s >= due_s - period_s / 2:
                due_s += every_s
                yield (at_s if self.live else 0.0), index
            index += 1
