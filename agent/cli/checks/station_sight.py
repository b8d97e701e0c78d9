"""What of a station's pictures the model sees, for `mekiki doctor` and `mekiki check`, in one line each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from adapters.bundle.manifest import read_manifest
from adapters.bundle.reader import bundle_path
from adapters.core.adapter import AdapterError
from adapters.core.protocol import Preprocess
from agent.cli.checks.references import stored_spec
from agent.config.loader import Loaded
from agent.config.models import Station
from agent.config.recipes import find_recipe
from agent.domain.conditions import picture_cropped
from agent.inspection.feed_factory import framing_of
from agent.versions.measured_view import stored_view
from camera.core.frame import CameraError
from camera.core.settings import OpenCVCamera
from camera.pictures.framing import Framing
from camera.pictures.quality import unfit_shape
from camera.pictures.sight import Size, sight
from camera.sources.picture_size import picture_size


@dataclass(frozen=True, slots=True)
class ModelFile:
    """What is known of a model before it is opened.

    Attributes:
        spec: how its pictures are made.
        weights: digest of them.
    """

    spec: Preprocess
    weights: str


def seen(loaded: Loaded, name: str, model: ModelFile, picture: Size) -> tuple[str, list[str]]:
    """Return what the model sees of a station's pictures, and what is to be warned of.

    Args:
        loaded: the config.
        name: of the station.
        model: that inspects.
        picture: width and height of the camera's pictures.
    """
    station = loaded.config.stations[name]
    recipe = find_recipe(station.recipe, loaded.config.recipes)
    framing = _framing(loaded, name, model)
    one = sight(picture, station.roi, framing)
    share = framing.cropped(*one.region)
    unfit = unfit_shape(*one.region, framing.tiles)
    warnings = (
        f"station {name}: {unfit}: no picture is inspected" if unfit else None,
        None if share is None else picture_cropped(name, share).message,
        one.lost(recipe.smallest_defect_px),
    )
    return one.sentence(), [warning for warning in warnings if warning is not None]


def lines(loaded: Loaded) -> Iterator[str]:
    """Yield for each enabled station what the model sees, as far as that is known without opening anything.

    Pictures that lie on the disk are looked at, cameras and the model are not.
    """
    model = _bundled(loaded)
    for name, station in loaded.config.stations.items():
        if not station.enabled:
            continue
        alone = not find_recipe(station.recipe, loaded.config.recipes).needs_model
        asked = _backbone(loaded, name) if alone else model
        if asked is None and not alone:  # of a backbone it is said with its reference
            yield f"station {name}: what the model sees is known when the model is opened: mekiki doctor"
        if asked is not None:
            yield from (f"station {name}: {line}" for line in _of_station(loaded, name, station, asked))


def _bundled(loaded: Loaded) -> ModelFile | None:
    """Return what is known of the model; None where it must be opened for that, or is no good."""
    settings = loaded.config.model
    if settings.engine == "torch":
        return None
    try:
        manifest, _ = read_manifest(bundle_path(settings.bundle), settings.sha256)
    except AdapterError:
        return None  # a bundle that is no good is told of by `mekiki doctor`, and by the start
    return ModelFile(manifest.preprocess, manifest.weights)


def _backbone(loaded: Loaded, name: str) -> ModelFile | None:
    spec = stored_spec(loaded, name)
    return None if spec is None else ModelFile(spec, "")


def _of_station(loaded: Loaded, name: str, station: Station, model: ModelFile) -> Iterator[str]:
    try:
        size = picture_size(station.camera)
    except (CameraError, OSError) as error:
        yield f"what the model sees is not known: {error}"
        return
    asked = False
    if size is None and isinstance(station.camera, OpenCVCamera):
        width, height = station.camera.width, station.camera.height
        asked = width is not None and height is not None
        size = (width, height) if width is not None and height is not None else None
    if size is None:
        yield _without_picture(_framing(loaded, name, model))
        return
    sentence, warnings = seen(loaded, name, model, size)
    yield f"{'if the camera gives what it is asked for, ' if asked else ''}{sentence}"
    yield from warnings


def _framing(loaded: Loaded, name: str, model: ModelFile) -> Framing:
    station = loaded.config.stations[name]
    measured = stored_view(loaded, name, model.weights, model.spec)
    return framing_of(station, model.spec, measured)


def _without_picture(framing: Framing) -> str:
    view = framing.view if framing.measured is None or framing.view != "auto" else framing.measured
    tiles = "" if framing.tiles == (1, 1) else f" in {framing.tiles[0]}x{framing.tiles[1]} tiles"
    side = framing.spec.size
    return (
        f"view {view}{tiles} into {side}x{side}; how much of a picture that is, mekiki doctor says when the"
        " camera gives one"
    )
