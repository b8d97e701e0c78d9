"""The threads of the agent: started by name, waited for within limits, and what ended one unexpectedly."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from agent.base.thread_priority import lower_priority

log = logging.getLogger(__name__)


class AgentThreads:
    """Owns the threads and the errors that ended them; used by the main thread, except for `crashed`.

    Attributes:
        crashes: what went wrong unexpectedly in any thread, first things first.
    """

    def __init__(self) -> None:
        self.crashes: list[BaseException] = []
        self._threads: list[threading.Thread] = []

    def __bool__(self) -> bool:
        return bool(self._threads)

    def start(self, name: str, body: Callable[[], None], nice: int = 0) -> None:
        """Run `body` in a thread of this name."""

        def run() -> None:
            try:
                if nice:
                    lower_priority(nice)
                body()
            except BaseException as error:  # noqa: BLE001 - a thread never dies alone, whatever it was
                self.crashed(error)

        thread = threading.Thread(target=run, name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def crashed(self, error: BaseException) -> None:
        """Note that something unexpected has happened; any thread."""
        self.crashes.append(error)

    def named(self, name: str) -> threading.Thread:
        """Return the thread of this name, which was started."""
        return next(thread for thread in self._threads if thread.name == name)

    def join(self, name: str, limit_s: float) -> bool:
        """Wait for a thread's end; False where it is left behind."""
        thread = self.named(name)
        thread.join(limit_s)
        if thread.is_alive():
            log.error("%s: does not end within %.1f s, it is left behind", name, limit_s)
        return not thread.is_alive()
