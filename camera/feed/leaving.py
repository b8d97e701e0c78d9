"""The threads of all cameras end before Python does."""

from __future__ import annotations

import atexit
import time
from typing import Protocol
from weakref import WeakSet

LEAVE_S = 10.0


class Ending(Protocol):
    """A feed, as far as its end goes."""

    def stop(self) -> None:
        """Ask its thread to end."""

    def join(self, timeout_s: float) -> bool:
        """Wait for the end of its thread."""


started: WeakSet[Ending] = WeakSet()
"""Feeds whose threads were started."""


@atexit.register
def _leave() -> None:
    """End the threads of all cameras, also where nobody stopped them because the process ends in an error.

    A thread that comes back from OpenCV while Python is shutting down aborts the process (measured:
    SIGABRT in 4 of 8 exits), and its exit code would be lost.
    """
    feeds = list(started)
    until_s = time.monotonic() + LEAVE_S
    for feed in feeds:
        feed.stop()
    for feed in feeds:
        feed.join(max(0.0, until_s - time.monotonic()))
