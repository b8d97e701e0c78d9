"""The demo's real product: hazelnuts, taught by ten pictures of good ones, where the photos are at hand."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, cast

from adapters.core.patches import PatchExtractor
from agent.config.loader import Loaded, load
from agent.domain.comparison import Comparison
from agent.domain.verdict import Decision, decide
from agent.golden import changes
from agent.golden.pictures import GoldenReader, NamedFile
from agent.golden.reference_build import BuiltReference, build_reference
from agent.golden.store import GoldenChange, GoldenStore
from agent.inspection.backbones import Backbones
from agent.inspection.comparing import compared
from agent.inspection.feed_factory import framing_of
from agent.versions.products import product
from camera.core.frame import Image, Quality
from camera.pictures.difference_picture import draw_difference, encode_png
from camera.pictures.view import ViewName
from camera.sources.folder import picture_files

PHOTOS: Final = Path("../shared/data/hazelnut-toy")
"""Good and bad hazelnuts, beside the project where somebody works on it."""
SAMPLES: Final = 10
_STATION: Final = "hazelnuts"
_RECIPE: Final = "hazelnut"
_WHOLE: Final = (0.0, 0.0, 1.0, 1.0)
_WHO: Final = "the demo"


@dataclass(frozen=True, slots=True, eq=False)
class Nut:
    """A hazelnut that was judged.

    Attributes:
        file: of its picture.
        good: the truth.
        decision: of the station.
        comparison: with the reference.
        png: where it differs, drawn over it.
    """

    file: Path
    good: bool
    decision: Decision
    comparison: Comparison
    png: bytes


def tell_of_nuts(folder: Path, photos: Path = PHOTOS) -> list[str]:
    """Teach a station hazelnuts, judge the others, draw the worst one; return what came of it, in sentences.

    Args:
        folder: for the station's data and the map, which is written there as ``hazelnut.png``.
        photos: ``good`` and ``colour_defect`` below it; where they are not there one sentence says so.
    """
    if not (photos / "good").is_dir():
        return [f"no photos at {photos}: the part of the story with a real product is left out"]
    loaded = _config(folder)
    files = picture_files(photos / "good")
    extractor = Backbones(loaded.config).of("backbone")
    built = _taught(loaded, files[:SAMPLES], extractor)
    bad = picture_files(photos / "colour_defect")
    truth = [*((file, True) for file in files[SAMPLES:]), *((file, False) for file in bad)]
    nuts = [_judged(loaded, built, extractor, file, good=good) for file, good in truth]
    worst = max(nuts, key=lambda nut: nut.comparison.score)
    drawn = folder / "hazelnut.png"
    drawn.write_bytes(worst.png)
    return [*_sentences(built, nuts), _verdict(worst, drawn)]


def _config(folder: Path) -> Loaded:
    content = {
        "version": 1,
        "agent": {"id": "demo", "data_dir": str(folder / "nuts")},
        "mqtt": {"enabled": False},
        "recipes": {_RECIPE: {"reference": {}}},
        "stations": {_STATION: {"camera": {"kind": "simulated"}, "recipe": _RECIPE}},
    }
    path = folder / "nuts.yaml"
    path.write_text(json.dumps(content, allow_nan=False), encoding="utf-8")  # JSON is YAML
    return load(path)


def _taught(loaded: Loaded, files: Sequence[Path], extractor: PatchExtractor) -> BuiltReference:
    config = loaded.config
    store = GoldenStore(product(config, _STATION).golden, _STATION)
    named = [NamedFile(file, "good") for file in files]
    changes.add(store, config.stations[_STATION], named, GoldenChange(_WHO, "add"), by=_WHO)
    return build_reference(config, _STATION, _RECIPE, extractor, actor=_WHO)


def _judged(
    loaded: Loaded, built: BuiltReference, extractor: PatchExtractor, file: Path, *, good: bool
) -> Nut:
    station, recipe = loaded.config.stations[_STATION], loaded.config.recipes[_RECIPE]
    image: Image = GoldenReader(station).read(NamedFile(file, "")).image
    shown = framing_of(station, extractor.info.preprocess).inputs(image)
    found = compared(
        extractor.patches(shown.pixels),
        built.reference,
        size=(image.shape[1], image.shape[0]),
        tiles=shown.boxes,
        crop=_WHOLE,
        view=shown.view,
    )
    decision = decide(None, Quality(), recipe, found.comparison)
    difference = found.difference
    view = cast(ViewName, difference.view)
    drawn = draw_difference(image, difference.maps, difference.tiles, view, max_width_px=image.shape[1])
    return Nut(file, good, decision, found.comparison, encode_png(drawn))


def _sentences(built: BuiltReference, nuts: Sequence[Nut]) -> list[str]:
    good, bad = [nut for nut in nuts if nut.good], [nut for nut in nuts if not nut.good]
    rejected = sum(nut.decision.verdict == "fail" for nut in good)
    missed = sum(nut.decision.verdict == "pass" for nut in bad)
    return [
        f"A real product: {SAMPLES} photos of good hazelnuts taught a station; a nut fails above"
        f" {built.reference.threshold:.3g}.",
        f"Of {len(good)} other good nuts it rejects {rejected}, of {len(bad)} with a colour defect it misses"
        f" {missed}.",
    ]


def _verdict(nut: Nut, drawn: Path) -> str:
    return (
        f"{nut.file.parent.name}/{nut.file.name}: {nut.decision.verdict}, {nut.decision.reason}, score"
        f" {nut.comparison.score:.3g}; where it differs: {drawn}"
    )
