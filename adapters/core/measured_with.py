"""What a baseline was measured with: the same weights answer otherwise at another precision."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self, get_args

from adapters.core.protocol import ModelInfo, Precision


@dataclass(frozen=True, slots=True)
class MeasuredWith:
    """The model that looked at the clean line, and what ran it.

    Attributes:
        name: of the model; the same weights under another name may be another function.
        precision: of the image tower.
        provider: where it ran; for people. In fp32 all engines are checked to answer alike.
        bundle: ``sha256:...`` of the bundle's manifest; None without a bundle.
    """

    name: str
    precision: Precision
    provider: str
    bundle: str | None

    @classmethod
    def of(cls, info: ModelInfo) -> Self:
        """Return it for a model that runs."""
        return cls(info.name, info.precision, info.provider, info.bundle)

    @classmethod
    def read(cls, facts: Mapping[str, Any]) -> Self:
        """Return what `facts` were made of.

        Raises:
            ValueError, KeyError, TypeError: they are none.
        """
        found = cls(**{name: facts[name] for name in cls.__slots__})
        if found.precision not in get_args(Precision):
            raise ValueError(f"precision {found.precision!r}")
        return found

    def facts(self) -> dict[str, Any]:
        """Return it for JSON."""
        return asdict(self)

    def differs_from(self, now: MeasuredWith) -> str | None:
        """Say in which way what runs now answers otherwise; None where it answers alike."""
        if self.name != now.name:
            return f"as model {self.name}, it runs as {now.name}"
        if self.precision != now.precision:
            return f"in {self.precision}, the model runs in {now.precision}"
        # The numbers of int8 are made when a bundle is built; those of the others are the checkpoint's.
        if self.precision == "int8" and self.bundle != now.bundle:
            return "in int8 of another bundle"
        return None
