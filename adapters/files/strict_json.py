"""JSON as its standard has it: numbers are finite, or it is refused. Python's own reads and writes NaN.

What is written goes through `json.dumps` with ``allow_nan=False``; what is read, through `loads`.
"""

from __future__ import annotations

import json
import math
from typing import Any


def loads(text: str | bytes) -> Any:
    """Return what a JSON text says.

    Raises:
        ValueError: it is not JSON, nested deeper than Python can go, or holds a number that is not finite,
            such as ``NaN`` or ``1e999``, or a whole number that none which is finite comes near.
    """
    try:
        return json.loads(text, parse_constant=_constant, parse_float=_number, parse_int=_whole)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def _constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON")


def _number(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError(f"{digits[:20]} is larger than a number can be")
    return number


def _whole(digits: str) -> int:
    _number(digits)
    return int(digits)
