"""Golden pictures: parts that a person named, one folder per class of the recipe."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from adapters.baseline.reference_samples import ReferenceSamples, first_seen
from adapters.core.observation import Bytes, as_bytes
from adapters.core.protocol import Floats
from adapters.core.scorer import Scorer
from agent.base.errors import UsageError
from agent.config.diagnostics import did_you_mean
from agent.config.models import Station
from agent.config.recipes import Recipe
from agent.inspection.feed_factory import framing_of
from agent.versions.station_picture import picture_of, prepared_as
from camera.core.frame import CameraError, Image
from camera.core.kept_region import kept_region
from camera.core.settings import FolderCamera
from camera.pictures.images import read_image
from camera.pictures.quality import assess, too_small
from camera.pictures.region import Mask, OtherRegion, Region
from camera.sources.folder import picture_files

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class GoldenSamples:
    """Pictures that a person named.

    Attributes:
        samples: as the model's input shows them.
        files: of each, in the same order.
        exported: ``(K,)`` which of them a baseline gave, so that the model had chosen them before.
    """

    samples: ReferenceSamples
    files: tuple[Path, ...]
    exported: NDArray[np.bool_]

    def joined(self, other: GoldenSamples) -> GoldenSamples:
        """Return these, then the others."""
        exported = np.concatenate([self.exported, other.exported])
        return GoldenSamples(self.samples.joined(other.samples), self.files + other.files, exported)


def distinct(golden: GoldenSamples, labels: Sequence[str]) -> GoldenSamples:
    """Return each picture once; what lies there twice is told.

    Args:
        golden: pictures from one folder or several.
        labels: of the recipe's classes.

    Raises:
        UsageError: a picture lies in the folders of two classes.
    """
    samples, files = golden.samples, golden.files
    rows = first_seen(samples.pictures)
    place = {samples.pictures[row].tobytes(): int(row) for row in rows}
    for row, picture in enumerate(samples.pictures):
        first = place[picture.tobytes()]
        one, other = labels[samples.classes[first]], labels[samples.classes[row]]
        if one != other:
            raise UsageError(f"{files[first]}, {files[row]}: the same picture is both {one} and {other}")
    if len(rows) == len(files):
        return golden
    twice = sorted(set(range(len(files))) - set(rows.tolist()))
    log.warning(
        "%d golden pictures are there twice, such as %s: they count once", len(twice), files[twice[0]]
    )
    kept = np.zeros(len(files), bool)
    kept[rows] = True
    distinct_files = tuple(files[row] for row in sorted(rows.tolist()))
    return GoldenSamples(samples.some(kept), distinct_files, golden.exported[kept])


def read_golden(folder: Path, recipe: Recipe, station: Station, scorer: Scorer) -> GoldenSamples:
    """Return the pictures below ``folder/<label>/`` as the model's input shows them.

    They go the way of the camera's pictures: cut to the region of interest, masks burnt in, and refused where
    the line would not inspect them. Of a station with tiles each picture gives the tile that would decide: a
    part is one sample here, as it is on the line, and no two samples of different halves show the same part.

    Args:
        folder: one folder per class, named after it; classes may be left out.
        recipe: of the station.
        station: with region and limits of quality.
        scorer: the recipe seen by the model.

    Raises:
        UsageError: with what is wrong, and the known labels where a folder is none of them.
    """
    return read_named(named_pictures(folder, recipe), recipe, station, scorer)


def named_pictures(folder: Path, recipe: Recipe) -> list[tuple[Path, str]]:
    """Return the picture files below ``folder/<label>/`` with their labels; raises as `read_golden`."""
    if not folder.is_dir():
        raise UsageError(f"{folder}: no such folder: it should hold one folder of pictures per class")
    labels = list(recipe.classes)
    folders = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    for path in folders:
        if path.name not in labels:
            raise UsageError(f"{path}: no class of the recipe: {did_you_mean(path.name, labels)}")
    if not folders:
        raise UsageError(f"{folder}: holds no folder of a class: {', '.join(labels)}")
    try:
        return [(file, path.name) for path in folders for file in picture_files(path)]
    except CameraError as error:
        raise UsageError(str(error)) from error


def read_named(
    named: Sequence[tuple[Path, str]], recipe: Recipe, station: Station, scorer: Scorer
) -> GoldenSamples:
    """Return picture files as the model's input shows them; see `read_golden`.

    Args:
        named: at least one file, each with a label of the recipe.
        recipe: of the station.
        station: with region and limits of quality.
        scorer: the recipe seen by the model.

    Raises:
        UsageError: a file cannot be read, or the line would not inspect it.
    """
    region, labels = Region(station.roi), list(recipe.classes)
    pictures, exported, warned = [], list[bool](), list[str]()
    depth = station.camera.bit_depth if isinstance(station.camera, FolderCamera) else None
    for file, _ in named:
        try:
            sample = _exported(file, station, scorer)
            exported.append(sample is not None)
            if sample is None:
                sample = _framed(file, *_cut(region, file, depth, warned.append), station, scorer)
            pictures.append(sample)
        except CameraError as error:
            raise UsageError(str(error)) from error
    if warned:
        log.warning("%s", warned[0])
    classes = np.array([labels.index(label) for _, label in named], np.int64)
    files = tuple(file for file, _ in named)
    return GoldenSamples(ReferenceSamples(np.stack(pictures), classes), files, np.array(exported))


def _exported(file: Path, station: Station, scorer: Scorer) -> Bytes | None:
    """Return what `mekiki baseline export` wrote: the model's input already; None of another picture."""
    kept, spec = kept_region(file), scorer.engine.info.preprocess
    if kept is None or not kept.sample:
        return None
    image, now = read_image(file), prepared_as(picture_of(station, spec.resize_mode))
    if not kept.shows(station.roi):
        raise UsageError(
            f"{file}: an exported sample of another region of interest: take the camera's pictures"
        )
    if kept.sample != now or image.shape != (spec.size, spec.size, 3):
        raise UsageError(
            f"{file}: an exported sample of a baseline with {kept.sample},"
            f" {image.shape[1]} x {image.shape[0]}; the station has {now}, {spec.size} x {spec.size}:"
            " take the camera's pictures"
        )
    return image


def _framed(file: Path, image: Image, seen: Mask | None, station: Station, scorer: Scorer) -> Bytes:
    """Return what decides of a picture's region, as the line would show it to the model."""
    framing = framing_of(station, scorer.engine.info.preprocess)
    fault = too_small(image, framing.tiles) or assess(image, station.quality, seen).fault
    if fault:
        raise UsageError(f"{file}: {fault}: the line would not inspect it; take it out")
    return _deciding(framing.inputs(image).pixels, scorer)


def _deciding(pixels: Floats, scorer: Scorer) -> Bytes:
    """Return the ``(S, S, 3)`` picture, of ``(T, 3, S, S)`` tiles, that decides by the source model."""
    pictures = as_bytes(pixels, scorer.engine.info.preprocess)
    if len(pictures) == 1:
        return np.asarray(pictures[0])
    return np.asarray(pictures[int(scorer.look(pictures, scorer.source).scores.argmax())])


def _cut(
    region: Region, file: Path, bit_depth: int | None, note: Callable[[str], None]
) -> tuple[Image, Mask | None]:
    """Return what the line looks at; a picture that its station kept is cut already."""
    image = read_image(file, bit_depth, note)
    try:
        return region.cut(image, kept_region(file))
    except OtherRegion as error:
        raise UsageError(f"{file}: {error}") from error
