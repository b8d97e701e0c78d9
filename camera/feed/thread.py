"""The thread of one camera: capture -> region -> quality -> model input -> mailbox."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from threading import Event, Thread

from camera.core.frame import Capture, Fault, Frame, Image, PartPicture, Quality, ReferenceInput
from camera.core.source import Source
from camera.feed.counters import FeedCounters
from camera.feed.gate import Gate, claimed
from camera.feed.leaving import LEAVE_S, started
from camera.feed.mailbox import STOP_CHECK_S, Mailbox
from camera.feed.part_selection import PartSelection
from camera.feed.stats import FeedStats, Past
from camera.feed.view import FeedSettings, View
from camera.pictures.framing import ModelInput, in_picture
from camera.pictures.preprocess import InputSpec
from camera.pictures.quality import assess, too_small
from camera.pictures.region import OtherRegion

_EVERYTHING = FeedSettings()
_NOTHING = Past()

log = logging.getLogger(__name__)


class Feed:
    """Turns the captures of one source into frames in the mailbox, in a thread of its own.

    Owns the thread ``camera-<station>``, the region's mask and the memory of the last picture. From when it
    is made the mailbox expects frames of the station, until the source ends, or the thread. An unexpected
    exception goes to `on_crash`, in the thread that raised it: the process is to end with it.

    Once it was told to stop it speaks for its station no longer, however late its thread ends: the mailbox
    takes nothing from it, and its gate is that of nobody else.

    Args:
        source: of the captures.
        before: the station's feed until now, which was told to stop: its camera is opened again once that
            has let go of it; or what it was when it ended. Its numbers and counters go on.
        prelude: called in the thread before anything else.
    """

    def __init__(
        self,
        station: str,
        source: Source,
        mailbox: Mailbox,
        preprocess: InputSpec,
        settings: FeedSettings = _EVERYTHING,
        *,
        on_crash: Callable[[BaseException], None],
        before: Feed | Past = _NOTHING,
        prelude: Callable[[], None] = lambda: None,
    ) -> None:
        self.station = station
        self.source = source
        self._mailbox = mailbox
        self._preprocess = preprocess
        self._settings = settings
        self._view = View(settings, preprocess, live=source.live)
        self._parts: PartSelection | None = None  # once the thread knows what was counted before
        self._told: tuple[Gate, bool] | None = None  # the gate that knows whether the camera is gone
        self._ended = False
        self._on_crash = on_crash
        self._prelude = prelude
        self._stop = Event()
        # A daemon, so that a camera that hangs in its driver cannot keep the process from exiting.
        self._thread = Thread(target=self._run, name=f"camera-{station}", daemon=True)
        self._before = before
        self._counters = FeedCounters(before.past if isinstance(before, Feed) else lambda: before)
        self._unreadable = ""  # what was told of it last
        mailbox.open(station)

    def start(self) -> None:
        """Start the thread."""
        self._counters.start()
        started.add(self)
        self._thread.start()

    def use(self, settings: FeedSettings) -> None:
        """Look at the pictures like this from the next one on; any thread."""
        gate = settings.gate if settings.gate is not self._settings.gate else None
        # A camera that is gone gives no next picture by which a gate that is new would hear of it. Before
        # the thread knows the gate: what that says of it later is newer.
        source = self.source.stats
        silent = source.problem is not None or (self.source.live and not source.connected)
        if gate is not None and silent:
            gate.offline(offline=True)
        self._settings = settings
        if gate is not None and self._ended:
            gate.offline(offline=True)

    def stop(self) -> None:
        """Ask the thread to end; it does within the camera's open or read time-out."""
        self._stop.set()

    def join(self, timeout_s: float) -> bool:
        """Wait for the end of the thread; False where it did not come in time."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def past(self) -> Past:
        """Return what has been here so far, by the feeds before this one too. Any thread may ask."""
        return self._counters.past(self.source.stats)

    def snapshot(self) -> FeedStats:
        """Return how the camera is doing. Any thread may ask."""
        return self._counters.stats(
            self.station,
            self.source.stats,
            ended=self._ended,
            dropped=self._mailbox.dropped(self.station),
        )

    def _run(self) -> None:
        try:
            self._prelude()
            self._wait_for_camera()
            for capture in self._captures():
                self._take_in(capture)
            if self._parts is not None and not self._stop.is_set():
                for one, part in self._parts.rest(time.monotonic_ns()):
                    self._hand_on(one, part, None)
                self._counters.presence(self._parts.counted)
        except BaseException as error:  # noqa: BLE001 - a thread never dies alone, whatever it was
            self._on_crash(error)
        finally:
            self._ended = True
            self._tell(self._settings.gate, gone=True)
            self._mailbox.end(self.station)

    def _take_in(self, capture: Capture) -> None:
        """Hand on what is wanted of a capture."""
        settings = self._settings
        if settings is not self._view.settings:
            self._view = View(settings, self._preprocess, live=self.source.live, before=self._view)
        gate = settings.gate
        self._counters.count(capture)
        self._tell(gate, gone=capture.fault is Fault.CAMERA_OFFLINE)
        if not self._wanted(capture, gate):
            _lose(capture)
            return
        if settings.presence is None:
            self._parts = None
            self._hand_on(capture, None, gate)
            return
        if self._parts is None or self._parts.settings != settings.presence:
            self._parts = PartSelection(settings.presence, self.past().presence)
        selected = self._parts.select(capture, self._glance)
        self._counters.presence(self._parts.counted)
        for one, part in selected:
            self._hand_on(one, part, gate)

    def _glance(self, capture: Capture) -> Fault | None:
        """Look at a picture that may show no part, and note how good it is."""
        assert capture.image is not None
        quality = self._looked_at(capture.image, capture)[1]
        self._counters.glanced(quality)
        return quality.fault

    def _hand_on(self, capture: Capture, part: PartPicture | None, gate: Gate | None) -> None:
        frame = claimed(replace(self._frame(capture), part=part), gate)
        self._counters.made(frame, self._view.cropped)
        if gate is None and part is None and self.source.live:
            self._mailbox.put(frame, self._stop)
            return
        # What waits for the inspector may be the picture of a trigger: nothing may push it out.
        wanted = gate is None or frame.trigger is not None or frame.quality.fault is Fault.CAMERA_OFFLINE
        if not (wanted and self._mailbox.put_waiting(frame, self._stop)):
            _lose(capture)

    def _wait_for_camera(self) -> None:
        before = self._before
        if not isinstance(before, Feed):
            return
        if not before.join(LEAVE_S):
            log.warning("camera %s: does not end, it is opened a second time", self.station)
        self._before = before.past()
        self._counters.follow(self._before)

    def _captures(self) -> Iterator[Capture]:
        """Yield what the source gives until `stop`; a file waits until a picture of it is wanted."""
        if self._stop.is_set():  # while the camera was waited for
            return
        captures = self.source.captures(self._stop)
        while True:
            gone = self._told is not None and self._told[1]
            if not gone:  # otherwise nobody can want a picture before it is back
                self._await_trigger()
            capture = next(captures, None)
            if capture is None:
                return
            if self._stop.is_set():
                _lose(capture)
                return
            if gone and not self.source.live and capture.image is not None:
                self._tell(self._settings.gate, gone=False)
                self._await_trigger()
                capture = replace(capture, captured_at=datetime.now(UTC), captured_ns=time.monotonic_ns())
            yield capture

    def _await_trigger(self) -> None:
        """Wait until somebody wants the next picture of a file."""
        while not self.source.live and not self._stop.is_set():
            gate = self._settings.gate
            if gate is None or gate.wait(STOP_CHECK_S):
                return

    def _tell(self, gate: Gate | None, *, gone: bool) -> None:
        """Tell a gate whether the camera is gone, once each time that this changes."""
        now = None if gate is None else (gate, gone)
        if gate is not None and now != self._told:
            gate.offline(offline=gone)
        self._told = now

    def _wanted(self, capture: Capture, gate: Gate | None) -> bool:
        """Let through what is due; that a camera is gone is always worth telling."""
        if capture.image is None:
            return True
        return self._view.due(capture.captured_ns) if gate is None else gate.wanted(capture.captured_ns)

    def _frame(self, capture: Capture) -> Frame:
        image, quality = None, Quality(fault=capture.fault)
        shown: ModelInput | None = None
        references: dict[str, ModelInput] = {}
        if capture.image is None:
            log.warning("camera %s: %s: %s", self.station, capture.fault, capture.detail)
        else:
            image, quality = self._looked_at(capture.image, capture)
            if image is not None and quality.fault is None:
                shown, references = self._shown(capture.image, image)
        seen = shown or next(iter(references.values()), None)
        crop = self._view.settings.roi.crop
        return Frame(
            station=self.station,
            number=self.past().number + 1,
            captured_at=capture.captured_at,
            captured_ns=capture.captured_ns,
            image=image,
            pixels=None if shown is None else shown.pixels,
            quality=quality,
            part_id=capture.part_id,
            roi=self._view.settings.roi,
            receipt=capture.receipt,
            view=None if seen is None else seen.view,
            tiles=()
            if seen is None or len(seen.boxes) == 1
            else tuple(in_picture(box, crop) for box in seen.boxes),
            references={name: ReferenceInput(one.pixels, one.view) for name, one in references.items()},
        )

    def _shown(self, whole: Image, image: Image) -> tuple[ModelInput | None, dict[str, ModelInput]]:
        """Return what is judged of a region; what is seen of the picture is told where that is news."""
        told = self._view.sees(whole, image)
        if told is not None:
            log.info("station %s: %s", self.station, told[0])
            if told[1] is not None:
                log.warning("station %s: %s", self.station, told[1])
        return self._view.inputs(image)

    def _looked_at(self, whole: Image, capture: Capture) -> tuple[Image | None, Quality]:
        view = self._view
        try:
            image, seen = view.region.cut(whole, capture.kept)
        except OtherRegion as error:
            self._tell_unreadable(capture, str(error))
            return None, Quality(fault=Fault.UNREADABLE)
        quality = assess(image, view.settings.limits, seen)
        if small := too_small(image, view.settings.tiles):
            self._tell_unreadable(capture, small)
            quality = replace(quality, fault=Fault.UNREADABLE)
        if view.freeze.frozen(whole, capture.captured_ns) and quality.fault is None:
            quality = replace(quality, fault=Fault.FROZEN)
        return image, quality

    def _tell_unreadable(self, capture: Capture, why: str) -> None:
        """Say it of the first of many: a camera gives such pictures as fast as others."""
        if why != self._unreadable:
            log.warning("camera %s: %s: %s: %s", self.station, Fault.UNREADABLE, capture.part_id, why)
        self._unreadable = why


def _lose(capture: Capture) -> None:
    """Tell who must know that nobody will judge this capture."""
    if capture.receipt is not None:
        capture.receipt.lost()
