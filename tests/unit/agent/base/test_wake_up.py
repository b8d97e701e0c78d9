"""Signals at any moment of the thread that waits, and pokes before it does."""

from __future__ import annotations

import signal
import threading
import time

from agent.base.wake_up import WakeUp

HANG_S = 10


def test_signals_at_any_moment_of_the_wait_never_hang_it() -> None:
    """An Event in its place hangs within moments: the handler waits for the lock of its own thread."""
    wake = WakeUp()
    before = signal.signal(signal.SIGALRM, lambda *_: wake.poke())
    ended = threading.Event()

    def give_up() -> None:
        if not ended.wait(HANG_S):
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGABRT)

    guard = threading.Thread(target=give_up, daemon=True)
    guard.start()
    signal.setitimer(signal.ITIMER_REAL, 1e-4, 1e-4)
    try:
        until = time.monotonic() + 0.5
        while time.monotonic() < until:
            wake.wait(0.001)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        ended.set()
        guard.join()


def test_a_poke_before_the_wait_is_not_lost_and_many_are_one() -> None:
    wake = WakeUp()
    for _ in range(3):
        wake.poke()
    began = time.monotonic()
    wake.wait(HANG_S)
    assert time.monotonic() - began < HANG_S / 2
    wake.wait(0.01)
    assert time.monotonic() - began >= 0.01
