"""The gate between a camera and who asks for pictures: which of them are to be inspected, and for whom."""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol

from camera.core.frame import Fault, Frame


class Gate(Protocol):
    """Says which pictures of one opened camera are to be inspected; the camera's thread asks.

    A gate belongs to the feed that it was made for. When the camera is opened anew, its next feed gets
    another gate, and what the last one still says through the old gate counts for nothing.
    """

    def wait(self, timeout_s: float) -> bool:
        """Wait until a picture is wanted; False after `timeout_s`."""

    def wanted(self, captured_ns: int) -> bool:
        """Whether a picture captured then is wanted."""

    def claim(self, captured_ns: int) -> tuple[str, str | None] | None:
        """Take a usable picture: returns the trigger's id and its part, None where nobody wants it now."""

    def unusable(self, fault: str) -> None:
        """Note that a picture that was wanted cannot be judged."""

    def offline(self, *, offline: bool) -> None:
        """Note that the camera is gone, or gives pictures."""


def claimed(frame: Frame, gate: Gate | None) -> Frame:
    """Give a frame to the trigger that waits for it, where there are triggers."""
    if gate is None or frame.quality.fault is Fault.CAMERA_OFFLINE:
        return frame
    if frame.quality.fault is not None:
        gate.unusable(frame.quality.fault)
        return frame
    given = gate.claim(frame.captured_ns)
    if given is None:
        return frame
    trigger, part = given
    return replace(frame, trigger=trigger, part_id=frame.part_id if part is None else part)
