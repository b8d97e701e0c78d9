"""What was said of recent parts, until a label says what they really were."""

from __future__ import annotations

from dataclasses import dataclass

REMEMBERED = 10_000


@dataclass(frozen=True, slots=True)
class Said:
    """What was said of one part.

    Attributes:
        adapted_fails, frozen_fails: whether what answered, and the model as it was trained, reject it.
        adapter: digest of what answered.
    """

    adapted_fails: bool
    frozen_fails: bool
    adapter: str


class LabelledParts:
    """Beyond 10 000 parts of which the two say different things, the oldest are lost first."""

    def __init__(self) -> None:
        self._parts: dict[int, Said] = {}

    def add(self, number: int, said: Said) -> None:
        """Remember what was said of a part; where both say the same, its label proves nothing."""
        if said.adapted_fails == said.frozen_fails:
            return
        self._parts[number] = said
        if len(self._parts) > REMEMBERED:
            del self._parts[next(iter(self._parts))]

    def take(self, number: int) -> Said | None:
        """Return what was said of a part, once; None where nobody knows, or both said the same."""
        return self._parts.pop(number, None)
