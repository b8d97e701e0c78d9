"""A camera that could not be opened when it was needed: a folder on a disk that is not mounted."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from threading import Event

from camera.core.frame import CameraError, Capture, Fault
from camera.core.settings import CameraSettings, FolderCamera, OpenCVCamera, Reconnect, SimulatedCamera
from camera.core.source import Source, SourceStats, stamp
from camera.sources.device import backoff
from camera.sources.factory import open_source

log = logging.getLogger(__name__)


class Waiting:
    """Reports the camera offline, once, and opens it again and again; from then on it is that camera.

    Args:
        settings: of the camera.
        problem: why it cannot be opened.
        again: False where opening it again is of no use before it has other settings.
        keep: see `open_source`.
    """

    def __init__(
        self, settings: CameraSettings, problem: str, *, again: bool = True, keep: Path | None = None
    ) -> None:
        self._settings, self._again, self._keep = settings, again, keep
        self._waiting = SourceStats(problem=problem)  # written by the iterating thread only
        self._source: Source | None = None

    @property
    def live(self) -> bool:
        """Whether the camera will be; known from its settings."""
        return is_live(self._settings)

    @property
    def stats(self) -> SourceStats:
        """The counters as they are now."""
        if self._source is None:
            return self._waiting
        found = self._source.stats
        return replace(found, reconnects=found.reconnects + found.connected)

    def captures(self, stop: Event) -> Iterator[Capture]:
        """Yield one CAMERA_OFFLINE, and what the camera gives once it can be opened."""
        yield stamp(fault=Fault.CAMERA_OFFLINE, detail=self._waiting.problem or "")
        for delay_s in backoff(getattr(self._settings, "reconnect", Reconnect())):
            if stop.wait(delay_s):
                return
            source = self._source = self._opened()
            if source is not None:
                log.info("camera: opened, after %s", self._waiting.problem)
                yield from source.captures(stop)
                return

    def _opened(self) -> Source | None:
        if not self._again:
            return None
        try:
            return open_source(self._settings, self._keep)
        except (CameraError, OSError) as error:
            if str(error) != self._waiting.problem:
                log.warning("camera: still cannot be opened: %s", error)
                self._waiting = SourceStats(problem=str(error))
            return None


def is_live(settings: CameraSettings) -> bool:
    """Whether the source that these settings describe goes on without us; see `Source.live`."""
    if isinstance(settings, FolderCamera | SimulatedCamera):
        return False
    if isinstance(settings, OpenCVCamera) and settings.medium != "clip":
        return True
    return settings.pace == "recorded"
