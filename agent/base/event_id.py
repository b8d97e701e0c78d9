"""Event ids: ULIDs, which sort by time (https://github.com/ulid/spec)."""

from __future__ import annotations

import secrets
import time
from datetime import UTC, datetime

_CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


def ulid() -> str:
    """Return 26 characters: 48 bits of milliseconds, 80 random bits."""
    return ulid_of(time.time_ns() // 1_000_000, secrets.randbits(80))


def moment_of(event_id: str) -> datetime | None:
    """Return the time within a ULID; None where it is none."""
    try:
        milliseconds = sum(
            _CROCKFORD.index(letter) << shift
            for letter, shift in zip(event_id[:10], range(45, -5, -5), strict=True)
        )
        return datetime.fromtimestamp(milliseconds / 1000, UTC)
    except (ValueError, TypeError, OverflowError, OSError):  # bytes, from a database that was damaged
        return None


def ulid_of(milliseconds: int, chance: int) -> str:
    """Return the ULID of a time since 1970 and of 80 bits that nobody else has."""
    value = milliseconds << 80 | chance
    return "".join(_CROCKFORD[value >> shift & 31] for shift in range(125, -5, -5))
