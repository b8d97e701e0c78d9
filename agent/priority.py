"""Who gives way where threads want the same core."""

from __future__ import annotations

import os
import sys
import threading

NICE = 10
"""Of 19. Inspection and cameras have 0: of a contested core they get nine tenths."""


def step_back() -> None:
    """Make the calling thread less urgent than the process's other ones, for good.

    Threads that it starts are as little urgent. On systems where a thread has no priority of its own,
    nothing changes.
    """
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)
