"""What clients ask of the store: to label a part, to publish results again. Answered by the publisher."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future

from agent.base.call_queue import CallQueue
from agent.domain.command_answer import Answer, refused
from agent.store.database import Damaged, DiskTrouble
from agent.store.store import Store

_TURN_S = 1.0
"""For what others ask in one turn: each may wait for a busy database."""


class StoreRequests:
    """When 256 wait for their answer, the next one is refused.

    Owns what waits. Any thread asks; the publisher's thread, which owns the store, answers.

    Args:
        again: publishes a range of stored results again; False where too many ranges wait already.
        wake: called, from any thread, when something is asked.
    """

    def __init__(
        self, store: Store, again: Callable[[str, int, int], bool], wake: Callable[[], None]
    ) -> None:
        self._store = store
        self._again = again
        self._calls = CallQueue(refused("too many wait for the store: ask again later"), wake)
        self._met: Damaged | None = None  # while somebody was answered

    def label(self, act: Callable[[Store], Answer]) -> Future[Answer]:
        """Let `act` write a label; any thread may ask."""
        return self._calls.leave(lambda: self._answer(lambda: act(self._store)))

    def repeat(self, station: str, first: int, last: int | None) -> Future[Answer]:
        """Publish stored results of a station again; any thread may ask.

        Args:
            last: None is the newest there is now.
        """
        return self._calls.leave(lambda: self._answer(lambda: self._repeat(station, first, last)))

    def answer(self) -> None:
        """Answer what waits, for a second at most; the rest comes with the next turn.

        Raises:
            Damaged: the store was met damaged; whoever asked is told to ask again later.
        """
        self._calls.run(_TURN_S)
        if self._met is not None:
            met, self._met = self._met, None
            raise met

    def close(self) -> None:
        """Answer what waits, for a second at most, and refuse the rest."""
        self._calls.close(_TURN_S)

    def _answer(self, act: Callable[[], Answer]) -> Answer:
        try:
            return act()
        except Damaged as error:
            self._met = error
            return refused("the store is damaged, and is mended now: ask again later")

    def _repeat(self, station: str, first: int, last: int | None) -> Answer:
        newest = self._store.last_seq(station)
        last = newest if last is None else min(last, newest)
        if first > last:
            return refused(f"there is no such result: the newest has number {newest}")
        try:
            found = self._store.between(station, first, last, 1)
        except DiskTrouble:  # the next write tells
            return refused("the store cannot be read now: ask again later")
        missing = None if found and found[0].seq == first else [first, found[0].seq - 1 if found else last]
        if found and not self._again(station, found[0].seq, last):
            return refused("too many replays wait: ask again later")
        data = {
            "station": station,
            "from_seq": found[0].seq if found else None,
            "to_seq": last if found else None,
            "missing": missing,
        }
        why = None if missing is None else f"{missing[0]} to {missing[1]} are no longer stored"
        return Answer("accepted" if found else "refused", why, data)
