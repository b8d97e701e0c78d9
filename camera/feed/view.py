"""How a feed looks at its camera's pictures: its settings, and what these need to remember."""

from __future__ import annotations

from dataclasses import dataclass, field

from camera.core.settings import QualityLimits, RegionOfInterest
from camera.feed.gate import Gate
from camera.pictures.quality import FreezeWatch
from camera.pictures.region import Region


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


class View:
    """Settings with what they need to remember; replaced whole, used by the feed's thread alone.

    Args:
        settings: to look by.
        live: the source is a camera, for which time goes on without us.
        before: the view until now; the interval goes on where it is the same.
    """

    def __init__(self, settings: FeedSettings, *, live: bool, before: View | None = None) -> None:
        limits = settings.limits
        self.settings = settings
        self.region = Region(settings.roi)
        # A folder may hold equal pictures; only a camera that sends them is frozen.
        self.freeze = FreezeWatch(limits if live else limits.model_copy(update={"frozen_s": None}))
        self._every_ns = 0 if settings.every_s is None else int(settings.every_s * 1e9)
        same = before is not None and before.settings.every_s == settings.every_s
        self._due_ns: int = before._due_ns if before is not None and same else 0

    def due(self, captured_ns: int) -> bool:
        """Whether a picture captured then is let through by the interval; if so, the next one waits."""
        if captured_ns < self._due_ns:
            return False
        # The next one is due a whole interval after this was, not after it happened to come.
        late_ns = captured_ns - self._due_ns
        self._due_ns = captured_ns + self._every_ns - (late_ns if late_ns < self._every_ns else 0)
        return True
