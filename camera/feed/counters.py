"""What a feed counts of its captures: how many, how fast, and how good the last one was."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from threading import Lock

from camera.core.frame import Capture, Fault, Frame, Quality
from camera.core.source import SourceStats
from camera.feed.stats import FeedStats, Past
from camera.presence.count import PresenceCount

RATE_S = 10.0


class FeedCounters:
    """Owns the counters of one feed. Its thread counts; any thread may ask.

    Args:
        before: returns what was at the station before this feed, which may still count.
    """

    def __init__(self, before: Callable[[], Past]) -> None:
        self._lock = Lock()
        self._before = before
        self._captured = 0
        self._number: int | None = None
        self._recent_ns: deque[int] = deque()
        self._started_ns = time.monotonic_ns()
        self._quality = Quality()
        self._cropped: float | None = None
        self._presence: PresenceCount | None = None

    def start(self) -> None:
        """Rate the captures from now on."""
        self._started_ns = time.monotonic_ns()

    def follow(self, past: Past) -> None:
        """Go on from here: what the feed before may still count is no longer of this station."""
        with self._lock:
            self._before = lambda: past

    def count(self, capture: Capture) -> None:
        """Count a capture, whether anybody wants it or not."""
        with self._lock:
            self._captured += 1
            self._recent_ns.append(capture.captured_ns)
            self._forget(capture.captured_ns)
            # There is a picture again: what was wrong without one is over, also where nobody wants this one.
            if capture.image is not None and self._quality.fault in (Fault.CAMERA_OFFLINE, Fault.UNREADABLE):
                self._quality = Quality()

    def made(self, frame: Frame, cropped: float | None) -> None:
        """Take note of a frame's number and quality.

        Args:
            frame: that was made.
            cropped: see `FeedStats`.
        """
        with self._lock:
            self._number, self._quality, self._cropped = frame.number, frame.quality, cropped

    def glanced(self, quality: Quality) -> None:
        """Take note of the quality of a picture that nobody wants."""
        with self._lock:
            self._quality = quality

    def presence(self, count: PresenceCount) -> None:
        """Take note of what was counted at the station, by the feeds before this one too."""
        with self._lock:
            self._presence = count

    def past(self, source: SourceStats) -> Past:
        """Return what has been so far, by the feeds before this one too.

        Args:
            source: what this feed's source counts.
        """
        with self._lock:
            before, number, captured = self._before, self._number, self._captured
            presence = self._presence
        past = before()
        return past.then(
            past.number if number is None else number,
            captured,
            source,
            past.presence if presence is None else presence,
        )

    def stats(self, station: str, source: SourceStats, *, ended: bool, dropped: int) -> FeedStats:
        """Return how the camera is doing.

        Args:
            source: what this feed's source counts, and what is wrong with it.
            ended: the source has come to its end.
            dropped: pictures of the station that the mailbox has dropped.
        """
        now_ns = time.monotonic_ns()
        past = self.past(source)
        with self._lock:
            self._forget(now_ns)
            rated_s = min(RATE_S, max((now_ns - self._started_ns) / 1e9, 1.0))
            return FeedStats(
                station=station,
                connected=source.connected,
                ended=ended,
                fps=len(self._recent_ns) / rated_s,
                frames=past.frames,
                dropped=past.source.dropped + dropped,
                reconnects=past.source.reconnects,
                stalls=past.source.stalls,
                last_fault=self._quality.fault,
                luma=self._quality.luma,
                sharpness=self._quality.sharpness,
                problem=source.problem,
                trouble=source.trouble,
                cropped=self._cropped,
                presence=past.presence,
            )

    def _forget(self, now_ns: int) -> None:
        while self._recent_ns and self._recent_ns[0] < now_ns - RATE_S * 1e9:
            self._recent_ns.popleft()
