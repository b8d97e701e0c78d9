"""What is counted where parts are looked for."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PresenceCount:
    """What has been counted at a station since the start.

    Attributes:
        parts: of which pictures were chosen.
        no_part: pictures in which there was no part.
        disturbances: things that came and were no parts: hands, jumps of the light, what went elsewhere.
    """

    parts: int = 0
    no_part: int = 0
    disturbances: int = 0


NOTHING_YET = PresenceCount()
