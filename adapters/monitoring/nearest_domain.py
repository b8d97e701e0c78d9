"""Which stored versions were made for pictures like those of now."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from adapters.core.version import Version
from adapters.monitoring.degradation import Degradation

_VISIBLE = {
    "picture_blur_x": 1.0,
    "picture_blur_y": 1.0,
    "picture_smear": 1.0,
    "picture_gain": 0.1,
    "picture_gain_spread": 0.05,
    "picture_light": 0.05,
    "picture_light_spread": 0.03,
    "picture_noise": 0.01,
}
"""Differences between two conditions that one would see."""


def most_alike(condition: Degradation, versions: Sequence[Version], count: int) -> list[Version]:
    """Return up to `count` versions of different adapters, those of the most similar conditions first.

    Of equally similar ones the newest is first.
    """
    here = condition.numbers()
    ranked = sorted(versions, key=lambda version: (_unlike(here, version.condition), -version.number))
    chosen: dict[str, Version] = {}
    for version in ranked:
        chosen.setdefault(version.digest, version)
    return list(chosen.values())[:count]


def _unlike(here: Mapping[str, float], there: Mapping[str, Any]) -> float:
    if not there:
        return math.inf
    try:
        squares = [((here[name] - float(there.get(name, 0.0))) / one) ** 2 for name, one in _VISIBLE.items()]
    except (TypeError, ValueError, OverflowError):  # an imported version may say anything of its condition
        return math.inf
    return sum(squares) if all(map(math.isfinite, squares)) else math.inf
