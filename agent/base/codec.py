"""Payloads as JSON: how a dict, a moment and a score are written."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

JSON = dict[str, Any]


def timestamp(moment: datetime) -> str:
    """Return UTC ISO-8601 with milliseconds and a Z."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def dumps(payload: JSON) -> str:
    """Return compact UTF-8 JSON; never NaN, which is not JSON."""
    return json.dumps(payload, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def rounded(score: float | None) -> float | None:
    """Return a score with six digits."""
    # Six digits: finer than any decision, and a third of the bytes of a float's repr.
    return None if score is None else round(score, 6)
