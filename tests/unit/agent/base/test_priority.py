"""Who gives way to whom."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable

import pytest

from agent.base.thread_priority import SERVING, lower_priority

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has priorities of threads")


def urgency_after(*calls: Callable[[], None]) -> int:
    """Return the nice level of a thread that made the calls."""
    found = []

    def run() -> None:
        for call in calls:
            call()
        found.append(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(10)
    return found[0]


def test_a_thread_steps_back_from_where_it_is() -> None:
    """A process that is less urgent as a whole stays so, and the end of the scale is the end."""
    here = os.getpriority(os.PRIO_PROCESS, 0)
    assert urgency_after(lambda: lower_priority(SERVING)) == min(19, here + SERVING)
    assert urgency_after(lambda: lower_priority(12), lambda: lower_priority(12)) == 19
    assert os.getpriority(os.PRIO_PROCESS, 0) == here
