"""What a baseline was measured with: the same weights answer otherwise at another precision."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self, get_args

from adapters.core.measured_picture import MeasuredPicture
from adapters.core.protocol import ModelInfo, Precision


@dataclass(frozen=True, slots=True)
class MeasuredWith:
    """The model that looked at the clean line, and what ran it.

    Attributes:
        name: of the model; the same weights under another name may be another function.
        precision: of the image tower.
        provider: where it ran; for people. In fp32 all engines are checked to answer alike.
        bundle: ``sha256:...`` of the bundle's manifest; None without a bundle.
        picture: what of the camera's picture it saw; None in files of releases that did not say it.
    """

    name: str
    precision: Precision
    provider: str
    bundle: str | None
    picture: MeasuredPicture | None = None

    @classmethod
    def of(cls, info: ModelInfo, picture: MeasuredPicture | None = None) -> Self:
        """Return it for a model that runs, and what it sees of a station's pictures."""
        return cls(info.name, info.precision, info.provider, info.bundle, picture)

    @classmethod
    def read(cls, facts: Mapping[str, Any]) -> Self:
        """Return what `facts` were made of.

        Raises:
            ValueError, KeyError, TypeError: they are none.
        """
        picture = facts.get("picture")
        seen = None if picture is None else MeasuredPicture.read(picture)
        found = cls(facts["name"], facts["precision"], facts["provider"], facts["bundle"], seen)
        if found.precision not in get_args(Precision):
            raise ValueError(f"precision {found.precision!r}")
        return found

    def facts(self) -> dict[str, Any]:
        """Return it for JSON."""
        facts = {name: getattr(self, name) for name in self.__slots__ if name != "picture"}
        return facts if self.picture is None else {**facts, "picture": self.picture.facts()}

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
