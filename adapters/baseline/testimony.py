"""What persons have vouched for when a station was commissioned."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from adapters.baseline.claims import FalseRejectClaim


@dataclass(frozen=True, slots=True)
class Testimony:
    """Who commissioned, and what follows from what they said; the default is that nobody knows.

    Attributes:
        made_by: user who commissioned; "" where that is not known.
        all_good: a person said that all parts that were watched were good; None where that is not known.
        claim: of false rejects; None where nothing can be claimed.
    """

    made_by: str = ""
    all_good: bool | None = None
    claim: FalseRejectClaim | None = None

    @classmethod
    def read(cls, facts: Mapping[str, Any]) -> Self:
        """Return what `facts` were made of; fields that are not known here are passed over.

        Raises:
            ValueError, KeyError, TypeError, AttributeError: they are none.
        """
        made_by, all_good, claim = facts["made_by"], facts["all_good"], facts["claim"]
        if not isinstance(made_by, str) or not (all_good is None or isinstance(all_good, bool)):
            raise ValueError("who vouches, and for what")
        return cls(made_by, all_good, None if claim is None else FalseRejectClaim.read(claim))

    def facts(self) -> dict[str, Any]:
        """Return it for JSON."""
        claim = None if self.claim is None else self.claim.facts()
        return {"made_by": self.made_by, "all_good": self.all_good, "claim": claim}
