"""The triggers of one station: which wait for a picture, which have one, which are over; the clock is given.

Every trigger that is taken comes to exactly one end: a verdict on its picture, or a reason why there is none.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Literal

MAX_WAITING = 64
"""Triggers of a station that may wait, pictures on their way included."""
REMEMBERED = 1000
"""Triggers that are over and still known, so that one that comes twice gives one result."""

End = Literal["timeout", "busy", "shutdown", "reload", "camera_offline"]
"""Reasons of a result without a picture; a fault of the last picture besides."""


@dataclass(frozen=True, slots=True)
class Trigger:
    """Somebody's word that a part is there.

    Attributes:
        id: unique at its station.
        part_id: what they call the part.
        arrived_ns: when it came, by ``time.monotonic_ns``.
        deadline_ns: when its result is due.
    """

    id: str
    part_id: str | None
    arrived_ns: int
    deadline_ns: int


@dataclass(frozen=True, slots=True)
class Ended:
    """A trigger that gets no picture, and why."""

    trigger: Trigger
    reason: str


class TriggerQueue:
    """When 64 wait, the next trigger ends at once as ``busy``.

    Owns the triggers of a station; whoever calls holds the lock of `agent.inspection.triggers.Triggers`.

    Attributes:
        repeated: triggers that had come before, and give no result of their own.
        ignored: those of them, or of their pictures, that came when it was over.
    """

    def __init__(self) -> None:
        self.repeated = self.ignored = 0
        self._waiting: OrderedDict[str, Trigger] = OrderedDict()  # for a picture
        self._claimed: OrderedDict[str, Trigger] = OrderedDict()  # their picture is on its way
        self._over: OrderedDict[str, None] = OrderedDict()
        self._offline = False
        self._closed: End | None = None
        self._fault: str | None = None

    def ask(self, trigger: Trigger) -> list[Ended]:
        """Take a trigger; returns its end where that is known already."""
        if trigger.id in self._waiting or trigger.id in self._claimed or trigger.id in self._over:
            self.repeated += 1
            return []
        if self._closed is not None:
            return [self._ended(trigger, self._closed)]
        if self._offline:
            return [self._ended(trigger, "camera_offline")]
        if len(self._waiting) + len(self._claimed) >= MAX_WAITING:
            return [self._ended(trigger, "busy")]
        if not self._waiting:
            self._fault = None
        self._waiting[trigger.id] = trigger
        return []

    def wanted(self, captured_ns: int) -> bool:
        """Whether a picture of then is waited for: captured when the oldest trigger had come, or later."""
        first = next(iter(self._waiting.values()), None)
        return first is not None and captured_ns >= first.arrived_ns

    def claim(self, captured_ns: int) -> Trigger | None:
        """Give a usable picture to the oldest trigger that came before it; each has a picture of its own."""
        if not self.wanted(captured_ns):
            return None
        trigger_id, trigger = self._waiting.popitem(last=False)
        self._claimed[trigger_id] = trigger
        return trigger

    def unusable(self, fault: str) -> None:
        """Note that a picture came that cannot be judged; the triggers wait for the next one."""
        self._fault = fault

    def settle(self, trigger_id: str) -> bool:
        """End a trigger by the verdict on its picture; False where it is over already."""
        if self._claimed.pop(trigger_id, None) is None:
            self.ignored += 1
            return False
        self._remember(trigger_id)
        return True

    def expire(self, now_ns: int) -> list[Ended]:
        """End what is due, for lack of a usable picture or of its verdict in time."""
        late = [t for t in (*self._waiting.values(), *self._claimed.values()) if t.deadline_ns <= now_ns]
        return [
            self._ended(t, self._fault if t.id in self._waiting and self._fault else "timeout") for t in late
        ]

    def due_ns(self) -> int | None:
        """Return when the next one is due; None while nobody waits."""
        return min((t.deadline_ns for t in (*self._waiting.values(), *self._claimed.values())), default=None)

    def camera(self, *, offline: bool) -> list[Ended]:
        """Note that the camera is gone or back; what waits for a picture ends when it goes."""
        self._offline = offline
        if not offline:
            return []
        return [self._ended(trigger, "camera_offline") for trigger in list(self._waiting.values())]

    def close(self, reason: End) -> list[Ended]:
        """End everything, and from now on what comes."""
        self._closed = reason
        return [self._ended(t, reason) for t in (*self._waiting.values(), *self._claimed.values())]

    def reopen(self) -> None:
        """Take triggers again, for a camera that is opened anew: nothing is known of it yet."""
        self._closed = self._fault = None
        self._offline = False

    def _ended(self, trigger: Trigger, reason: str) -> Ended:
        self._waiting.pop(trigger.id, None)
        self._claimed.pop(trigger.id, None)
        self._remember(trigger.id)
        return Ended(trigger, reason)

    def _remember(self, trigger_id: str) -> None:
        self._over[trigger_id] = None
        while len(self._over) > REMEMBERED:
            self._over.popitem(last=False)
