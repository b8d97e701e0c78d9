"""The thread of one camera: capture -> region -> quality -> model input -> mailbox."""

from __future__ import annotations

import atexit
import logging
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from threading import Event, Lock, Thread
from typing import Protocol
from weakref import WeakSet

from camera.frame import Capture, Fault, Frame, Quality
from camera.mailbox import STOP_CHECK_S, Mailbox
from camera.preprocess import Preprocess, prepare
from camera.quality import FreezeWatch, assess
from camera.region import Region
from camera.settings import QualityLimits, RegionOfInterest
from camera.source import Source

RATE_S = 10.0
LEAVE_S = 10.0

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class FeedStats:
    """How a camera is doing, at one moment.

    Attributes:
        connected: pictures are coming.
        ended: the source, a file, has come to its end.
        fps: captures a second over the last 10 s.
        frames: captures since the start, those without a picture included.
        dropped: pictures that a newer one pushed out before they were inspected.
        reconnects: times that the camera delivered again after it was offline.
        stalls: times that it stayed silent for its read time-out.
        last_fault: why the last capture cannot be judged, or None.
        luma: of the last picture, 0..255.
        sharpness: of the last picture.
        problem: why the camera cannot be opened at all; None where it can.
    """

    station: str
    connected: bool
    ended: bool
    fps: float
    frames: int
    dropped: int
    reconnects: int
    stalls: int
    last_fault: Fault | None
    luma: float | None
    sharpness: float | None
    problem: str | None = None


class Gate(Protocol):
    """Says which pictures of a station are to be inspected; the camera's thread asks."""

    def wait(self, timeout_s: float) -> bool:
        """Wait until a picture is wanted; False after `timeout_s`."""

    def wanted(self, captured_ns: int) -> bool:
        """Whether a picture captured then is wanted."""

    def claim(self, captured_ns: int) -> tuple[str, str | None] | None:
        """Take a usable picture: returns the trigger's id and its part, None where nobody wants it now."""

    def unusable(self, fault: str) -> None:
        """Note that a picture that was wanted cannot be judged."""

    def offline(self, *, offline: bool) -> None:
        """Note that the camera is gone, or gives pictures."""


@dataclass(frozen=True, slots=True)
class FeedSettings:
    """What of a camera's pictures is let through, and how it is looked at.

    Attributes:
        every_s: let through one picture per interval; None lets all through.
        gate: lets through what somebody asked for; None lets all through. A file waits for it.
    """

    roi: RegionOfInterest = field(default_factory=RegionOfInterest)
    limits: QualityLimits = field(default_factory=QualityLimits)
    every_s: float | None = None
    gate: Gate | None = None


class Feed:
    """Turns the captures of one source into frames in the mailbox, in a thread of its own.

    Owns the thread ``camera-<station>``, the region's mask and the memory of the last picture. From when it
    is made the mailbox expects frames of the station, until the source ends, or the thread. An unexpected
    exception goes to `on_crash`, in the thread that raised it: the process is to end with it.

    Args:
        source: of the captures.
        before: the station's feed until now, which was told to stop: its camera is opened again once that
            has let go of it, and its numbers go on.
        prelude: called in the thread before anything else.
    """

    def __init__(
        self,
        station: str,
        source: Source,
        mailbox: Mailbox,
        preprocess: Preprocess,
        settings: FeedSettings = FeedSettings(),
        *,
        on_crash: Callable[[BaseException], None],
        before: Feed | None = None,
        prelude: Callable[[], None] = lambda: None,
    ) -> None:
        self.station = station
        self.source = source
        self._mailbox = mailbox
        self._preprocess = preprocess
        self._view = _View(settings, source.live)
        self._before = before
        self._due_ns = 0
        self._gone: bool | None = None
        self._ended = False
        self._on_crash = on_crash
        self._prelude = prelude
        self._stop = Event()
        # A daemon, so that a camera that hangs in its driver cannot keep the process from exiting.
        self._thread = Thread(target=self._run, name=f"camera-{station}", daemon=True)
        self._lock = Lock()  # guards what `snapshot` reads
        self._number = 0
        self._recent_ns: deque[int] = deque()
        self._started_ns = time.monotonic_ns()
        self._quality = Quality()
        mailbox.open(station)

    def start(self) -> None:
        """Start the thread."""
        self._started_ns = time.monotonic_ns()
        _started.add(self)
        self._thread.start()

    def use(self, settings: FeedSettings) -> None:
        """Look at the pictures like this from the next one on; any thread."""
        if settings != self._view.settings:
            self._view = _View(settings, self.source.live)

    def stop(self) -> None:
        """Ask the thread to end; it does within the camera's open or read time-out."""
        self._stop.set()

    def join(self, timeout_s: float) -> bool:
        """Wait for the end of the thread; False where it did not come in time."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def snapshot(self) -> FeedStats:
        """Return how the camera is doing. Any thread may ask."""
        source = self.source.stats
        now_ns = time.monotonic_ns()
        with self._lock:
            self._forget(now_ns)
            rated_s = min(RATE_S, max((now_ns - self._started_ns) / 1e9, 1.0))
            return FeedStats(
                station=self.station,
                connected=source.connected,
                ended=self._ended,
                fps=len(self._recent_ns) / rated_s,
                frames=self._number,
                dropped=source.dropped + self._mailbox.dropped(self.station),
                reconnects=source.reconnects,
                stalls=source.stalls,
                last_fault=self._quality.fault,
                luma=self._quality.luma,
                sharpness=self._quality.sharpness,
                problem=source.problem,
            )

    def _run(self) -> None:
        try:
            self._prelude()
            self._wait_for_camera()
            for capture in self._captures():
                gate = self._view.settings.gate
                if not self._wanted(capture, gate):
                    continue
                frame = _claimed(self._frame(capture), gate)
                self._count(frame)
                if gate is not None and frame.trigger is None:
                    if capture.fault is Fault.CAMERA_OFFLINE:
                        self._mailbox.put(frame)
                # The frame of a trigger is not to be pushed out by another.
                elif self.source.live and frame.trigger is None:
                    self._mailbox.put(frame)
                else:
                    self._mailbox.put_waiting(frame, self._stop)
        except BaseException as error:  # noqa: BLE001 - a thread never dies alone, whatever it was
            self._on_crash(error)
        finally:
            if (gate := self._view.settings.gate) is not None:
                gate.offline(offline=True)
            self._ended = True
            self._mailbox.end(self.station)

    def _wait_for_camera(self) -> None:
        before, self._before = self._before, None
        if before is None:
            return
        if not before.join(LEAVE_S):
            log.warning("camera %s: does not end, it is opened a second time", self.station)
        self._number = before.snapshot().frames

    def _captures(self) -> Iterator[Capture]:
        """Yield what the source gives until `stop`; a file waits until a picture of it is wanted."""
        captures = self.source.captures(self._stop)
        while True:
            while not self.source.live and not self._stop.is_set():
                gate = self._view.settings.gate
                if gate is None or gate.wait(STOP_CHECK_S):
                    break
            capture = next(captures, None)
            if capture is None or self._stop.is_set():
                return
            yield capture

    def _wanted(self, capture: Capture, gate: Gate | None) -> bool:
        """Let through what is due; that a camera is gone is always worth telling."""
        gone = capture.fault is Fault.CAMERA_OFFLINE
        if gate is not None:
            if gone is not self._gone:
                gate.offline(offline=gone)
            self._gone = gone
            return capture.image is None or gate.wanted(capture.captured_ns)
        self._gone = None
        if capture.image is None:
            return True
        if capture.captured_ns < self._due_ns:
            return False
        # The next one is due a whole interval after this was, not after it happened to come.
        late_ns = capture.captured_ns - self._due_ns
        every_ns = self._view.every_ns
        self._due_ns = capture.captured_ns + every_ns - (late_ns if late_ns < every_ns else 0)
        return True

    def _frame(self, capture: Capture) -> Frame:
        image, quality, pixels = None, Quality(fault=capture.fault), None
        if capture.image is None:
            log.warning("camera %s: %s: %s", self.station, capture.fault, capture.detail)
        else:
            view = self._view
            image, seen = view.region.cut(capture.image)
            quality = assess(image, view.settings.limits, seen)
            if view.freeze.frozen(capture.image, capture.captured_ns) and quality.fault is None:
                quality = replace(quality, fault=Fault.FROZEN)
            if quality.fault is None:
                pixels = prepare(image, self._preprocess)
                pixels.setflags(write=False)
        return Frame(
            station=self.station,
            number=self._number + 1,
            captured_at=capture.captured_at,
            captured_ns=capture.captured_ns,
            image=image,
            pixels=pixels,
            quality=quality,
            part_id=capture.part_id,
        )

    def _count(self, frame: Frame) -> None:
        with self._lock:
            self._number = frame.number
            self._quality = frame.quality
            self._recent_ns.append(frame.captured_ns)
            self._forget(frame.captured_ns)

    def _forget(self, now_ns: int) -> None:
        while self._recent_ns and self._recent_ns[0] < now_ns - RATE_S * 1e9:
            self._recent_ns.popleft()


class _View:
    """Settings with what they need to remember; replaced whole, used by the feed's thread alone."""

    def __init__(self, settings: FeedSettings, live: bool) -> None:
        limits = settings.limits
        self.settings = settings
        self.region = Region(settings.roi)
        # A folder may hold equal pictures; only a camera that sends them is frozen.
        self.freeze = FreezeWatch(limits if live else limits.model_copy(update={"frozen_s": None}))
        self.every_ns = 0 if settings.every_s is None else int(settings.every_s * 1e9)


def _claimed(frame: Frame, gate: Gate | None) -> Frame:
    """Give a frame to the trigger that waits for it, where there are triggers."""
    if gate is None or frame.quality.fault is Fault.CAMERA_OFFLINE:
        return frame
    if frame.quality.fault is not None:
        gate.unusable(frame.quality.fault)
        return frame
    claimed = gate.claim(frame.captured_ns)
    if claimed is None:
        return frame
    trigger, part = claimed
    return replace(frame, trigger=trigger, part_id=frame.part_id if part is None else part)


_started: WeakSet[Feed] = WeakSet()


@atexit.register
def _leave() -> None:
    """End the threads of all cameras, also where nobody stopped them because the process ends in an error.

    A thread that comes back from OpenCV while Python is shutting down aborts the process (measured:
    SIGABRT in 4 of 8 exits), and its exit code would be lost.
    """
    feeds = list(_started)
    until_s = time.monotonic() + LEAVE_S
    for feed in feeds:
        feed.stop()
    for feed in feeds:
        feed.join(max(0.0, until_s - time.monotonic()))
