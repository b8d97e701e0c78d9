"""Which pictures of a clip are damaged: FFmpeg says so in its log alone, and hands them on like sound ones.

It conceals what it cannot decode with what was there before, and OpenCV has no way to ask (measured with
OpenCV 5.0: `err_detect`, `ec` and `fflags` do not reach the decoder). So a process of its own decodes the
same file with the log of the decoder switched on, and tells after which picture there was a new error in it.
The log is the process's standard error, which the agent cannot share; and there may be more than one clip.
"""

from __future__ import annotations

import os
import select
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

ANSWER_S = 8.0
"""How long a picture may take the other process, its start included; a stop waits as long."""
REORDERED = 8
"""Pictures from an error to the damaged picture at most: decoders hold pictures back to sort them."""
_MISSES = 250
"""Packets in a row that the decoder takes for broken, from where on the clip has ended."""
_AHEAD = 4096
"""Pictures, a byte each, by which the other process may be ahead: it is not to decode a long clip at once."""
_SOUND, _DAMAGED = b".", b"x"
_ERROR = 16  # AV_LOG_ERROR
# Said of sound files too: of what no picture refers to any more.
_HARMLESS = (b"mmco: unref short failure", b"number of reference frames", b"co located POCs unavailable")


class DecodeErrors:
    """Tells which pictures of one clip are damaged, in the order in which they come. One thread.

    Raises:
        OSError: the process cannot be started.
    """

    def __init__(self, clip: Path) -> None:
        self._process = subprocess.Popen(  # noqa: S603 - our own program, a file as its argument
            [sys.executable, "-P", str(Path(__file__).absolute()), str(clip)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            pipesize=_AHEAD,
            start_new_session=True,  # Ctrl-C is for the agent
        )
        assert self._process.stdout is not None  # a pipe, as asked for
        self._told_by = self._process.stdout
        self._told = b""
        self._at = 0
        self._ready()

    def next(self) -> bool | None:
        """Return whether the next picture is damaged; None where nobody knows."""
        if self._at == len(self._told):
            self._told, self._at = os.read(self._told_by.fileno(), 1 << 16) if self._ready() else b"", 0
        if not self._told:
            return None
        self._at += 1
        return self._told[self._at - 1 : self._at] == _DAMAGED

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()
        self._told_by.close()

    def _ready(self) -> bool:
        return bool(select.select([self._told_by], [], [], ANSWER_S)[0])


class Damage:
    """From errors and key pictures to damaged pictures: what refers to a damaged one is damaged as well.

    An error is known once its picture was decoded, which may be handed on a few pictures later, so all are
    taken for damaged until a key picture that cannot be the one with the error itself.
    """

    def __init__(self) -> None:
        self._since: int | None = None
        self._index = -1
        self._only_keys = True

    def next(self, *, error: bool, key: bool) -> bool:
        """Return whether the next picture is taken for damaged."""
        self._index += 1
        self._only_keys = self._only_keys and key
        if error:
            self._since = self._index
        if self._since is None:
            return False
        # Where each picture stands for itself, none is sorted, and the next one is sound.
        delay = 0 if self._only_keys else REORDERED
        if key and self._index > self._since + delay:
            self._since = None
        return self._since is not None


def grab_next(grab: Callable[[], bool]) -> int | None:
    """Go to the next picture of a clip; return how many broken packets were passed over, None at the end.

    OpenCV says the same of both, and after a broken packet goes on with the next one.
    """
    return next((missed for missed in range(_MISSES) if grab()), None)


def _main(clip: str) -> None:
    """Write one byte per picture to standard output."""
    os.nice(5)
    out = os.dup(1)
    with tempfile.TemporaryFile() as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
        os.environ["OPENCV_FFMPEG_LOGLEVEL"] = str(_ERROR)
        import cv2  # reads its environment now

        # One thread: an error is then of the very picture that is being grabbed.
        video = cv2.VideoCapture(clip, cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1])
        damage = Damage()
        _new_error(log.fileno())  # of looking for the streams: whatever matters is said again
        while (missed := grab_next(video.grab)) is not None:
            key = int(video.get(cv2.CAP_PROP_FRAME_TYPE)) == ord("I")
            error = _new_error(log.fileno()) or missed > 0
            damaged = damage.next(error=error, key=key)
            os.write(out, _DAMAGED if damaged else _SOUND)


def _new_error(log: int) -> bool:
    """Whether the log says something that is no harmless matter; forget what it says."""
    size = os.fstat(log).st_size
    if not size:
        return False
    lines = os.pread(log, min(size, 1 << 16), 0).splitlines()
    os.ftruncate(log, 0)
    os.lseek(log, 0, os.SEEK_SET)
    return any(b"FFMPEG" in line and not any(word in line for word in _HARMLESS) for line in lines)


if __name__ == "__main__":
    _main(sys.argv[1])
