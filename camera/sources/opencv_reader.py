"""OpenCV's reader of cameras, streams and clips, with one error for whatever it raises."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from typing import Any, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from camera.core.address import masked
from camera.core.frame import CameraError, Image
from camera.core.settings import OpenCVCamera

# Without this OpenCV opens one FFmpeg stream at a time, and a camera that does not answer keeps all the
# others from opening (measured: three silent servers take 1, 2 and 3 time-outs, with it one each).
os.environ.setdefault("OPENCV_FFMPEG_IS_THREAD_SAFE", "1")
# FFmpeg writes addresses with their passwords to standard error, and OpenCV names of what it tries to open.
# Whoever looks for a fault may set these two, and gets passwords into the journal.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # AV_LOG_QUIET
if "OPENCV_LOG_LEVEL" not in os.environ:
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)

_BACKENDS = {"ffmpeg": cv2.CAP_FFMPEG, "v4l2": cv2.CAP_V4L2, "gstreamer": cv2.CAP_GSTREAMER}
_NATURAL = {"device": "v4l2", "stream": "ffmpeg", "pipeline": "gstreamer", "clip": "ffmpeg"}

T = TypeVar("T")


class VideoError(CameraError):
    """OpenCV raised something instead of saying that it has no picture."""


class Video:
    """An open, or not so open, ``cv2.VideoCapture``. One thread.

    Raises:
        VideoError: from every method, whatever OpenCV raises.
    """

    def __init__(self, *arguments: Any) -> None:
        self._video = _call(cv2.VideoCapture, *arguments)

    def is_open(self) -> bool:
        """Whether there is anything to read from."""
        return _call(lambda: bool(self._video.isOpened()))

    def grab(self) -> bool:
        """Go to the next picture; False where there is none."""
        return _call(lambda: bool(self._video.grab()))

    def picture(self) -> Image | None:
        """Return the picture that was grabbed, as RGB; None where it cannot be decoded."""
        return _call(self._picture)

    def get(self, setting: int) -> float:
        """Return one of OpenCV's properties, 0 where it is not known."""
        return _call(lambda: float(self._video.get(setting)))

    def set(self, setting: int, value: float) -> None:
        """Ask for a property; the camera may take another value."""
        _call(lambda: self._video.set(setting, value))

    def release(self) -> None:
        """Let go of the camera or file."""
        _call(lambda: self._video.release())

    def _picture(self) -> Image | None:
        found, picture = self._video.retrieve()
        return rgb(picture) if found else None


def find_backend(settings: OpenCVCamera) -> int:
    """Return OpenCV's number of the back end, never 0: by trying them all OpenCV loses the time-outs.

    Raises:
        CameraError: OpenCV was built without it.
    """
    name = _NATURAL[settings.medium] if settings.backend == "auto" else settings.backend
    if not cv2.videoio_registry.hasBackend(_BACKENDS[name]):
        raise CameraError(
            f"{settings.label}: this OpenCV is built without {name}: install one that has it, "
            f"or choose another back end"
        )
    return _BACKENDS[name]


def open_camera(settings: OpenCVCamera, backend: int) -> Video:
    """Open a device, stream or pipeline within its time-outs; it may turn out not to be open.

    Raises:
        VideoError: OpenCV raised something.
    """
    source = settings.target
    if backend == cv2.CAP_V4L2:
        # V4L2 has no time-outs in its constructor; it reads this once, at the first camera, in whole seconds.
        os.environ.setdefault("OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT", str(math.ceil(settings.read_timeout_s)))
        video = Video(int(source) if source.isdecimal() else source, cv2.CAP_V4L2)
        for what, value in (
            (cv2.CAP_PROP_FRAME_WIDTH, settings.width),
            (cv2.CAP_PROP_FRAME_HEIGHT, settings.height),
            (cv2.CAP_PROP_BUFFERSIZE, 1),  # the present, not what the driver has queued
        ):
            if value is not None:
                video.set(what, value)
        return video
    # Only in the constructor do they hold for the opening; without them it takes up to a minute.
    limits = [
        cv2.CAP_PROP_OPEN_TIMEOUT_MSEC,
        math.ceil(settings.open_timeout_s * 1000),
        cv2.CAP_PROP_READ_TIMEOUT_MSEC,
        math.ceil(settings.read_timeout_s * 1000),
    ]
    return Video(source, backend, limits)


def rgb(picture: NDArray[Any]) -> Image:
    """Return what OpenCV decoded, BGR or grey, as RGB."""
    code = cv2.COLOR_GRAY2RGB if picture.ndim == 2 else cv2.COLOR_BGR2RGB
    return np.asarray(cv2.cvtColor(picture, code), dtype=np.uint8)


def _call(function: Callable[..., T], *arguments: Any) -> T:
    try:
        return function(*arguments)
    except Exception as error:
        # OpenCV hands on what back ends and drivers throw, cv2.error, MemoryError or anything else. It is
        # about this camera or file alone, and must not end the agent with its other stations.
        said = masked(getattr(error, "err", "") or str(error) or type(error).__name__)
        raise VideoError(f"OpenCV failed: {' '.join(said.split())}") from error
