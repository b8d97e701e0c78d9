"""A pace: so many events a second, and no more than a second's worth at once."""

from __future__ import annotations


class RateLimiter:
    """Owns what is left of the allowance; one thread uses it.

    Args:
        per_s: events a second.
        burst: events that may come at once; a second's worth unless said, at least one.
    """

    def __init__(self, per_s: float, burst: float | None = None) -> None:
        self._per_s = per_s
        self._burst = max(1.0, per_s if burst is None else burst)
        self._left, self._at = self._burst, float("-inf")

    def allows(self, now: float) -> bool:
        """Whether one more may be, by a clock that does not go back; if so it counts."""
        self._left = min(self._burst, self._left + (now - self._at) * self._per_s)
        self._at = now
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True
