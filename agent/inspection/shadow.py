"""Which pictures the frozen model is shown beside what answers."""

from __future__ import annotations

import hashlib


def is_shadowed(station: str, number: int, share: float) -> bool:
    """Tell whether a frame is one of the share that the frozen model sees too.

    Drawn by station and number, not by what is in the picture or what was said of it: what the frozen model
    does not see, drift and guard do not know of, and must not miss more often where it matters.

    Args:
        station: its name.
        number: of the frame.
        share: 0..1 of the frames.
    """
    drawn = hashlib.blake2b(f"{station}/{number}".encode(), digest_size=8).digest()
    return int.from_bytes(drawn) < share * 2**64
