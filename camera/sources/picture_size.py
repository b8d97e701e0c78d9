"""How large a camera's pictures are, as far as that can be known without opening a device or a stream."""

from __future__ import annotations

from pathlib import Path

from camera.core.frame import CameraError
from camera.core.settings import CameraSettings, FolderCamera, OpenCVCamera, RecordingCamera
from camera.core.source import file_id, is_text
from camera.pictures.images import read_image
from camera.recording.reader import Recording
from camera.simulation.flange import SIZE_PX
from camera.sources.folder import picture_files
from camera.sources.opencv_reader import Video, find_backend


def picture_size(settings: CameraSettings) -> tuple[int, int] | None:
    """Return width and height of a camera's pictures; None where only the camera itself can tell.

    Of a folder and a clip the first picture counts; a folder that is watched has none yet.

    Raises:
        CameraError, OSError: what is named is none, or cannot be read.
    """
    if isinstance(settings, RecordingCamera):
        return Recording(Path(settings.path)).manifest.size_px
    if isinstance(settings, FolderCamera):
        return None if settings.watch is not None else _of_folder(settings)
    if isinstance(settings, OpenCVCamera):
        return _of_clip(settings) if settings.medium == "clip" else None
    return SIZE_PX, SIZE_PX


def _of_folder(settings: FolderCamera) -> tuple[int, int]:
    height, width = read_image(picture_files(Path(settings.path))[0], settings.bit_depth).shape[:2]
    return width, height


def _of_clip(settings: OpenCVCamera) -> tuple[int, int]:
    path = Path(settings.source.get_secret_value()).absolute()
    if not path.is_file():
        raise CameraError(f"{settings.label}: no such video file: name one, or a camera")
    if not is_text(path):  # OpenCV ends the process at such a name
        raise CameraError(f"{file_id(path)}: its name is not UTF-8: give it another")
    video = Video(str(path), find_backend(settings))
    try:
        image = video.picture() if video.is_open() and video.grab() else None
    finally:
        video.release()
    if image is None:
        raise CameraError(f"{settings.label}: no readable picture")
    height, width = image.shape[:2]
    return width, height
