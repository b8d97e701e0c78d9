"""What of a camera's picture a baseline was measured on: the same model answers otherwise of another."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

CameraFact = str | int | None
Corner = tuple[float, float]

AUTO = "auto"
_KEPT = "crop"
"""What a station keeps under `AUTO` where its baseline was measured with it."""


@dataclass(frozen=True, slots=True)
class MeasuredPicture:
    """What was made of each picture before the model saw it. What is None is not known.

    Attributes:
        region: left, top, right and bottom of the region of interest, shares of width and height.
        masks: the polygons that are blackened, in an order of their own; their names change no picture.
        view: ``fit``, ``fill`` or ``crop``; ``auto`` where that depends on the region's shape.
        tiles: columns and rows, as ``2x1``.
        camera: what of the camera's settings changes its pictures, by name. A clip or a recording names
            none: its pictures are those of the camera that it was made with.
    """

    region: tuple[float, float, float, float] | None = None
    masks: tuple[tuple[Corner, ...], ...] | None = None
    view: str | None = None
    tiles: str | None = None
    camera: Mapping[str, CameraFact] | None = None

    @classmethod
    def read(cls, facts: Mapping[str, Any]) -> Self:
        """Return what `facts` were made of; what a newer release knows besides is passed over.

        Raises:
            ValueError, TypeError: they are none.
        """
        if not isinstance(facts, Mapping) or not isinstance(facts.get("camera", {}), Mapping):
            raise TypeError("what was seen of the picture is no object")
        region, masks, camera = facts.get("region"), facts.get("masks"), facts.get("camera")
        said = {name: facts.get(name) for name in ("view", "tiles")} | {**(camera or {})}
        for name, fact in said.items():
            if not isinstance(fact, str | int | None):
                raise TypeError(f"{name} {fact!r}")
        return cls(
            None if region is None else _region(region),
            None if masks is None else tuple(tuple((float(x), float(y)) for x, y in one) for one in masks),
            facts.get("view"),
            facts.get("tiles"),
            None if camera is None else dict(camera),
        )

    def facts(self) -> dict[str, Any]:
        """Return what is known, for JSON."""
        known = {name: getattr(self, name) for name in self.__slots__}
        return {name: fact for name, fact in known.items() if fact is not None}

    @property
    def unknown(self) -> tuple[str, ...]:
        """What is not known, in words."""
        return tuple(word for name, word in _WORDS.items() if getattr(self, name) is None)

    def differs_from(self, now: MeasuredPicture) -> list[tuple[str, str]]:
        """Return in which way pictures are others now: the setting that says so, and what it was and is.

        What either does not know is not compared.
        """
        found: list[tuple[str, str]] = []
        if None not in (self.region, now.region) and self.region != now.region:
            found.append(("roi.crop", f"region of interest: was {_box(self.region)}, is {_box(now.region)}"))
        if self.masks is not None and now.masks is not None and self.masks != now.masks:
            found.append(("roi.masks", f"masks: {_polygons(self.masks, now.masks)}"))
        # A station whose baseline was measured with a cut goes on with it where nobody asks for another view.
        kept = now.view == AUTO and self.view == _KEPT
        if None not in (self.view, now.view) and self.view != now.view and not kept:
            found.append(("view", f"view: was {self.view}, is {now.view}"))
        if None not in (self.tiles, now.tiles) and self.tiles != now.tiles:
            found.append(("tiles", f"tiles: was {self.tiles}, is {now.tiles}"))
        before, after = self.camera or {}, now.camera or {}
        for name in before.keys() & after.keys():
            if before[name] != after[name]:
                what = f"camera {name}: was {_shown(before[name])}, is {_shown(after[name])}"
                found.append((f"camera.{name}", what))
        return sorted(found, key=lambda one: one[0])


_WORDS = {
    "region": "region of interest",
    "masks": "masks",
    "view": "view",
    "tiles": "tiles",
    "camera": "camera",
}


def _region(values: Any) -> tuple[float, float, float, float]:
    left, top, right, bottom = map(float, values)
    return left, top, right, bottom


def _box(region: tuple[float, ...] | None) -> str:
    return "" if region is None else f"[{', '.join(f'{side:g}' for side in region)}]"


def _polygons(before: tuple[Any, ...], after: tuple[Any, ...]) -> str:
    return f"were {len(before)}, are {len(after)}" if len(before) != len(after) else "are other polygons"


def _shown(fact: CameraFact) -> str:
    return "not set" if fact is None else str(fact)
