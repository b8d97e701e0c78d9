"""What a feed counts, and how its camera is doing at one moment."""

from __future__ import annotations

from dataclasses import dataclass

from camera.core.frame import Fault
from camera.core.source import SourceStats
from camera.presence.count import NOTHING_YET, PresenceCount


@dataclass(frozen=True, slots=True)
class FeedStats:
    """How a camera is doing, at one moment.

    Attributes:
        connected: pictures are coming.
        ended: the source, a file, has come to its end.
        fps: captures a second over the last 10 s.
        frames: captures since the start, those without a picture and those that nobody wanted included.
        dropped: pictures that a newer one pushed out before they were inspected.
        reconnects: times that the camera delivered again after it was offline.
        stalls: times that it stayed silent for its read time-out.
        last_fault: why the last capture cannot be judged, or None.
        luma: of the last picture, 0..255.
        sharpness: of the last picture.
        problem: why the camera cannot be opened at all; None where it can.
        trouble: what is wrong beside the pictures, which go on coming; None where nothing is.
        cropped: share of the region that nobody sees because the baseline was measured so, 0..1; None
            where it is seen, or a cut is meant.
        presence: what was counted where parts are looked for; all 0 elsewhere.
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
    trouble: str | None = None
    cropped: float | None = None
    presence: PresenceCount = NOTHING_YET


_NOTHING = SourceStats()


@dataclass(frozen=True, slots=True)
class Past:
    """What goes on at a station when its camera is opened anew, or the station was away for a while.

    Attributes:
        number: of the last frame.
        frames: captures since the start.
        source: of these the counters that a source keeps.
        presence: parts and pictures without one.
    """

    number: int = 0
    frames: int = 0
    source: SourceStats = _NOTHING
    presence: PresenceCount = NOTHING_YET

    def then(self, number: int, frames: int, source: SourceStats, presence: PresenceCount) -> Past:
        """Return what has been after another feed: its last number and parts, and the sums."""
        return Past(
            number,
            self.frames + frames,
            SourceStats(
                dropped=self.source.dropped + source.dropped,
                reconnects=self.source.reconnects + source.reconnects,
                stalls=self.source.stalls + source.stalls,
            ),
            presence,
        )
