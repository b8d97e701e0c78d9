"""Thread `triggers`: who says over MQTT that a part is there gets exactly one result for it, in time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial

from pydantic import ValidationError

from agent.commands import TriggerBody
from agent.config import Config
from agent.trigger_book import End, Ended, Trigger, TriggerBook
from agent.verdict import Verdict
from camera.feed import Gate

MAX_ENDED = 10_000
"""Results without a picture that may wait for the store."""
_LONGEST_WAIT_S = 1.0


class Triggers:
    """Of a station's triggers 64 may wait; one more gets its result, ``busy``, at once.

    When 10 000 results without a picture wait for the store, the next ones are lost, and counted.

    Owns the triggers under one lock. The connection's thread brings them, the cameras' claim them, the
    inspector's settles them, and `run` ends in its own thread what is due and delivers it; `use` does where a
    reload takes a station away.

    Args:
        uninspected: station, reason, trigger -> verdict; quick, called under the lock.
        deliver: takes verdicts; may wait.

    Attributes:
        lost: triggers without a result since the start.
    """

    def __init__(
        self,
        uninspected: Callable[[str, str, Trigger], Verdict],
        deliver: Callable[[Sequence[Verdict]], None],
    ) -> None:
        self.lost = 0
        self._deadlines_ms: dict[str, int] = {}
        self._uninspected = uninspected
        self._deliver = deliver
        self._changed = threading.Condition()
        self._books: dict[str, TriggerBook] = {}
        self._gates: dict[str, Gate] = {}
        self._ended: list[tuple[str, Ended]] = []
        self._stop = False

    def use(self, deadlines_ms: Mapping[str, int], anew: Collection[str] = ()) -> None:
        """Take triggers for these stations from now on; before the inspector forgets those that are gone.

        Args:
            deadlines_ms: how long a trigger waits unless it says itself.
            anew: stations whose camera is opened once more: what waits there ends.
        """
        with self._changed:
            for station in {*self._books} - {*deadlines_ms}:
                self._add(station, self._books.pop(station).close("reload"))
                del self._gates[station]
            for station in {*self._books} & {*anew}:
                self._add(station, self._books[station].close("reload"))
                self._books[station].reopen()
            for station in {*deadlines_ms} - {*self._books}:
                self._books[station], self._gates[station] = TriggerBook(), _Gate(self, station)
            self._deadlines_ms = dict(deadlines_ms)
            verdicts = self._composed()
        if verdicts:
            self._deliver(verdicts)

    def gate(self, station: str) -> Gate | None:
        """Return what a station's camera asks which pictures to inspect; None where that is all."""
        return self._gates.get(station)

    def receive(self, station: str, payload: bytes) -> bool:
        """Take a trigger over; False where it is none. From the connection's thread; never waits."""
        arrived_ns = time.monotonic_ns()
        deadline_ms = self._deadlines_ms.get(station)
        if deadline_ms is None:
            return False
        try:
            body = TriggerBody.model_validate_json(payload)
        except ValidationError:
            return False
        deadline_ms = body.deadline_ms or deadline_ms
        trigger = Trigger(body.trigger_id, body.part_id, arrived_ns, arrived_ns + deadline_ms * 1_000_000)
        self._change(station, lambda book: book.ask(trigger))
        return True

    def settle(self, verdicts: Sequence[Verdict]) -> list[Verdict]:
        """Return the verdicts that count: not those whose trigger had its result already."""
        with self._changed:
            return [v for v in verdicts if v.trigger is None or self._settled(v.station, v.trigger)]

    def run(self) -> None:
        """Deliver the results of triggers without a picture, until `stop`."""
        while True:
            with self._changed:
                now_ns = time.monotonic_ns()
                for station, book in self._books.items():
                    self._add(station, book.expire(now_ns))
                if not self._ended:
                    if self._stop:
                        return
                    self._changed.wait(self._patience_s(now_ns))
                verdicts = self._composed()
            if verdicts:
                self._deliver(verdicts)

    def stop(self, reason: End = "shutdown") -> None:
        """End everything; `run` ends when all of it is delivered."""
        with self._changed:
            for station, book in self._books.items():
                self._add(station, book.close(reason))
            self._stop = True
            self._changed.notify_all()

    def _patience_s(self, now_ns: int) -> float:
        due = [due for book in self._books.values() if (due := book.due_ns()) is not None]
        return max(0.0, min((min(due) - now_ns) / 1e9, _LONGEST_WAIT_S)) if due else _LONGEST_WAIT_S

    def _change(self, station: str, act: Callable[[TriggerBook], list[Ended]]) -> None:
        with self._changed:
            book = self._books.get(station)
            if book is not None:  # otherwise a reload has just ended it
                self._add(station, act(book))
            self._changed.notify_all()

    def _settled(self, station: str, trigger: str) -> bool:
        book = self._books.get(station)  # None after a reload, which has ended its triggers
        return book is not None and book.settle(trigger)

    def _composed(self) -> list[Verdict]:
        """Return the verdicts of what has ended; with the lock held, so that no station goes meanwhile."""
        ended, self._ended = self._ended, []
        return [self._uninspected(station, one.reason, one.trigger) for station, one in ended]

    def _add(self, station: str, ended: Sequence[Ended]) -> None:
        room = max(0, MAX_ENDED - len(self._ended))
        self.lost += max(0, len(ended) - room)
        self._ended += [(station, one) for one in ended[:room]]


def trigger_deadlines_ms(config: Config) -> dict[str, int]:
    """Return the stations that wait for triggers, each with how long a trigger may wait."""
    found = {name: station.trigger for name, station in config.stations.items() if station.enabled}
    return {name: trigger.deadline_ms for name, trigger in found.items() if trigger.mode == "mqtt"}


class _Gate:
    """What one camera sees of it; see `camera.feed.Gate`."""

    def __init__(self, triggers: Triggers, station: str) -> None:
        self._triggers, self._station = triggers, station

    def wait(self, timeout_s: float) -> bool:
        changed = self._triggers._changed
        with changed:
            return self._wanted(time.monotonic_ns()) or (
                changed.wait(timeout_s) and self._wanted(time.monotonic_ns())
            )

    def wanted(self, captured_ns: int) -> bool:
        with self._triggers._changed:
            return self._wanted(captured_ns)

    def claim(self, captured_ns: int) -> tuple[str, str | None] | None:
        with self._triggers._changed:
            book = self._triggers._books.get(self._station)
            trigger = None if book is None else book.claim(captured_ns)
        return None if trigger is None else (trigger.id, trigger.part_id)

    def unusable(self, fault: str) -> None:
        with self._triggers._changed:
            if (book := self._triggers._books.get(self._station)) is not None:
                book.unusable(fault)

    def _wanted(self, captured_ns: int) -> bool:
        book = self._triggers._books.get(self._station)
        return book is not None and book.wanted(captured_ns)

    def offline(self, *, offline: bool) -> None:
        self._triggers._change(self._station, partial(TriggerBook.camera, offline=offline))
