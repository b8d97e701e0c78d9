"""A recording as the camera of a replay: every capture at the time at which it was recorded, none lost."""

from __future__ import annotations

import json
from collections.abc import Generator, Iterator
from itertools import islice
from threading import Event
from typing import Final

from pydantic import TypeAdapter

from adapters.core.protocol import Preprocess
from agent.inspection.feed_factory import open_feed
from camera.core.frame import Capture, Fault, Frame
from camera.core.settings import CameraSettings, FolderCamera, OpenCVCamera, SimulatedCamera
from camera.core.source import SourceStats
from camera.feed.mailbox import Mailbox
from camera.feed.view import FeedSettings
from camera.recording.reader import Entry, Recording, RecordingError
from camera.simulation.source import SimulatedLine

_TAKE_S: Final = 0.5
_LEAVE_S: Final = 10.0


class RecordedSource:
    """What a recording holds, as fast as it is taken, with the recorded times.

    Owned by the feed's thread. A picture that is missing or damaged is a capture with the fault UNREADABLE,
    as when it is played.

    Attributes:
        live: whether the camera was: then one that went on sending the same picture was frozen.
    """

    def __init__(self, recording: Recording) -> None:
        self.live = _was_live(recording)
        self._recording = recording

    @property
    def stats(self) -> SourceStats:
        """Nothing is counted: nobody watches a replay's camera."""
        return SourceStats(connected=True)

    def captures(self, stop: Event) -> Iterator[Capture]:
        """Yield every capture until the end, or until `stop`."""
        for entry in self._recording.entries:
            if stop.is_set():
                return
            yield self._capture(entry)

    def _capture(self, entry: Entry) -> Capture:
        try:
            return self._recording.capture(entry)
        except RecordingError as error:
            plain = (entry.captured_at, entry.captured_ns, entry.part_id)
            return Capture(None, *plain, Fault.UNREADABLE, str(error))


class Unhurried(Mailbox):
    """A mailbox in which no frame pushes another one out: who puts waits, a live camera too."""

    def put(self, frame: Frame, stop: Event | None = None) -> None:
        """Wait until the slot is free and put the frame; nothing where `stop` came first."""
        self.put_waiting(frame, stop or Event())


def replayed_frames(
    recording: Recording, name: str, settings: FeedSettings, spec: Preprocess, limit: int | None
) -> Generator[Frame, None, None]:
    """Yield the frames that the station's camera would have given, through the feed that `mekiki run` has.

    The feed works in a thread of its own, a picture ahead; what it gives does not depend on that.

    Args:
        recording: to read.
        name: of the station.
        settings: how its pictures are looked at.
        spec: of the model.
        limit: end after so many; None for all.
    """
    crashes = list[BaseException]()
    mailbox = Unhurried()
    feed = open_feed(name, settings, RecordedSource(recording), mailbox, spec, crashes.append)
    feed.start()
    try:
        yield from islice(_taken(mailbox), limit)
    finally:
        feed.stop()
        mailbox.close()
        feed.join(_LEAVE_S)
    if crashes:
        raise crashes[0]


def simulated_line(recording: Recording) -> SimulatedLine | None:
    """Return the line that was recorded, which knows the truth; None where it was a real one."""
    camera = _camera(recording)
    return SimulatedLine(camera) if isinstance(camera, SimulatedCamera) else None


def _taken(mailbox: Mailbox) -> Iterator[Frame]:
    while not mailbox.ended:
        yield from mailbox.take(1, _TAKE_S)


def _was_live(recording: Recording) -> bool:
    camera = _camera(recording)
    if isinstance(camera, SimulatedCamera | FolderCamera):
        return False
    if isinstance(camera, OpenCVCamera) and camera.medium != "clip":
        return True
    return camera is None or camera.pace == "recorded"


def _camera(recording: Recording) -> CameraSettings | None:
    """Return what was recorded; None where this version does not know such a camera."""
    try:
        written = json.dumps(recording.manifest.camera, allow_nan=False)
        return TypeAdapter[CameraSettings](CameraSettings).validate_json(written)
    except ValueError:  # ValidationError is one, and so is a number that is not finite
        return None
