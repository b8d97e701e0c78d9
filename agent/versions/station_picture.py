"""What of a station's pictures its baseline holds for: the region, the view, the camera it was measured with.

A baseline of a release that did not say these holds for what the config said when the first release that
does started with it; that is kept beside the baseline, in `FILE`.
"""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from adapters.baseline.baseline import Commissioning, CommissioningError
from adapters.core.measured_picture import AUTO, CameraFact, MeasuredPicture
from adapters.core.measured_with import MeasuredWith
from adapters.files.atomic_file import write_durably
from adapters.files.formats import is_newer
from adapters.files.strict_json import loads
from agent.config.models import Station
from camera.core.settings import CameraSettings
from camera.pictures.view import ResizeMode, native

log = logging.getLogger(__name__)

FILE: Final = "picture.json"
FORMAT: Final = "mekiki.picture.v1"


def picture_of(station: Station, resize_mode: ResizeMode) -> MeasuredPicture:
    """Return what a station's model sees of its camera's pictures.

    Args:
        station: its config.
        resize_mode: of the model.
    """
    own = native(resize_mode)
    # What becomes of a cut depends on the region's shape, which the config does not know.
    auto = AUTO if own == "crop" else own
    return MeasuredPicture(
        region=station.roi.crop,
        masks=tuple(sorted(station.roi.masks.values())),
        view=auto if station.view == AUTO else station.view,
        tiles=station.tiles,
        camera=_camera(station.camera),
    )


def prepared_as(picture: MeasuredPicture) -> str:
    """Return in a few words how regions become the model's input, for samples that are that already."""
    return f"view {picture.view}, tiles {picture.tiles}"


def of_earlier(resize_mode: ResizeMode) -> MeasuredPicture:
    """Return what is known of a baseline that says nothing: no other view and no tiles were known then."""
    return MeasuredPicture(view=native(resize_mode), tiles="1x1")


def known_of(
    digest: str, measured: MeasuredWith | None, folder: Path, resize_mode: ResizeMode
) -> MeasuredPicture:
    """Return what is known of the pictures that a baseline was measured on.

    Args:
        digest: of the baseline.
        measured: what its file says.
        folder: it lies in.
        resize_mode: of the model.
    """
    if measured is not None and measured.picture is not None:
        return measured.picture
    return _kept(folder / FILE, digest) or of_earlier(resize_mode)


def adopt(clean: Commissioning, now: MeasuredPicture, folder: Path, resize_mode: ResizeMode) -> str | None:
    """Let a baseline that does not say what it was measured on hold for what the config says now.

    Returns:
        What is to be told once; None where nothing was to be adopted.
    """
    known = known_of(clean.digest, clean.measured, folder, resize_mode)
    if not known.unknown or is_newer(_stored(folder / FILE).get("format"), FORMAT):
        return None
    taken = replace(known, region=now.region, masks=now.masks, camera=now.camera)
    content = {"format": FORMAT, "commissioning": clean.digest, "picture": taken.facts()}
    said = (
        f"its baseline does not know {', '.join(known.unknown)}: it was made by an earlier release; from now"
        " on it holds for what the config says of these today, and for nothing else"
    )
    try:
        write_durably(folder / FILE, json.dumps(content, allow_nan=False).encode())
    except OSError as error:
        return f"{said}; this cannot be kept: {error}"
    return said


def unsaid_by(clean: Commissioning) -> tuple[str, ...]:
    """Return what a baseline's own file does not say of the pictures that it was measured on, in words."""
    said = None if clean.measured is None else clean.measured.picture
    return (of_earlier("squash") if said is None else said).unknown


def require_picture(clean: Commissioning, known: MeasuredPicture, now: MeasuredPicture) -> None:
    """Make sure that pictures are made as they were when the station was commissioned.

    Raises:
        CommissioningError: with everything that differs, and what to do.
    """
    if differing := known.differs_from(now):
        settings = ", ".join(f"stations.{clean.station}.{setting}" for setting, _ in differing)
        raise CommissioningError(
            f"station {clean.station} was commissioned on other pictures:"
            f" {'; '.join(what for _, what in differing)}: run mekiki commission --station {clean.station}"
            f" --replace, or set {settings} back"
        )


def _camera(camera: CameraSettings) -> dict[str, CameraFact]:
    """Return what of a camera's settings changes its pictures; an address and a password do not.

    A clip, a recording and a folder that is read once are the pictures of some camera, which is not known.
    """
    match camera.kind:
        case "opencv" if camera.medium == "device":
            return {"kind": "device", "width": camera.width, "height": camera.height}
        case "opencv":
            return {} if camera.medium == "clip" else {"kind": camera.medium}
        case "folder":
            depth: dict[str, CameraFact] = {"bit_depth": camera.bit_depth}
            return depth if camera.watch is None else {"kind": "folder", **depth}
        case "simulated":
            return {"kind": "simulated"}
        case _:
            return {}


def _kept(file: Path, digest: str) -> MeasuredPicture | None:
    """Return what was adopted for a baseline; None where nothing was, or it cannot be read."""
    content = _stored(file)
    if content.get("format") != FORMAT or content.get("commissioning") != digest:
        return None
    try:
        return MeasuredPicture.read(content["picture"])
    except (ValueError, KeyError, TypeError) as error:
        log.error("%s: damaged, what the config says today is adopted: %s", file, error)
        return None


def _stored(file: Path) -> dict[str, Any]:
    try:
        content = loads(file.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError) as error:
        log.error("%s: cannot be read: %s", file, error)
        return {}
    return content if isinstance(content, dict) else {}
