"""What is in flight: messages that the broker was given and has not acknowledged yet."""

from __future__ import annotations

WINDOW = 64
"""Results on their way, or acknowledged and not yet struck off: what a crash can deliver twice."""


class InFlight:
    """Owns what is on its way over the present connection; the publisher's thread alone uses it.

    Attributes:
        acknowledged: outbox ids that the broker has, not yet struck off the outbox.
        published: results acknowledged since the start.
        repeated: paho's message id -> number of a result sent again.
        shown: paho's message id -> topic of a retained message.
    """

    def __init__(self) -> None:
        self.acknowledged: set[int] = set()
        self.published = 0
        self.repeated: dict[int, int] = {}
        self.shown: dict[int, str] = {}
        self._results: dict[int, int] = {}  # paho's message id -> outbox id
        self._answered_at = 0.0

    def add(self, message_id: int, outbox_id: int) -> None:
        """Expect the acknowledgement of a result."""
        self._results[message_id] = outbox_id

    def acknowledge(self, message_id: int) -> None:
        """Note that the broker has a result; nothing where the message was none."""
        if message_id in self._results:
            self.acknowledged.add(self._results.pop(message_id))
            self.published += 1

    def struck_off(self) -> None:
        """Forget what was acknowledged: it has left the outbox."""
        self.acknowledged = set()

    def clear_results(self) -> None:
        """Forget the results on their way: the outbox is another one, or the connection is lost."""
        self._results.clear()

    def clear(self) -> None:
        """Forget all that is on its way: the connection is lost."""
        self.clear_results()
        self.shown.clear()
        self.repeated.clear()

    def answered(self, now: float) -> None:
        """Note that the broker has answered anything."""
        self._answered_at = now

    def expect_answer(self, now: float) -> None:
        """Note that an answer is due from here on, where none was."""
        if not self._results:
            self._answered_at = now

    def silent(self, now: float, limit_s: float) -> bool:
        """Whether results are on their way, and the broker has answered nothing for so long."""
        return bool(self._results) and now - self._answered_at > limit_s

    def results(self) -> int:
        """Return how many results are on their way, or acknowledged and not yet struck off."""
        return len(self._results) + len(self.acknowledged)

    def unanswered(self) -> int:
        """Return how many messages of any kind the broker has to answer."""
        return len(self._results) + len(self.shown) + len(self.repeated)
