"""Thread `triggers`: who says over MQTT that a part is there gets exactly one result for it, in time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from pydantic import ValidationError

from agent.config.models import Config
from agent.domain.trigger_body import TriggerBody
from agent.domain.verdict import Verdict
from agent.inspection.trigger_queue import End, Ended, Trigger, TriggerQueue
from camera.feed.gate import Gate

MAX_ENDED = 10_000
"""Results without a picture that may wait for the store."""
_LONGEST_WAIT_S = 1.0


@dataclass(frozen=True, slots=True)
class Awaited:
    """A station that waits for triggers.

    Attributes:
        deadline_ms: how long a trigger waits unless it says itself.
        uninspected: reason, trigger -> the result of one without a picture; quick, called under the lock.
            It is complete, so that a station that is not yet judged, or no more, still gives its results.
    """

    deadline_ms: int
    uninspected: Callable[[str, Trigger], Verdict]


@dataclass(slots=True)
class _Station:
    """What is known of a station; the gate is the one of the camera that is open now."""

    awaited: Awaited
    book: TriggerQueue
    gate: Gate


class Triggers:
    """Of a station's triggers 64 may wait; one more gets its result, ``busy``, at once.

    When 10 000 results without a picture wait for the store, the next ones are lost, and counted.

    Owns the triggers under one lock. The connection's thread brings them, the cameras' claim them, the
    inspector's settles them, and `run` ends in its own thread what is due and delivers it; `use` does where a
    reload takes a station away.

    Args:
        deliver: takes verdicts; may wait.

    Attributes:
        lost: triggers without a result since the start.
    """

    def __init__(self, deliver: Callable[[Sequence[Verdict]], object]) -> None:
        self.lost = 0
        self._deliver = deliver
        self._changed = threading.Condition()
        self._stations: dict[str, _Station] = {}
        self._ended: list[tuple[Awaited, Ended]] = []
        self._stop = False

    def use(self, awaited: Mapping[str, Awaited], anew: Collection[str] = ()) -> None:
        """Take triggers for these stations from now on.

        Args:
            awaited: all stations that wait for triggers.
            anew: stations whose camera is opened once more: what waits there ends, and who has the gate until
                now has no say any more.
        """
        with self._changed:
            for name in {*self._stations} - {*awaited}:
                gone = self._stations.pop(name)
                self._add(gone.awaited, gone.book.close("reload"))
            for name, wanted in awaited.items():
                station = self._stations.get(name)
                if station is None:
                    self._stations[name] = _Station(wanted, TriggerQueue(), _Gate(self, name))
                    continue
                if name in anew:
                    self._add(station.awaited, station.book.close("reload"))
                    station.book.reopen()
                    station.gate = _Gate(self, name)
                station.awaited = wanted
            verdicts = self._composed()
            self._changed.notify_all()
        if verdicts:
            self._deliver(verdicts)

    def gate(self, name: str) -> Gate | None:
        """Return what a station's camera asks which pictures to inspect; None where that is all."""
        with self._changed:
            station = self._stations.get(name)
        return None if station is None else station.gate

    def receive(self, name: str, payload: bytes) -> bool:
        """Take a trigger over; False where it is none. From the connection's thread; never waits."""
        arrived_ns = time.monotonic_ns()
        try:
            body = TriggerBody.model_validate_json(payload)
        except ValidationError:
            return False
        with self._changed:
            station = self._stations.get(name)
            if station is None:
                return False
            deadline_ms = body.deadline_ms or station.awaited.deadline_ms
            trigger = Trigger(body.trigger_id, body.part_id, arrived_ns, arrived_ns + deadline_ms * 1_000_000)
            self._add(station.awaited, station.book.ask(trigger))
            self._changed.notify_all()
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
                for station in self._stations.values():
                    self._add(station.awaited, station.book.expire(now_ns))
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
            for station in self._stations.values():
                self._add(station.awaited, station.book.close(reason))
            self._stop = True
            self._changed.notify_all()

    def _patience_s(self, now_ns: int) -> float:
        books = [station.book for station in self._stations.values()]
        due = [due for book in books if (due := book.due_ns()) is not None]
        return max(0.0, min((min(due) - now_ns) / 1e9, _LONGEST_WAIT_S)) if due else _LONGEST_WAIT_S

    def _settled(self, name: str, trigger: str) -> bool:
        station = self._stations.get(name)  # None after a reload, which has ended its triggers
        return station is not None and station.book.settle(trigger)

    def _composed(self) -> list[Verdict]:
        """Return the verdicts of what has ended; with the lock held."""
        ended, self._ended = self._ended, []
        return [awaited.uninspected(one.reason, one.trigger) for awaited, one in ended]

    def _add(self, awaited: Awaited, ended: Sequence[Ended]) -> None:
        room = max(0, MAX_ENDED - len(self._ended))
        self.lost += max(0, len(ended) - room)
        self._ended += [(awaited, one) for one in ended[:room]]


def trigger_deadlines_ms(config: Config) -> dict[str, int]:
    """Return the stations that wait for triggers, each with how long a trigger may wait."""
    found = {name: station.trigger for name, station in config.stations.items() if station.enabled}
    return {name: trigger.deadline_ms for name, trigger in found.items() if trigger.mode == "mqtt"}


class _Gate:
    """What one opened camera sees of it, until another has its place; see `camera.feed.gate.Gate`."""

    def __init__(self, triggers: Triggers, name: str) -> None:
        self._triggers, self._name = triggers, name

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
            station = self._station()
            trigger = None if station is None else station.book.claim(captured_ns)
        return None if trigger is None else (trigger.id, trigger.part_id)

    def unusable(self, fault: str) -> None:
        with self._triggers._changed:
            if (station := self._station()) is not None:
                station.book.unusable(fault)

    def offline(self, *, offline: bool) -> None:
        with self._triggers._changed:
            if (station := self._station()) is not None:
                self._triggers._add(station.awaited, station.book.camera(offline=offline))
                self._triggers._changed.notify_all()

    def _wanted(self, captured_ns: int) -> bool:
        station = self._station()
        return station is not None and station.book.wanted(captured_ns)

    def _station(self) -> _Station | None:
        """Return the station while this is its gate; with the lock held."""
        station = self._triggers._stations.get(self._name)
        return station if station is not None and station.gate is self else None
