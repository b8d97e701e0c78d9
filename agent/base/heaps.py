"""Memory that is free goes back to the system: glibc keeps it otherwise, in up to eight heaps a core.

A thread that is new, of a connection or of a camera, takes whichever heap is least in use, so that in time
every heap has been as large as the largest moment of any thread needed it, and stays so. To an operator that
is a process that grows by tens of MB an hour under faults, although nothing is lost in it.
"""

from __future__ import annotations

import ctypes
import gc
import sys
import time
from typing import Final

_M_ARENA_MAX: Final = -8
_ARENAS: Final = 2
"""One for the main thread, one for all others: most of them hold Python's lock when they allocate anyway."""
_EVERY_S: Final = 60.0


class Heaps:
    """The heaps of this process and what Python's collector does with them; made before there are threads.

    Used by one thread. With another C library than glibc only the collector is left.
    """

    def __init__(self) -> None:
        self._glibc = _glibc()
        self._turn_at = 0.0
        if self._glibc is not None:
            self._glibc.mallopt(_M_ARENA_MAX, _ARENAS)

    def settle(self) -> None:
        """Take all there is for what stays: the collector looks at it no more, and is quick from now on.

        Otherwise what is left behind in circles waits until it is a quarter of everything.
        """
        gc.collect()
        gc.freeze()

    def release(self) -> None:
        """Let the collector look at all of it again: what it was for has ended, the process may go on."""
        gc.unfreeze()

    def turn(self) -> None:
        """Free what is left in circles and return what is free to the system, once a minute: milliseconds."""
        now = time.monotonic()
        if now < self._turn_at:
            return
        self._turn_at = now + _EVERY_S
        gc.collect()
        if self._glibc is not None:
            self._glibc.malloc_trim(ctypes.c_size_t(0))


def _glibc() -> ctypes.CDLL | None:
    """Return the C library where it is glibc, which alone has these calls."""
    if sys.platform != "linux":
        return None
    library = ctypes.CDLL(None)
    return library if hasattr(library, "gnu_get_libc_version") else None
