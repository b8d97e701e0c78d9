"""Where frames wait for the inspector: one slot per station."""

from __future__ import annotations

import time
from collections import Counter
from threading import Condition, Event

from camera.core.frame import Frame

STOP_CHECK_S = 0.2


class Mailbox:
    """When a slot is full, the newest frame wins and the lost one is counted; `put_waiting` waits instead.

    The picture of a trigger is pushed out by nothing. Who was told to stop puts nothing more: the station may
    be another one's by then.

    Owns the slots. Any thread may call anything; one thread takes.
    """

    def __init__(self) -> None:
        self._changed = Condition()
        # Filled slots, the longest filled first: a newer frame takes over its station's place in the
        # queue, a station just served queues at the end. So a fast station cannot starve a slow one.
        self._slots: dict[str, Frame] = {}
        self._open: Counter[str] = Counter()
        self._dropped: dict[str, int] = {}
        self._closed = False

    def open(self, station: str) -> None:
        """Expect frames of `station` until `end`; who opens twice ends twice."""
        with self._changed:
            self._open[station] += 1
            self._dropped.setdefault(station, 0)

    def end(self, station: str) -> None:
        """Expect no more frames of `station`; what is in its slot can still be taken."""
        with self._changed:
            self._open[station] -= 1
            if self._open[station] <= 0:
                del self._open[station]
            self._changed.notify_all()

    def close(self) -> None:
        """End all stations and wake everybody who waits."""
        with self._changed:
            self._closed = True
            self._open.clear()
            self._changed.notify_all()

    @property
    def ended(self) -> bool:
        """Whether nothing waits and nothing will come: every station that was opened has ended."""
        with self._changed:
            return self._ended()

    def dropped(self, station: str) -> int:
        """Count the frames of `station` that another one pushed out or kept out, or that came too late."""
        with self._changed:
            return self._dropped.get(station, 0)

    def put(self, frame: Frame, stop: Event | None = None) -> None:
        """Put a live frame: the newest wins, without waiting; nothing where `stop` came first."""
        with self._changed:
            if stop is not None and stop.is_set():
                return
            before = self._slots.get(frame.station)
            if before is not None or self._closed:
                self._dropped[frame.station] = self._dropped.get(frame.station, 0) + 1
            claimed = before is not None and before.trigger is not None
            if not self._closed and not claimed:
                self._slots[frame.station] = frame
                self._changed.notify_all()

    def put_waiting(self, frame: Frame, stop: Event) -> bool:
        """Wait until the slot is free and put the frame; False where `stop` or `close` came first."""
        with self._changed:
            while frame.station in self._slots and not self._closed and not stop.is_set():
                # A frame taken or a close wakes us at once; only an Event cannot wake a Condition.
                self._changed.wait(STOP_CHECK_S)
            if self._closed or stop.is_set():
                return False
            self._slots[frame.station] = frame
            self._changed.notify_all()
            return True

    def take(self, limit: int, timeout_s: float) -> list[Frame]:
        """Return up to `limit` frames, at most one per station, the longest waiting station first.

        Waits for the first one. The list is empty after `timeout_s`, or as soon as `ended` is true.
        """
        until_s = time.monotonic() + timeout_s
        with self._changed:
            while not self._slots and not self._ended():
                left_s = until_s - time.monotonic()
                if left_s <= 0:
                    return []
                self._changed.wait(left_s)
            frames = [self._slots.pop(station) for station in list(self._slots)[:limit]]
            if frames:
                self._changed.notify_all()
            return frames

    def clear(self) -> None:
        """Throw away what nobody will take any more, and tell the sources that must know."""
        with self._changed:
            frames = [*self._slots.values()]
            self._slots.clear()
            self._changed.notify_all()
        for frame in frames:
            if frame.receipt is not None:
                frame.receipt.lost()

    def _ended(self) -> bool:
        return not self._slots and not self._open and (self._closed or bool(self._dropped))
