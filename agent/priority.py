"""Who gives way where threads want the same core: inspection comes first, learning last."""

from __future__ import annotations

import logging
import os
import sys
import threading

SERVING = 5
"""Of 19: cameras and the publisher. The inspector has 0, and gets three quarters of a core that both want."""

LEARNING = 10
"""Where leftovers cannot be had: a learner gets a tenth of a core that the inspector wants too."""

log = logging.getLogger(__name__)


def step_back(nice: int) -> None:
    """Make the calling thread less urgent than the process's other ones, for good.

    Threads that it starts from then on are as little urgent. On systems where a thread has no priority of
    its own, nothing changes.
    """
    if sys.platform == "linux":
        thread = threading.get_native_id()
        # From where it is: a process may be less urgent as a whole, and nobody but root may go back up.
        as_it_is = os.getpriority(os.PRIO_PROCESS, thread)
        os.setpriority(os.PRIO_PROCESS, thread, min(19, as_it_is + nice))


def use_leftovers() -> None:
    """Let the calling thread have what nobody else wants (SCHED_IDLE), for good; a sandbox may refuse it.

    A thread that is merely nice keeps a core for its turn of some milliseconds when another one wakes up.
    """
    step_back(LEARNING)
    if sys.platform == "linux":
        try:
            os.sched_setscheduler(threading.get_native_id(), os.SCHED_IDLE, os.sched_param(0))
        except PermissionError:
            log.warning("learning may disturb inspection a little: this sandbox forbids SCHED_IDLE")
