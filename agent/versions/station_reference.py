"""The reference of a station's product: which pictures it was made of, and whether it may be used."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any, Final, cast, get_args

import numpy as np

from adapters.core.measured_picture import MeasuredPicture
from adapters.core.patches import PatchInfo
from adapters.reference.reference import Reference, UnusableReference
from agent.config.models import Config, Station
from agent.versions.products import product
from agent.versions.station_picture import picture_of
from camera.pictures.view import ResizeMode, parse_tiles

STATION: Final = "station"
RECIPE: Final = "recipe"
PICTURE: Final = "picture"
BACKBONE: Final = "backbone"
"""Names of what `facts_of` says among `Reference.facts`."""


def facts_of(config: Config, station: str, recipe: str, info: PatchInfo) -> dict[str, Any]:
    """Return what a reference is to know of the pictures that its samples are taken from, as JSON.

    Args:
        config: that names the station.
        station: its name.
        recipe: name of the recipe that the reference is for.
        info: of what makes its features.
    """
    picture = reference_picture(config.stations[station], info)
    spec = info.preprocess
    backbone = {"name": info.name, "size": spec.size, "resize_mode": spec.resize_mode}
    return {STATION: station, RECIPE: recipe, PICTURE: picture.facts(), BACKBONE: backbone}


@dataclass(frozen=True, slots=True)
class ToldBackbone:
    """What a reference says of the backbone that made its features.

    Attributes:
        name: of it.
        size: side of its pictures in pixels.
        resize_mode: how a region becomes one of them, where the station does not say.
    """

    name: str
    size: int
    resize_mode: ResizeMode


def backbone_of(reference: Reference) -> ToldBackbone | None:
    """Return what a reference says of its backbone; None where it says nothing."""
    said = reference.facts.get(BACKBONE)
    if not isinstance(said, dict):
        return None
    name, size, mode = said.get("name"), said.get("size"), said.get("resize_mode")
    if not isinstance(name, str) or not isinstance(size, int) or mode not in get_args(ResizeMode):
        return None
    return ToldBackbone(name, size, cast(ResizeMode, mode))


def sentence(reference: Reference) -> str:
    """Return in one line what a reference sees, and what is known of the good parts that it rejects."""
    seen = backbone_of(reference)
    by = (
        f"features {reference.features[:19]}..."
        if seen is None
        else f"{seen.name} at {seen.size}x{seen.size}"
    )
    return (
        f"reference {reference.digest[:19]}... of {reference.samples} good samples by {by}, fails above"
        f" {reference.threshold:.3g}: false rejects {_claimed(reference)}"
    )


def _claimed(reference: Reference) -> str:
    one = reference.claim
    if one is None:
        return "not known"
    return (
        f"at most {one.false_rejects_at_most:.1%} at {one.confidence:.0%} confidence, of {one.good_parts}"
        " good samples that are not in it"
    )


def open_reference(config: Config, station: str, recipe: str, info: PatchInfo) -> Reference:
    """Return the reference that a station compares parts of a recipe with; it fits features and pictures.

    Args:
        config: that names the station.
        station: its name.
        recipe: name of the recipe.
        info: of what makes the features now.

    Raises:
        UnusableReference: there is none, it is damaged, it was made of other features or pictures, or the
            station is pinned to another; says what to do.
    """
    file = product(config, station, recipe).reference
    remedy = built_by(station, recipe)
    try:
        there = file.is_file()
    except OSError as error:
        raise UnusableReference(f"{file}: not readable: {error.strerror or error}") from error
    if not there:
        raise UnusableReference(f"recipe {recipe} has no reference here yet: {made_by(station, recipe)}")
    found = Reference.load(file)
    if found.features != info.digest:
        raise UnusableReference(
            f"{file}: was made of the features {found.features[:19]}..., and {info.name} makes"
            f" {info.digest[:19]}...: {remedy}, or set recipes.{recipe}.reference.features back"
        )
    now = config.stations[station]
    require_same_picture(found, reference_picture(now, info), str(file), station, remedy)
    _require_judging(found, prod(parse_tiles(now.tiles)), info, str(file), remedy)
    pinned = now.adaptation.pins.reference
    if pinned is not None and recipe == now.recipe and pinned != found.digest:
        raise UnusableReference(
            f"{file}: station {station} is pinned to {pinned}, this is {found.digest}: put the pinned one"
            f" back, or set stations.{station}.adaptation.pins.reference"
        )
    return found


def _require_judging(reference: Reference, tiles: int, info: PatchInfo, where: str, remedy: str) -> None:
    """Make sure that its arrays fit each other and the parts: the loop has no way to go on where not."""
    try:
        with np.errstate(all="ignore"):
            reference.judge(np.zeros((tiles, *info.grid, info.channels), np.float32))
    except (ValueError, TypeError, IndexError) as error:
        raise UnusableReference(f"{where}: parts cannot be compared with it ({error}): {remedy}") from error


def require_same_picture(
    reference: Reference, now: MeasuredPicture, where: str, station: str, remedy: str
) -> None:
    """Make sure that pictures are made as those of the samples were.

    Args:
        reference: that knows how its samples were made.
        now: how pictures are made.
        where: names the reference in a message.
        station: that has it.
        remedy: what makes a new one.

    Raises:
        UnusableReference: they are not, with everything that differs.
    """
    try:
        known = MeasuredPicture.read(reference.facts.get(PICTURE, {}))
    except (ValueError, TypeError) as error:
        raise UnusableReference(
            f"{where}: what it says of its pictures cannot be read ({error}): {remedy}"
        ) from error
    if differing := known.differs_from(now):
        settings = ", ".join(f"stations.{station}.{setting}" for setting, _ in differing)
        raise UnusableReference(
            f"{where}: was made of other pictures: {'; '.join(what for _, what in differing)}: {remedy},"
            f" or set {settings} back"
        )


def reference_picture(station: Station, info: PatchInfo) -> MeasuredPicture:
    """Return what the backbone sees of a station's pictures.

    Args:
        station: its config.
        info: of the backbone.
    """
    return picture_of(station, info.preprocess.resize_mode)


def require_own_picture(reference: Reference, station: Station, name: str, recipe: str, where: str) -> None:
    """Make sure that a station's pictures are those of a reference's samples, without its backbone.

    What a backbone of another kind would make of them is not known here.

    Raises:
        UnusableReference: they are not.
    """
    seen = backbone_of(reference)
    if seen is not None:
        now = picture_of(station, seen.resize_mode)
        require_same_picture(reference, now, where, name, built_by(name, recipe))


def built_by(station: str, recipe: str) -> str:
    """Return what to do for a reference that no longer fits, as a clause: the samples are there."""
    return f"run mekiki golden build --station {station} --recipe {recipe}"


def made_by(station: str, recipe: str) -> str:
    """Return what to do for a reference, as a clause."""
    return f"run mekiki golden add --station {station} --recipe {recipe} with pictures of good parts"
