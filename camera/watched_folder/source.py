"""A watched folder as a camera: what others put into it is inspected once it is complete, then put away."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from threading import Event
from typing import Final

from camera.core.frame import CameraError, Capture, Fault, Image
from camera.core.kept_region import kept_region
from camera.core.settings import FolderCamera, Watch
from camera.core.source import SourceStats, file_id, stamp
from camera.pictures.images import UnreadableImage, read_image
from camera.watched_folder.arrivals import Arrival, Arrivals, Sight, sight_of
from camera.watched_folder.done_ledger import DoneFile
from camera.watched_folder.finished import Finished
from camera.watched_folder.presence import Presence, folder_problem

IN_FLIGHT: Final = 1000
"""Pictures that may wait for their results to be stored; then no further one is read."""
TRIES: Final = 3
"""How often a file is read, each time after it has settled, before it is unreadable."""
LEAVE_S: Final = 5.0
HANGS_S: Final = 30.0
"""Longer than any look at a folder takes; a share whose server is gone may keep a thread for ever."""
_STEP_S: Final = 0.1
_SCAN_SHARE: Final = 3.0
"""Looking at a large folder takes a quarter of the time at most."""

log = logging.getLogger(__name__)


class HotFolder:
    """Gives each file once; a file is done when its result is stored, and only then it is put away.

    At most 1000 pictures wait for their results; then the files wait in the folder, where nothing is lost.

    Owned by the thread that iterates: it looks at the folder, reads, and puts away. Receipts may be answered
    by any thread. At the end it waits 5 s at most for the results of what it gave.

    Args:
        settings: of the camera.
        watch: of it.
        keep: a folder of our own for what is done and cannot be moved. None: the files are only looked at,
            and given once each.

    Raises:
        CameraError: the folder is missing, or what is done was written by a newer release.
    """

    live = False

    def __init__(self, settings: FolderCamera, watch: Watch, keep: Path | None) -> None:
        self._settings, self._watch = settings, watch
        self._folder = Path(settings.path)
        self._presence = Presence(self._folder)
        if (problem := self._presence.problem()) is not None:
            raise CameraError(problem)
        self._keep = keep
        self._finished = self._fresh()
        self._arrivals = Arrivals(self._folder, watch.settle_s)
        self._ready: deque[Arrival] = deque()
        self._in_flight: dict[str, Arrival] = {}
        self._answers: deque[tuple[Arrival, DoneFile | None]] = deque()  # None: there is no result
        self._woken = Event()
        self._scan_at = 0.0
        self._busy_since_s: float | None = None  # with files, which may hang
        self._noted = False  # what is odd is told of the first file
        self._stats = SourceStats(connected=True)  # written by the iterating thread only

    @property
    def stats(self) -> SourceStats:
        """The counters as they are now."""
        since_s = self._busy_since_s
        if since_s is None or time.monotonic() - since_s < HANGS_S:
            return self._stats
        problem = f"{self._folder}: does not answer: look at its disk and its network"
        return replace(self._stats, connected=False, problem=problem)

    def captures(self, stop: Event) -> Iterator[Capture]:
        """Yield one capture per file, `fps` of them a second at most, until `stop`."""
        self._finished = self._fresh()  # whoever had the folder before us may have worked since we were made
        try:
            yield from self._until(stop)
        finally:
            self._leave()

    def _fresh(self) -> Finished:
        return Finished(self._folder, self._presence, self._watch.when_done, self._keep)

    def _until(self, stop: Event) -> Iterator[Capture]:
        gap_s, due_s = 1 / self._settings.fps if self._settings.fps else 0.0, 0.0
        while not stop.is_set():
            now_s = self._busy_since_s = time.monotonic()
            self._settle()
            capture = self._look(now_s) if now_s >= self._scan_at else None
            offline = capture is not None
            if capture is None and now_s >= due_s and len(self._in_flight) < IN_FLIGHT:
                capture = self._next(stop)
            self._busy_since_s = None
            if capture is None:
                left_s = due_s - now_s
                self._woken.wait(min(_STEP_S, self._watch.poll_s, left_s if left_s > 0 else _STEP_S))
                self._woken.clear()
                continue
            if not offline:
                due_s = (due_s if now_s - due_s < gap_s else now_s) + gap_s
            yield capture

    def _leave(self) -> None:
        """Put away what is stored of what was given; the rest is given again by whoever comes after us."""
        until_s = time.monotonic() + LEAVE_S
        self._settle()
        while self._in_flight and time.monotonic() < until_s:
            self._woken.wait(_STEP_S)
            self._woken.clear()
            self._settle()

    # What comes.

    def _look(self, now_s: float) -> Capture | None:
        """Look which files are complete; return a capture where the folder is gone since the last time."""
        problem = self._presence.problem()
        if problem is None:
            self._finished.begin_scan()
            try:
                self._ready = deque(self._arrivals.scan(now_s, self._known))
            except OSError as error:
                problem = folder_problem(self._folder, error)
        took_s = time.monotonic() - now_s
        self._scan_at = time.monotonic() + max(self._watch.poll_s, _SCAN_SHARE * took_s)
        if problem is not None:
            return self._gone(problem)
        if self._arrivals.whole:
            self._finished.end_scan()
        if not self._stats.connected:
            log.info("camera: %s is back", self._folder)
            self._stats = replace(
                self._stats, connected=True, problem=None, reconnects=self._stats.reconnects + 1
            )
        return None

    def _gone(self, problem: str) -> Capture | None:
        self._ready.clear()
        self._arrivals.forget()
        told, self._stats = not self._stats.connected, replace(self._stats, connected=False, problem=problem)
        return None if told else stamp(fault=Fault.CAMERA_OFFLINE, detail=problem)

    def _known(self, name: str, sight: Sight) -> bool:
        """Whether nothing is to be done about a file."""
        done = self._finished.known(name, sight)
        return done or name in self._in_flight

    def _next(self, stop: Event) -> Capture | None:
        """Return the next file that can be given; None where there is none now."""
        while self._ready and not stop.is_set():
            self._busy_since_s = time.monotonic()
            arrival = self._ready.popleft()
            capture = self._capture(arrival)
            if capture is not None:
                if self._keep is None:  # nobody will tell
                    self._finished.add({arrival: DoneFile(arrival.sight)})
                else:
                    self._in_flight[arrival.name] = arrival
                return capture
        return None

    def _capture(self, arrival: Arrival) -> Capture | None:
        """Read a file; None where it has changed, is gone, or is to be read once more."""
        path = self._folder / arrival.name
        receipt = None if self._keep is None else _Receipt(self, arrival)
        part_id = file_id(PurePosixPath(arrival.name))
        try:
            image = self._read(path, arrival.sight)
            kept = kept_region(path)
        except (FileNotFoundError, _Changed):
            log.debug("camera: %r below %s has changed or is gone", arrival.name, self._folder)
            return None
        except (OSError, UnreadableImage) as error:
            if self._presence.problem() is not None:
                self._scan_at = 0.0  # it is not the file
                return None
            if self._arrivals.again(arrival, time.monotonic()) < TRIES:
                return None
            detail = str(error).replace(str(path), repr(part_id))
            return stamp(part_id=part_id, fault=Fault.UNREADABLE, detail=detail, receipt=receipt)
        self._stats = replace(self._stats, frames=self._stats.frames + 1)
        return stamp(image, part_id=part_id, kept=kept, receipt=receipt)

    def _read(self, path: Path, sight: Sight) -> Image:
        """Return the picture that was seen in the folder, and no other one."""
        if sight_of(path) != sight:
            raise _Changed
        try:
            image = read_image(path, self._settings.bit_depth, self._note)
        finally:
            if sight_of(path) != sight:  # also where half of it could not be read
                raise _Changed
        return image

    def _note(self, text: str) -> None:
        if not self._noted:
            log.warning("camera: %s", text)
        self._noted = True

    # What is done.

    def _answer(self, arrival: Arrival, done: DoneFile | None) -> None:
        """Take over what became of a capture; from any thread."""
        self._answers.append((arrival, done))
        self._woken.set()

    def _settle(self) -> None:
        """Put away what is stored, and let go of what was lost."""
        stored: dict[Arrival, DoneFile] = {}
        while self._answers:
            arrival, done = self._answers.popleft()
            self._in_flight.pop(arrival.name, None)
            if done is not None:
                stored[arrival] = done
        self._finished.add(stored)
        self._finished.turn(time.monotonic())
        if self._finished.trouble != self._stats.trouble:
            self._stats = replace(self._stats, trouble=self._finished.trouble)


@dataclass(frozen=True, slots=True, eq=False)
class _Receipt:
    """Hands on to the folder what became of a capture; see `camera.core.frame.Receipt`."""

    folder: HotFolder
    arrival: Arrival

    def stored(self, fault: Fault | None) -> None:
        self.folder._answer(self.arrival, DoneFile(self.arrival.sight, fault is Fault.UNREADABLE))

    def lost(self) -> None:
        self.folder._answer(self.arrival, None)


class _Changed(Exception):
    """A file is no longer the one that was seen."""
