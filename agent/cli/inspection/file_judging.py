"""Picture files judged as the line would judge them: what is shown to whom, and what they say."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from adapters.core.protocol import Engine
from agent.domain.comparison import Box, Comparison, DifferenceMap
from agent.domain.verdict import ANOMALY, Decision, decide
from agent.inspection.comparing import ComparedPart, compared, patches_of
from agent.inspection.judging import decided_by, encode
from agent.versions.file_plan import FilePlan
from camera.core.frame import Capture, Fault, Image, Quality
from camera.core.settings import RegionOfInterest
from camera.pictures.framing import ModelInput, in_picture
from camera.pictures.quality import assess, too_small
from camera.pictures.region import OtherRegion, Region
from camera.pictures.sight import PictureSight

_BATCH = 8
_SIZES = 4
"""Of pictures of which it is said what is seen of them."""


@dataclass(frozen=True, slots=True, eq=False)
class Judged:
    """One picture and what was decided about it.

    Attributes:
        view: how it was shown to what judged it; None where it was not.
        tile: the box that decided, in shares of the picture; None without tiles.
        comparison: what the reference says; None where none was asked.
        region: of the picture, as it was looked at; None where nothing was compared.
        difference: of each place of it.
    """

    path: str
    decision: Decision
    view: str | None = None
    tile: Box | None = None
    comparison: Comparison | None = None
    region: Image | None = None
    difference: DifferenceMap | None = None


@dataclass(frozen=True, slots=True, eq=False)
class _Shown:
    """A picture as it is shown.

    Attributes:
        region: of it; None where it is not to be judged.
        model: what the model gets; None where nobody asks it.
        backbone: what the backbone gets; None where nobody asks it.
    """

    path: str
    plan: FilePlan
    quality: Quality
    region: Image | None = None
    model: ModelInput | None = None
    backbone: ModelInput | None = None

    @property
    def asks_words(self) -> bool:
        return self.model is not None and self.plan.recipe.has_words


class ToldSights:
    """Says what is seen of pictures of a size, once each; files may have a size each. One thread."""

    def __init__(self, plan: FilePlan, tell: Callable[[str], None]) -> None:
        self._plan, self._tell = plan, tell
        self._told: list[PictureSight] = []

    def tell(self, whole: Image, region: Image) -> None:
        """Say it of a picture and what is looked at of it, where that is news."""
        (height, width), (whole_height, whole_width) = region.shape[:2], whole.shape[:2]
        sight = PictureSight.of((whole_width, whole_height), (width, height), self._plan.framing)
        if sight in self._told or len(self._told) == _SIZES:
            return
        self._told.append(sight)
        self._tell(sight.sentence())
        if lost := sight.lost(self._plan.recipe.smallest_defect_px):
            self._tell(lost)


def judge(
    captures: Iterable[tuple[str, Capture]],
    plan: FilePlan,
    engine: Engine,
    tell: Callable[[str], None],
    complain: Callable[[str], None],
) -> Iterator[Judged]:
    """Judge captures in batches; in the order in which they come.

    Args:
        captures: with the names to print.
        plan: what they are judged with.
        engine: of the model.
        tell: is told what is seen of pictures of a size, once.
        complain: is told why a picture cannot be judged.
    """
    region = Region(plan.roi or RegionOfInterest())
    told = ToldSights(plan, tell)
    captures = iter(captures)
    while batch := list(islice(captures, _BATCH)):
        shown = [
            _shown(path, capture, region, plan.of(capture.part_id), told, complain) for path, capture in batch
        ]
        asked = [one for one in shown if one.asks_words]
        features = iter(
            encode(
                engine,
                [one.model.pixels for one in asked if one.model is not None],
                [one.plan.predictor.adapter for one in asked],
            )
        )
        beside = _compare(shown)
        for (_, capture), one, part in zip(batch, shown, beside, strict=True):
            if capture.detail:
                complain(capture.detail)  # beside the line that says unreadable
            said = None
            if one.asks_words:
                said = decided_by(one.plan.predictor, next(features), engine.info.logit_scale)
            yield _judged(one, None if said is None else (said[0], said[1].tolist()), part)


def _shown(
    path: str,
    capture: Capture,
    region: Region,
    plan: FilePlan,
    told: ToldSights,
    complain: Callable[[str], None],
) -> _Shown:
    """Return what model and backbone get of a picture, and how good it is."""
    if capture.image is None:
        return _Shown(path, plan, Quality(fault=capture.fault))
    try:
        image, unmasked = region.cut(capture.image, None if plan.roi is None else capture.kept)
    except OtherRegion as error:
        complain(f"{path}: {error}")
        return _Shown(path, plan, Quality(fault=Fault.UNREADABLE))
    if small := too_small(image, plan.framing.tiles):
        complain(f"{path}: {small}")
        return _Shown(path, plan, Quality(fault=Fault.UNREADABLE))
    quality = assess(image, plan.limits, unmasked)
    if quality.fault is not None:
        return _Shown(path, plan, quality)
    told.tell(capture.image, image)
    model = plan.framing.inputs(image) if plan.recipe.needs_model else None
    one = plan.compared
    backbone = model if one is None or one.framing is None else one.framing.inputs(image)
    return _Shown(path, plan, quality, image, model, None if one is None else backbone)


def _compare(shown: Sequence[_Shown]) -> list[ComparedPart | None]:
    """Return what references say of pictures; None of those that are compared with none."""
    found: list[ComparedPart | None] = [None] * len(shown)
    for row, one in enumerate(shown):
        beside = one.plan.compared
        if beside is None or beside.reference is None or one.backbone is None or one.region is None:
            continue
        (patches,) = patches_of(beside.extractor, [one.backbone.pixels])
        height, width = one.region.shape[:2]
        found[row] = compared(
            patches,
            beside.reference,
            size=(width, height),
            tiles=one.backbone.boxes,
            crop=_crop(one.plan),
            view=one.backbone.view,
        )
    return found


def _judged(one: _Shown, words: tuple[int, list[float]] | None, part: ComparedPart | None) -> Judged:
    comparison = None if part is None else part.comparison
    decision = decide(None if words is None else words[1], one.quality, one.plan.recipe, comparison)
    by_reference = part is not None and (words is None or decision.reason == ANOMALY)
    seen = one.backbone if by_reference else one.model
    tile = part.tile if by_reference and part is not None else words and words[0]
    if seen is None or tile is None:
        return Judged(one.path, decision)
    box = in_picture(seen.boxes[tile], _crop(one.plan)) if len(seen.boxes) > 1 else None
    return Judged(
        one.path, decision, seen.view, box, comparison, one.region, None if part is None else part.difference
    )


def _crop(plan: FilePlan) -> Box:
    return (plan.roi or RegionOfInterest()).crop
