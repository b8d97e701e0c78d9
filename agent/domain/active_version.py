"""What a station inspects with, as a value."""

from __future__ import annotations

from dataclasses import dataclass

from adapters.core.adapter import Adapter
from adapters.core.version import Version


@dataclass(frozen=True, slots=True, eq=False)
class ActiveVersion:
    """What to inspect with.

    Attributes:
        number: of the version; 0 is the source.
        adapter: its LayerNorms.
        offset: its operating point, on the log-odds of a defect.
        at_bound: its operating point may not follow the pictures any further.
        usual: what the stream's good parts scored when that was set, in nats; None where it is not known, and
            of the source.
    """

    number: int
    adapter: Adapter
    offset: float
    at_bound: bool = False
    usual: float | None = None

    @classmethod
    def by(cls, version: Version) -> ActiveVersion:
        """Return what a version answers with."""
        at_bound = bool(version.numbers.get("at_bound"))
        usual = version.numbers.get("usual")
        return cls(version.number, version.adapter, version.offset, at_bound, usual)
