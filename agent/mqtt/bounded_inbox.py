"""The inbox: commands and labels between the connection and whoever obeys them."""

from __future__ import annotations

import threading
from collections import deque

from agent.mqtt.messages import Inbound

CAPACITY = 256
"""Messages that may wait to be obeyed."""
REFUSALS = 64
"""Messages beyond these that may wait to be told that there were too many."""


class Inbox:
    """When 256 wait, the next 64 are kept to be refused; what comes then is lost, and counted.

    Owns what waits. The connection's thread puts and never waits; one thread takes.

    Attributes:
        received: messages since the start, lost ones included.
        lost: messages that nobody was told about.
    """

    def __init__(self, capacity: int = CAPACITY, refusals: int = REFUSALS) -> None:
        self.received = self.lost = 0
        self._lock = threading.Lock()
        self._capacity, self._refusals = capacity, refusals
        self._waiting: deque[Inbound] = deque()
        self._too_many: deque[Inbound] = deque()

    def put(self, inbound: Inbound) -> None:
        """Leave one message."""
        with self._lock:
            self.received += 1
            if len(self._waiting) < self._capacity:
                self._waiting.append(inbound)
            elif len(self._too_many) < self._refusals:
                self._too_many.append(inbound)
            else:
                self.lost += 1

    def take(self) -> tuple[list[Inbound], list[Inbound]]:
        """Return what waits to be obeyed, oldest first, and what is to be refused."""
        with self._lock:
            taken = list(self._waiting), list(self._too_many)
            self._waiting.clear()
            self._too_many.clear()
        return taken
