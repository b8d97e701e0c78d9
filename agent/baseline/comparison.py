"""Two baselines beside each other: what differs, by name. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Difference:
    """Something that two baselines do not have in common.

    Attributes:
        name: of it, levels joined by dots.
        one, other: what each says; None where it says nothing.
    """

    name: str
    one: Any
    other: Any

    def __str__(self) -> str:
        return f"{self.name}: {_shown(self.one)} -> {_shown(self.other)}"


def differences(one: Mapping[str, Any], other: Mapping[str, Any], above: str = "") -> Iterator[Difference]:
    """Yield what differs between two reports of `agent.baseline.report.facts`, in order of the names."""
    for name in sorted({*one, *other}):
        mine, theirs = one.get(name), other.get(name)
        if isinstance(mine, Mapping) and isinstance(theirs, Mapping):
            yield from differences(mine, theirs, f"{above}{name}.")
        elif mine != theirs:
            yield Difference(above + name, mine, theirs)


def _shown(value: Any) -> str:
    if value is None:
        return "not known"
    if isinstance(value, float):
        return f"{value:.4g}"
    return ", ".join(map(str, value)) or "none" if isinstance(value, list) else str(value)
