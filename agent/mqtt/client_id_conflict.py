"""Does another agent use our id? What speaks for it, and for how long it is believed."""

from __future__ import annotations

HOLD_S = 300.0
"""After the last sign for so long; two agents that make room for each other show one at least this often."""
SHORT_S = 10.0
"""A connection that the broker ended sooner than this is short."""
SHORT_ONES = 3
"""So many in a row speak for it where the broker does not say why."""


class ClientIdConflict:
    """Owns the signs. The publisher's thread uses it; `foreign` may be called by any."""

    def __init__(self) -> None:
        self._seen_at = float("-inf")
        self._short = 0

    def lost(self, now: float, *, up_s: float, taken_over: bool, explained: bool) -> None:
        """Note how a connection ended.

        Args:
            now: by a clock that does not go back.
            up_s: how long it was up.
            taken_over: the broker says that somebody came with our name.
            explained: the broker has said why, or it was we who ended it. Over MQTT 3.1.1 no broker does, and
                over MQTT 5 not every one (mosquitto 2.0.11 does not).
        """
        self._short = 0 if explained or up_s >= SHORT_S else self._short + 1
        still = self.problem(now) is not None and not explained
        if taken_over or still or self._short >= SHORT_ONES:
            self._seen_at = now

    def foreign(self, now: float) -> None:
        """Note that somebody else has said who they are under our topics."""
        self._seen_at = now

    def problem(self, now: float) -> str | None:
        """Return what to tell people; None while nothing speaks for it."""
        if now - self._seen_at > HOLD_S:
            return None
        return "another agent seems to use this agent.id at the broker: give each its own, or stop one"
