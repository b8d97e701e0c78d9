"""Who gives way to whom."""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Callable

import pytest

from agent.priority import LEARNING, SERVING, step_back, use_leftovers

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has priorities of threads")


def urgency_after(*calls: Callable[[], None]) -> tuple[int, int]:
    """Return nice level and policy of a thread that made the calls."""
    found = []

    def run() -> None:
        for call in calls:
            call()
        thread = threading.get_native_id()
        found.append((os.getpriority(os.PRIO_PROCESS, thread), os.sched_getscheduler(thread)))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(10)
    return found[0]


def test_a_thread_steps_back_from_where_it_is() -> None:
    """A process that is less urgent as a whole stays so, and the end of the scale is the end."""
    here = os.getpriority(os.PRIO_PROCESS, 0)
    assert urgency_after(lambda: step_back(SERVING))[0] == min(19, here + SERVING)
    assert urgency_after(lambda: step_back(12), lambda: step_back(12))[0] == 19
    assert os.getpriority(os.PRIO_PROCESS, 0) == here


def test_a_learner_has_what_is_left_over() -> None:
    assert urgency_after(use_leftovers)[1] == os.SCHED_IDLE
    assert os.sched_getscheduler(0) == os.SCHED_OTHER


def test_where_leftovers_are_forbidden_it_is_nice_and_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def forbid(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "sched_setscheduler", forbid)
    with caplog.at_level(logging.WARNING):
        nice, policy = urgency_after(use_leftovers)
    assert nice == min(19, os.getpriority(os.PRIO_PROCESS, 0) + LEARNING)
    assert policy == os.SCHED_OTHER
    assert "forbids SCHED_IDLE" in caplog.text
