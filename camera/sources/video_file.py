"""A video file as a camera."""

from __future__ import annotations

import logging
from collections.abc import Generator, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Event

import cv2

from camera.core.frame import CameraError, Capture, Fault, Image
from camera.core.settings import OpenCVCamera
from camera.core.source import SourceStats, file_id, is_text, paced, stamp
from camera.sources.clip_time import ClipTime
from camera.sources.decode_errors import DecodeErrors, grab_next
from camera.sources.opencv_reader import Video, VideoError, find_backend

log = logging.getLogger(__name__)

DAMAGED = "damaged: a decode error in it or in a picture that it builds on"


@dataclass(slots=True)
class _Play:
    """One time that the clip is played, from beginning to end; owned by the iterating thread.

    Attributes:
        errors: tells which pictures are damaged; None where `told` says it, or nobody does.
        told: a byte for each picture: 1 if it is damaged, 0 if not; as far as that is known.
        damaged: whether the picture at hand is.
        promised: how many pictures the header promises.
    """

    video: Video
    time: ClipTime
    errors: DecodeErrors | None
    told: bytearray
    damaged: bool = False
    promised: float = 0.0


class VideoFile:
    """A video file: at its recorded pace it is live, like a camera; at full pace it waits for the inspector.

    It ends where its pictures end. What is missing then of what its header promises is one more capture with
    the fault UNREADABLE, the first time that it is played; so is a file without one readable picture. A
    picture that is damaged, as far as FFmpeg notices, is a capture with that fault too.

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
        told: bytearray | None = None
        while True:
            told = yield from self._played(told, stop)
            if stop.is_set() or told is None or not self._settings.loop:
                return

    def _played(self, told: bytearray | None, stop: Event) -> Generator[Capture, None, bytearray | None]:
        """Yield what the clip gives once; return which pictures are damaged, None where it is not to go on.

        Args:
            told: what this returned when the clip was played before.
            stop: ends it.
        """
        name = file_id(Path(self._path.name))
        read, play = 0, None
        try:
            play = self._open(told)
            for index, image in self._pictures(play, stop):
                read += image is not None
                yield self._capture(f"{name}#{index}", index, image, damaged=play.damaged)
        except VideoError as error:
            if not stop.is_set():
                yield self._unreadable(name, str(error))
            return None
        finally:
            if play is not None:
                _close(play)
        if stop.is_set():
            return None
        if not read:
            yield self._unreadable(name, "no readable picture")
            return None
        if told is None:
            yield from self._missing(name, play)
        return play.told

    def _missing(self, name: str, play: _Play) -> Iterator[Capture]:
        if gaps := play.time.gaps():
            log.warning("clip %s: %s", self._path, gaps)
        if missing := play.time.missing(play.promised):
            yield self._unreadable(name, missing)

    def _open(self, told: bytearray | None) -> _Play:
        """Open the clip; which pictures are damaged is known from playing it before, or found out."""
        video = Video(str(self._path), self._backend)
        time, promised = ClipTime(video.get(cv2.CAP_PROP_FPS)), video.get(cv2.CAP_PROP_FRAME_COUNT)
        errors = None
        if told is None and self._backend == cv2.CAP_FFMPEG and video.is_open():
            try:
                errors = DecodeErrors(self._path)
            except OSError as error:
                self._say_blind(str(error.strerror or error))
        return _Play(video, time, errors, bytearray() if told is None else told, promised=promised)

    def _pictures(self, play: _Play, stop: Event) -> Iterator[tuple[int, Image | None]]:
        """Yield index and picture, None where it is no good, no more than `fps` per second of the clip."""
        for index in paced(self._grabbed(play, stop), stop, catch_up=True):
            yield index, None if play.damaged else play.video.picture()

    def _grabbed(self, play: _Play, stop: Event) -> Iterator[tuple[float, int]]:
        """Yield when a picture is due, 0 where it does not matter, and its index; the video stands at it."""
        every_s = 1 / self._settings.fps if self._settings.fps else 0.0
        time, due_s = play.time, 0.0
        while not stop.is_set() and grab_next(play.video.grab) is not None:
            time.next(play.video.get(cv2.CAP_PROP_POS_MSEC) / 1000)
            self._examine(play)
            if self.live and time.skipped_s:
                log.warning(
                    "clip %s: its time stamps jump by %.1f s before picture %d: it waits %.1f s",
                    self._path, time.step_s, time.pictures - 1, time.step_s - time.skipped_s,
                )  # fmt: skip
            # Half a step early is on time: time stamps are rounded.
            if time.at_s >= due_s - min(time.period_s, time.step_s) / 2:
                # The next one is due an interval after this was; what was missed is not made up for.
                late_s = time.at_s - due_s
                due_s = time.at_s + every_s - (late_s if late_s < every_s else 0.0)
                yield (time.play_s if self.live else 0.0), time.pictures - 1

    def _examine(self, play: _Play) -> None:
        """Learn whether the picture that was grabbed is damaged."""
        index = play.time.pictures - 1
        if play.errors is not None:
            damaged = play.errors.next()
            if damaged is None:
                self._say_blind("the process that looks for them ended or hangs")
                play.errors.close()
                play.errors = None
            play.told.append(bool(damaged))
        play.damaged = index < len(play.told) and bool(play.told[index])

    def _capture(self, part_id: str, index: int, image: Image | None, *, damaged: bool) -> Capture:
        if image is None:
            why = DAMAGED if damaged else "cannot be decoded"
            return self._unreadable(part_id, f"picture {index}: {why}")
        self._stats = replace(self._stats, frames=self._stats.frames + 1)
        return stamp(image, part_id=part_id)

    def _unreadable(self, part_id: str, why: str) -> Capture:
        return stamp(part_id=part_id, fault=Fault.UNREADABLE, detail=f"{self._path}: {why}")

    def _say_blind(self, why: str) -> None:
        log.warning("clip %s: damaged pictures are not noticed: %s", self._path, why)


def _close(play: _Play) -> None:
    if play.errors is not None:
        play.errors.close()
    play.video.release()
