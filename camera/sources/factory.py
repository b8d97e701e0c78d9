"""Which source of pictures a piece of config.yaml means."""

from __future__ import annotations

from pathlib import Path

from camera.core.settings import CameraSettings, FolderCamera, OpenCVCamera, RecordingCamera
from camera.core.source import Source
from camera.recording.reader import PlayedRecording
from camera.simulation.source import SimulatedSource
from camera.sources.device import Camera
from camera.sources.folder import Folder
from camera.sources.video_file import VideoFile
from camera.watched_folder.source import HotFolder


def open_source(settings: CameraSettings, keep: Path | None = None) -> Source:
    """Return the source that `settings` describe.

    Args:
        settings: of the camera.
        keep: a folder of the caller's own for what the source must remember. Who gives it tells the receipt
            of every capture what became of it. None: a watched folder is only looked at, and left as it is.

    Raises:
        CameraError: what is named cannot be a source: no such folder, an empty one, a missing back end.
    """
    if isinstance(settings, OpenCVCamera):
        if settings.medium == "clip":
            return VideoFile(settings)
        return Camera(settings)
    if isinstance(settings, FolderCamera):
        if settings.watch is not None:
            return HotFolder(settings, settings.watch, keep)
        return Folder(settings)
    if isinstance(settings, RecordingCamera):
        return PlayedRecording(settings)
    return SimulatedSource(settings)
