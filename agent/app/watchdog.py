"""Whether the agent still does its work: what the watchdog of systemd is fed by."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping

from agent.app.service_notify import ALIVE, notify

log = logging.getLogger(__name__)

_SHARE = 0.8
"""Of the watchdog's time that a loop may stand still: the rest is for the last word to arrive in time."""


def stalled(turns: Mapping[str, float], now: float, limit_s: float) -> str | None:
    """Return which loop has not turned for longer than the limit; None where all do.

    Args:
        turns: loop -> when it last turned, on the clock of `now`.
        now: in seconds.
        limit_s: how long a turn may take.
    """
    late = {name: now - at for name, at in turns.items() if now - at > limit_s}
    return max(late, key=lambda name: late[name]) if late else None


class Watchdog:
    """Owns what systemd's watchdog is told. Used by the main thread.

    A camera that is gone stops nothing: the inspector turns while it waits for parts, the publisher while the
    broker is away or the disk is full. What learns is not asked: it has a process of its own.

    Args:
        period_s: after which systemd kills a silent agent; None where nobody watches.
        turns: asked when each loop last turned, by `time.monotonic`.
    """

    def __init__(self, period_s: float | None, turns: Callable[[], Mapping[str, float]]) -> None:
        self._period_s, self._turns = period_s, turns
        self._told: str | None = None

    def feed(self) -> None:
        """Tell systemd that all is well, where it is; often enough."""
        if self._period_s is None:
            return
        limit_s = _SHARE * self._period_s
        late = stalled(self._turns(), time.monotonic(), limit_s)
        if late is None:
            notify(ALIVE)
        elif late != self._told:
            log.error("%s: has stood still for %.0f s; the watchdog is not fed any more", late, limit_s)
        self._told = late
