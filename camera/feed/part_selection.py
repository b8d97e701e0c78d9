"""Which captures of a feed are judged where parts are looked for, and for which part."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from camera.core.frame import Capture, Fault, PartPicture
from camera.core.presence_settings import PresenceTrigger
from camera.presence.count import PresenceCount
from camera.presence.watch import Chosen, PresenceWatch

GLANCE_S: Final = 1.0
"""So often a picture without a part is looked at for faults: a dark lamp or a frozen camera hides parts."""

Selected = tuple[Capture, PartPicture | None]


class PartSelection:
    """Owned and used by the thread of one feed.

    Args:
        settings: of the station.
        counted: at the station so far, by this feed and those before it.
    """

    def __init__(self, settings: PresenceTrigger, counted: PresenceCount) -> None:
        self._watch = PresenceWatch(settings, counted)
        self._told: Fault | None = None
        self._glance_ns: int | None = None

    @property
    def settings(self) -> PresenceTrigger:
        """How parts are found."""
        return self._watch.settings

    @property
    def counted(self) -> PresenceCount:
        """Return what was counted until now."""
        return self._watch.count

    def select(self, capture: Capture, fault_of: Callable[[Capture], Fault | None]) -> list[Selected]:
        """Return what is to be judged by now: pictures of parts, and faults when they begin.

        Args:
            capture: the newest one.
            fault_of: looks at a picture for what hides parts; asked once in `GLANCE_S`.
        """
        if capture.image is None:
            gone = capture.fault is Fault.CAMERA_OFFLINE
            self._told, self._glance_ns = None, None
            return [*(self.rest(capture.captured_ns) if gone else []), (capture, None)]
        picked = [_selected(one, capture.captured_ns) for one in self._watch.look(capture)]
        if self._glance_ns is None or capture.captured_ns - self._glance_ns >= GLANCE_S * 1e9:
            self._glance_ns = capture.captured_ns
            fault, before = fault_of(capture), self._told
            self._told = fault
            if fault not in (None, before):
                picked.append((capture, None))
        return picked

    def rest(self, now_ns: int) -> list[Selected]:
        """Return the pictures of the parts in view: no picture follows."""
        return [_selected(one, now_ns) for one in self._watch.flush()]


def _selected(chosen: Chosen, now_ns: int) -> Selected:
    return chosen.capture, PartPicture(chosen.part, chosen.place, chosen.of, now_ns)
