"""A version: an adapter that was promoted, with origin, evidence and operating point, in one file."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import numpy as np

from adapters.core.adapter import Adapter, AdapterError, AdapterFileError, read_adapter, save_adapter
from adapters.files.strict_json import loads

SOURCE = 0
"""The number of the model as it was trained; it has no file."""

_FACTS = "version"
"""The key of the adapter file's metadata under which the facts stand, as JSON."""
_KNOWN = frozenset(
    {"parent", "origin", "made_at", "window", "offset", "recipe", "condition", "numbers", "release"}
)


@dataclass(frozen=True, slots=True)
class Window:
    """The frames that a version was learned from: numbers of the first and the last, and how many."""

    first: int
    last: int
    count: int


@dataclass(frozen=True, eq=False)
class Version:
    """One promoted adapter with where it comes from and what spoke for it.

    Attributes:
        adapter: its number is the version's. Its tensors may be those of the source: then only the operating
            point differs.
        parent: number of the version that it came from; its digest is `adapter.parent`.
        made_at: UTC, ISO-8601.
        offset: operating point that was promoted with it: a part fails when its score, the log-odds of a
            defect, reaches this plus the logit of the recipe's threshold.
        recipe: digest of the recipe that it may answer under: it was learned under it, or imported for it.
        condition: state of the pictures that it was learned for, in words and numbers, JSON.
        numbers: what the guard measured, flat. May hold values that are not finite.
        release: of the agent that made it; "" where that is not known.
        more: what a newer release has written beside all this; kept, and not understood.
    """

    adapter: Adapter
    parent: int
    origin: Literal["learned", "imported"]
    made_at: str
    window: Window
    offset: float
    recipe: str
    condition: Mapping[str, Any]
    numbers: Mapping[str, float]
    release: str = ""
    more: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not math.isfinite(self.offset):
            raise AdapterError(f"version {self.number}: the offset is {self.offset}, not a finite number")
        object.__setattr__(self, "condition", MappingProxyType(strict(self.condition)))
        numbers = {name: float(number) for name, number in self.numbers.items()}
        object.__setattr__(self, "numbers", MappingProxyType(numbers))
        object.__setattr__(self, "more", MappingProxyType(strict(self.more)))

    @property
    def number(self) -> int:
        """Unique in its store; grows, with gaps, and is never given again."""
        return self.adapter.number

    @property
    def digest(self) -> str:
        """Of the tensors alone: versions that differ only in their offset share it."""
        return self.adapter.digest

    def facts(self) -> dict[str, Any]:
        """Return all that is known of it but the tensors, for strict JSON."""
        return {
            "number": self.number,
            "origin": self.origin,
            "made_at": self.made_at,
            "parent": self.parent,
            "parent_digest": self.adapter.parent,
            "digest": self.digest,
            "offset": self.offset,
            "window": asdict(self.window),
            "recipe": self.recipe,
            "condition": dict(self.condition),
            "numbers": strict(self.numbers),
            "release": self.release,
        }


def save_version(version: Version, path: Path, weights: str) -> None:
    """Write a version durably as an adapter file that `load_adapter` reads too.

    Raises:
        OSError: the disk is full or the folder cannot be written; an old file is as it was.
    """
    facts = {
        **version.more,
        "parent": version.parent,
        "origin": version.origin,
        "made_at": version.made_at,
        "window": asdict(version.window),
        "offset": version.offset,
        "recipe": version.recipe,
        "condition": dict(version.condition),
        "numbers": strict(version.numbers),
        "release": version.release,
    }
    more = {_FACTS: json.dumps(facts, allow_nan=False), "release": version.release}
    save_adapter(version.adapter, path, weights, more)


def read_version(path: Path, source: Adapter, weights: str) -> Version:
    """Read and verify what `save_version` wrote.

    Raises:
        AdapterFileError: the file is missing, damaged, of another model, or an adapter without these facts.
    """
    adapter, metadata = read_adapter(path, source, weights)
    if _FACTS not in metadata:
        raise AdapterFileError(f"{path}: an adapter without its operating point: not an exported version")
    try:
        facts = loads(metadata[_FACTS])
        if facts["origin"] not in ("learned", "imported"):
            raise ValueError(f"origin {facts['origin']!r}")
        return Version(
            adapter=adapter,
            parent=int(facts["parent"]),
            origin=facts["origin"],
            made_at=str(facts["made_at"]),
            window=Window(*(int(facts["window"][key]) for key in ("first", "last", "count"))),
            offset=float(facts["offset"]),
            recipe=str(facts["recipe"]),
            condition=facts["condition"],
            numbers=facts["numbers"],
            release=str(facts.get("release", "")),
            more={name: fact for name, fact in facts.items() if name not in _KNOWN},
        )
    # A seal is no secret: a stranger may have sealed nonsense.
    except (AdapterError, ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
        raise AdapterFileError(f"{path}: not an exported version: {error!r}") from error


def strict(value: Any) -> Any:
    """Return the value for strict JSON: numpy's scalars as Python's; nan, inf and -inf as text."""
    if isinstance(value, Mapping):
        return {str(key): strict(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [strict(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value
