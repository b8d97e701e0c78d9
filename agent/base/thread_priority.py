"""Who gives way where threads want the same core: inspection comes first, learning last."""

from __future__ import annotations

import logging
import os
import sys
import threading

SERVING = 5
"""Of 19: cameras and the publisher. The inspector has 0, and gets three quarters of a core that both want."""

LEARNING = 10
"""Of a core that the inspector wants too, learning gets a tenth: what was learned is looked after always."""

log = logging.getLogger(__name__)


def lower_priority(nice: int) -> None:
    """Make the calling thread less urgent than the process's other ones, for good.

    Threads that it starts from then on are as little urgent. On systems where a thread has no priority of
    its own, nothing changes.
    """
    if sys.platform == "linux":
        thread = threading.get_native_id()
        # From where it is: a process may be less urgent as a whole, and nobody but root may go back up.
        as_it_is = os.getpriority(os.PRIO_PROCESS, thread)
        try:
            os.setpriority(os.PRIO_PROCESS, thread, min(19, as_it_is + nice))
        except PermissionError:  # by a sandbox
            log.warning("%s: may not step back behind inspection here", threading.current_thread().name)
