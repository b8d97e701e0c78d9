"""How a feed looks at its camera's pictures: its settings, and what these need to remember."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from camera.core.frame import Image
from camera.core.presence_settings import PresenceTrigger
from camera.core.settings import QualityLimits, RegionOfInterest
from camera.feed.gate import Gate
from camera.pictures.framing import Framing, ModelInput
from camera.pictures.preprocess import InputSpec
from camera.pictures.quality import FreezeWatch
from camera.pictures.region import Region
from camera.pictures.sight import PictureSight
from camera.pictures.view import ViewSetting

_TOLD: Final = 4
"""Sizes of pictures of which it is told what the model sees of them; a folder may have one each."""


@dataclass(frozen=True, slots=True)
class FeedSettings:
    """What of a camera's pictures is let through, and how it is looked at.

    Attributes:
        every_s: let through one picture per interval; None lets all through.
        gate: lets through what somebody asked for; None lets all through. A file waits for it.
        view: how a region becomes the model's square.
        tiles: columns and rows.
        measured: what the station's baseline was measured with; see `camera.pictures.view.resolve`.
        smallest_defect_px: of the recipe, in pixels of the camera's picture; None where it does not say.
        model: somebody asks the model; without, its input is not made.
        presence: how parts are found; only their pictures are let through. None: nobody looks for parts.
        references: what backbones want of the pictures, by names of the caller's; at least one where nobody
            asks the model.
    """

    roi: RegionOfInterest = field(default_factory=RegionOfInterest)
    limits: QualityLimits = field(default_factory=QualityLimits)
    every_s: float | None = None
    gate: Gate | None = None
    view: ViewSetting = "auto"
    tiles: tuple[int, int] = (1, 1)
    measured: ViewSetting | None = None
    smallest_defect_px: float | None = None
    model: bool = True
    presence: PresenceTrigger | None = None
    references: Mapping[str, InputSpec] = field(default_factory=dict)

    def framing(self, spec: InputSpec) -> Framing:
        """Return how the regions are shown to a model."""
        return Framing(spec, self.view, self.tiles, self.measured)

    def reference_framings(self) -> dict[str, Framing]:
        """Return how regions are shown to each backbone: by the station's view alone."""
        return {name: Framing(spec, self.view, self.tiles) for name, spec in self.references.items()}


class View:
    """Settings with what they need to remember; replaced whole, used by the feed's thread alone.

    Args:
        settings: to look by.
        spec: of the model's input.
        live: the source is a camera, for which time goes on without us.
        before: the view until now; the interval goes on where it is the same.
    """

    def __init__(
        self, settings: FeedSettings, spec: InputSpec, *, live: bool, before: View | None = None
    ) -> None:
        limits = settings.limits
        self.settings = settings
        self.region = Region(settings.roi)
        self.references = settings.reference_framings()
        # What is said of what is seen, is said of the model, or of the backbone that judges alone.
        self.framing = settings.framing(spec) if settings.model else next(iter(self.references.values()))
        self.cropped: float | None = None if before is None else before.cropped
        told = before is not None and _seen(before.settings) == _seen(settings)
        self._told: list[PictureSight] = before._told if before is not None and told else []
        # A folder may hold equal pictures; only a camera that sends them is frozen.
        self.freeze = FreezeWatch(limits if live else limits.model_copy(update={"frozen_s": None}))
        self._every_ns = 0 if settings.every_s is None else int(settings.every_s * 1e9)
        same = before is not None and before.settings.every_s == settings.every_s
        self._due_ns: int = before._due_ns if before is not None and same else 0

    def due(self, captured_ns: int) -> bool:
        """Whether a picture captured then is let through by the interval; if so, the next one waits."""
        if captured_ns < self._due_ns:
            return False
        # The next one is due a whole interval after this was, not after it happened to come.
        late_ns = captured_ns - self._due_ns
        self._due_ns = captured_ns + self._every_ns - (late_ns if late_ns < self._every_ns else 0)
        return True

    def inputs(self, image: Image) -> tuple[ModelInput | None, dict[str, ModelInput]]:
        """Return what the model gets of a region, if anybody asks it, and each backbone by its name."""
        shown = self.framing.inputs(image) if self.settings.model else None
        return shown, {name: framing.inputs(image) for name, framing in self.references.items()}

    def sees(self, whole: Image, region: Image) -> tuple[str, str | None] | None:
        """Take note of what the model sees of a picture, and say it where that is news.

        Args:
            whole: as the camera gave it, or as it was kept.
            region: what is looked at of it.

        Returns:
            A sentence, and a warning where the recipe's smallest defect would be too small to be seen; None
            where both were said already.
        """
        height, width = region.shape[:2]
        self.cropped = self.framing.cropped(width, height)
        one = PictureSight.of((whole.shape[1], whole.shape[0]), (width, height), self.framing)
        if one in self._told or len(self._told) == _TOLD:
            return None
        self._told = [*self._told, one]
        return one.sentence(), one.lost(self.settings.smallest_defect_px)


def _seen(settings: FeedSettings) -> tuple[object, ...]:
    """Return what is news of what the model sees where it is changed."""
    return (
        settings.view,
        settings.tiles,
        settings.measured,
        settings.smallest_defect_px,
        settings.model,
        *settings.references.items(),
    )
