"""Cameras and streams that OpenCV reads: USB, RTSP, HTTP, GStreamer.

Every open and read has a time-out, given to the back end before it opens. FFmpeg keeps to them (a
silent RTSP server is given up after 1.0 s of 1.0 s), GStreamer too, V4L2 through its select(). A read
that hangs beyond that, in a driver, cannot be interrupted from Python, nor could a subprocess that is
stuck in the kernel be killed. So the blocking calls live in a reader thread of their own: the camera is
reported offline on time, `stop` is obeyed on time, and as a daemon the reader never keeps the process.
"""

from __future__ import annotations

import logging
import math
import random
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from threading import Condition, Event, Thread, current_thread

from camera.core.frame import Capture, Fault
from camera.core.settings import OpenCVCamera, Reconnect
from camera.core.source import SourceStats, stamp
from camera.sources.opencv_reader import VideoError, find_backend, open_camera
from camera.sources.reach import why_not

GRACE_S = 1.0
STOP_CHECK_S = 0.2

log = logging.getLogger(__name__)


class Camera:
    """A camera has no end: when it is lost it is reported once and opened again for ever.

    Pictures wait for the iterating thread in one place where the newest wins, so that a slow one looks at
    the present and not at what the network has buffered; the losses are counted.

    Owns a reader thread while `captures` runs. `_changed` guards all that both threads touch.

    Raises:
        CameraError: OpenCV was built without the back end.
    """

    live = True

    def __init__(self, settings: OpenCVCamera) -> None:
        self._settings = settings
        self._backend = find_backend(settings)
        self._changed = Condition()
        self._stats = SourceStats()
        self._waiting: deque[Capture] = deque(maxlen=4)
        self._error: BaseException | None = None
        self._blocked_until_s = math.inf  # when the reader must be back from OpenCV
        self._lost = False  # the present loss has been reported

    @property
    def stats(self) -> SourceStats:
        """The counters as they are now."""
        with self._changed:
            return self._stats

    def captures(self, stop: Event) -> Iterator[Capture]:
        """Yield the newest picture again and again; one CAMERA_OFFLINE for each loss."""
        quit_reader = Event()
        name = f"{current_thread().name}-reader"
        reader = Thread(target=self._run, args=(quit_reader,), name=name, daemon=True)
        reader.start()
        try:
            while not stop.is_set():
                capture = self._take()
                if capture is not None:
                    yield capture
        finally:
            quit_reader.set()
            # The usual end is after one picture. A stuck reader is left behind.
            reader.join(max(self._settings.open_timeout_s, self._settings.read_timeout_s) + GRACE_S)
            if reader.is_alive():
                log.warning("camera %s: still blocked in its driver, left behind", self._settings.label)

    def _take(self) -> Capture | None:
        """Return what waits, or None after `STOP_CHECK_S`; raise what ended the reader."""
        with self._changed:
            if not self._waiting and self._error is None:
                self._changed.wait(STOP_CHECK_S)
            if time.monotonic() > self._blocked_until_s:
                self._report("hangs in its driver", stalled=True)
            if self._waiting:
                return self._waiting.popleft()
            if self._error is not None:
                raise self._error
            return None

    # From here on: the reader thread.

    def _run(self, quit_reader: Event) -> None:
        try:
            delays = backoff(self._settings.reconnect)
            while not quit_reader.is_set():
                try:
                    if self._read(quit_reader):
                        delays = backoff(self._settings.reconnect)
                except VideoError as error:
                    self._lose(str(error), stalled=False)
                delay_s = next(delays)
                log.debug("camera %s: offline, trying again in %.1f s", self._settings.label, delay_s)
                quit_reader.wait(delay_s)
        except BaseException as error:  # noqa: BLE001 - raised again in the thread that iterates
            with self._changed:
                self._error = error
                self._changed.notify_all()

    def _read(self, quit_reader: Event) -> bool:
        """Open the camera and read until it is lost; return whether there was a picture."""
        settings = self._settings
        self._must_return_in(settings.open_timeout_s)
        video = open_camera(settings, self._backend)
        period_s = 1 / settings.fps if settings.fps else 0.0
        read, due_s = False, 0.0
        try:
            while not quit_reader.is_set():
                asked_s = self._must_return_in(settings.read_timeout_s)
                if not video.is_open():
                    self._lose(self._unopened(), stalled=False)
                    break
                if not video.grab():
                    silent_s = time.monotonic() - asked_s
                    stalled = silent_s >= 0.9 * settings.read_timeout_s
                    self._lose(f"no picture for {silent_s:.1f} s" if stalled else "hung up", stalled=stalled)
                    break
                now_s = time.monotonic()
                if now_s < due_s:
                    continue
                due_s = max(due_s, now_s - period_s) + period_s
                if (picture := video.picture()) is not None:
                    read = True
                    self._deliver(stamp(picture))
        finally:
            self._must_return_in(settings.open_timeout_s)
            video.release()
            self._must_return_in(math.inf)
        return read

    def _unopened(self) -> str:
        """Say that the camera cannot be opened, and why, once for each loss."""
        address = self._settings.address
        with self._changed:
            known = self._lost
        if known or address is None:
            return "cannot be opened"
        limit_s = self._settings.open_timeout_s
        self._must_return_in(2 * limit_s)
        why = why_not(address, limit_s)
        return f"cannot be opened: {why}" if why else "cannot be opened"

    def _must_return_in(self, limit_s: float) -> float:
        """Say how long the next call into OpenCV may take; return the time."""
        now_s = time.monotonic()
        with self._changed:
            self._blocked_until_s = now_s + limit_s + GRACE_S
        return now_s

    def _deliver(self, capture: Capture) -> None:
        with self._changed:
            stats = self._stats
            if self._waiting and self._waiting[-1].image is not None:
                self._waiting.pop()
                stats = replace(stats, dropped=stats.dropped + 1)
            self._waiting.append(capture)
            returned = self._lost
            self._lost = False
            self._stats = replace(
                stats, connected=True, frames=stats.frames + 1, reconnects=stats.reconnects + returned
            )
            self._changed.notify_all()
        if returned:
            log.info("camera %s: back", self._settings.label)

    def _lose(self, what: str, *, stalled: bool) -> None:
        with self._changed:
            self._report(what, stalled=stalled)

    def _report(self, what: str, *, stalled: bool) -> None:
        """Report a loss, once until the next picture. Needs `_changed`."""
        if self._lost:
            return
        self._lost = True
        self._stats = replace(self._stats, connected=False, stalls=self._stats.stalls + stalled)
        detail = f"{self._settings.label}: {what}"
        self._waiting.append(stamp(fault=Fault.CAMERA_OFFLINE, detail=detail))
        self._changed.notify_all()


def backoff(reconnect: Reconnect) -> Iterator[float]:
    """Yield seconds to wait: doubling up to `max_s`, each shortened by up to `jitter` of itself."""
    delay_s = min(reconnect.initial_s, reconnect.max_s)
    while True:
        # Cameras lost together, by a switch say, must not all knock at the same time.
        yield delay_s * random.uniform(1 - reconnect.jitter, 1)  # noqa: S311 - no secret
        delay_s = min(2 * delay_s, reconnect.max_s)
