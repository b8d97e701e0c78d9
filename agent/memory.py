"""Memory that is free goes back to the system: glibc keeps it otherwise, in up to eight heaps a core.

A thread that is new, of a connection or of a camera, takes whichever heap is least in use, so that in time
every heap has been as large as the largest moment of any thread needed it, and stays so. To an operator that
is a process that grows by tens of MB an hour under faults, although nothing is lost in it.
"""

from __future__ import annotations

import ctypes
import sys
import time
from typing import Final

_M_ARENA_MAX: Final = -8
_ARENAS: Final = 2
"""One for the main thread, one for all others: most of them hold Python's lock when they allocate anyway."""
_TRIM_EVERY_S: Final = 60.0


class Heaps:
    """The heaps of this process; used by one thread, its main one, and made before there are others.

    Does nothing where the C library is not glibc.
    """

    def __init__(self) -> None:
        self._glibc = _glibc()
        self._trim_at = 0.0
        if self._glibc is not None:
            self._glibc.mallopt(_M_ARENA_MAX, _ARENAS)

    def turn(self) -> None:
        """Return what is free in them to the system, once a minute: milliseconds, without Python's lock."""
        now = time.monotonic()
        if self._glibc is not None and now >= self._trim_at:
            self._trim_at = now + _TRIM_EVERY_S
            self._glibc.malloc_trim(ctypes.c_size_t(0))


def _glibc() -> ctypes.CDLL | None:
    """Return the C library where it is glibc, which alone has these calls."""
    if sys.platform != "linux":
        return None
    library = ctypes.CDLL(None)
    return library if hasattr(library, "gnu_get_libc_version") else None
