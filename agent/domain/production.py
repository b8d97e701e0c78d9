"""What a part was made for, as the plant says it: order, lot and shift. Nothing is decided by it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Production:
    """What is being made at a station now; made by `agent.reload.production_book.ProductionBook`.

    Attributes:
        order, lot, shift: as the plant calls them; None where nobody has said.
    """

    order: str | None = None
    lot: str | None = None
    shift: str | None = None


UNSAID = Production()
"""Nobody has said anything."""
