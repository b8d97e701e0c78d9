"""What wakes the main thread: anything may, a signal handler too."""

from __future__ import annotations

from queue import Empty, SimpleQueue


class WakeUp:
    """Wakes the one thread that waits here.

    A signal handler runs in the main thread, between any two of its steps. An Event that this thread is just
    about to wait for has its lock taken: to set it there waits for ever. A SimpleQueue's `put` takes none.
    """

    def __init__(self) -> None:
        self._pokes: SimpleQueue[None] = SimpleQueue()

    def poke(self) -> None:
        """Wake it, now or when it next waits; any thread or signal handler."""
        self._pokes.put(None)

    def wait(self, timeout_s: float) -> None:
        """Wait until somebody pokes, or `timeout_s` is over. All pokes until then are one."""
        try:
            self._pokes.get(timeout=timeout_s)
            while True:
                self._pokes.get_nowait()
        except Empty:
            return
