"""Pictures of golden samples: from files to the station's region, and how they are kept."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image as Pillow
from PIL.PngImagePlugin import PngInfo

from agent.base.errors import StoreError, UsageError
from agent.base.text import fault_of
from agent.config.models import Station
from camera.core.frame import CameraError, Image
from camera.core.kept_region import PNG_KEY, KeptRegion, kept_region
from camera.core.settings import FolderCamera
from camera.pictures.images import SUFFIXES, UnreadableImage, decode, read_image
from camera.pictures.quality import assess, too_small
from camera.pictures.region import OtherRegion, Region
from camera.pictures.view import parse_tiles
from camera.sources.folder import picture_files

_FAST: Final = 3
"""Of zlib: half of the time of the usual level, a few percent larger."""
_MOST_LABEL: Final = 100


class RefusedPicture(Exception):
    """A file cannot be a golden sample of the station; names the file and says why."""


@dataclass(frozen=True, slots=True)
class NamedFile:
    """A picture file and what a person says that it shows."""

    file: Path
    label: str


@dataclass(frozen=True, slots=True, eq=False)
class GoldenPicture:
    """A golden sample as it is kept.

    Attributes:
        image: ``(H, W, 3)`` uint8 RGB, the region with its masks burnt in.
        id: of the pixels.
    """

    source: NamedFile
    image: Image
    id: str


def named_files(paths: Sequence[Path], label: str | None) -> list[NamedFile]:
    """Return the picture files that are meant, with their classes.

    Args:
        paths: files, or folders: with one folder per class, or of one class.
        label: the class of all of them; None: each folder's name is the class of what lies below it.

    Raises:
        UsageError: there is none, or no class is named.
    """
    found: list[NamedFile] = []
    for path in paths:
        try:
            if label is not None:
                files = picture_files(path) if path.is_dir() else (path,)
                found += [NamedFile(file, require_label(label)) for file in files]
            elif path.is_dir():
                for folder in class_folders(path):
                    name = require_label(folder.name)
                    found += [NamedFile(file, name) for file in picture_files(folder)]
            else:
                raise UsageError(f"{path}: of which class is it? Name it with --class, such as --class good")
        except CameraError as error:
            raise UsageError(str(error)) from error
    missing = [one.file for one in found if not one.file.exists()]
    if missing:
        raise UsageError(f"{missing[0]}: no such file or folder")
    return found


def class_folders(folder: Path) -> list[Path]:
    """Return the folders of a folder, sorted, hidden ones left out.

    Raises:
        UsageError: there is none.
    """
    found = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    if not found:
        pictures = any(path.suffix.lower() in SUFFIXES for path in folder.iterdir())
        hint = ": name the class of its pictures with --class" if pictures else ""
        raise UsageError(f"{folder}: holds no folder of a class, such as {folder.name}/good{hint}")
    return found


def require_label(label: str) -> str:
    """Return a class's name where a folder can have it; raise UsageError otherwise."""
    fault = fault_of(label)
    if fault is None and (label != label.strip() or label.startswith(".") or "/" in label):
        fault = "begins with a dot or a blank, ends with one, or holds a slash"
    if fault is None and len(label) > _MOST_LABEL:
        fault = f"is longer than {_MOST_LABEL} letters"
    if fault is not None:
        raise UsageError(f"class {label!r} {fault}: give it another name")
    return label


class GoldenReader:
    """Reads picture files as a station's line would look at them. One thread.

    Args:
        station: its config.
        note: told what is odd about a file that is read all the same.
    """

    def __init__(self, station: Station, note: Callable[[str], None] = lambda _: None) -> None:
        self._station, self._note = station, note
        self._region = Region(station.roi)
        self._depth = station.camera.bit_depth if isinstance(station.camera, FolderCamera) else None

    def read(self, one: NamedFile) -> GoldenPicture:
        """Return a file's picture, cut to the station's region.

        Raises:
            RefusedPicture: it cannot be read, or the line would not inspect it.
        """
        kept = kept_region(one.file)
        if kept is not None and kept.sample:
            raise RefusedPicture(
                f"{one.file}: a sample of a baseline, made small for the model: take the camera's picture"
            )
        try:
            whole = read_image(one.file, self._depth, self._note)
            image, seen = self._region.cut(whole, kept)
        except UnreadableImage as error:
            raise RefusedPicture(str(error)) from error
        except OtherRegion as error:
            raise RefusedPicture(f"{one.file}: {error}") from error
        if seen is not None and not seen.any():
            raise RefusedPicture(f"{one.file}: the station's masks leave nothing of it: change them")
        fault = too_small(image, parse_tiles(self._station.tiles)) or (
            assess(image, self._station.quality, seen).fault
        )
        if fault:
            raise RefusedPicture(f"{one.file}: {fault}: the line would not inspect it; take it out")
        return GoldenPicture(one, image, pixels_id(image))


def pixels_id(image: Image) -> str:
    """Return the SHA-256 of a picture's size and pixels, in hexadecimal digits."""
    head = f"{image.shape[0]}x{image.shape[1]} ".encode()
    return hashlib.sha256(head + np.ascontiguousarray(image).tobytes()).hexdigest()


def as_png(image: Image, region: KeptRegion) -> bytes:
    """Return a picture without loss, with what it shows, so that nobody cuts it again."""
    buffer, text = io.BytesIO(), PngInfo()
    text.add_text(PNG_KEY, region.comment().decode("ascii"))
    Pillow.fromarray(image).save(buffer, "PNG", compress_level=_FAST, pnginfo=text)
    return buffer.getvalue()


def read_stored(path: Path, id_: str) -> Image:
    """Return a picture that was kept.

    Raises:
        StoreError: it is missing, damaged, or another one.
    """
    remedy = "add the part's picture again, or restore the file from a backup"
    try:
        image = decode(path.read_bytes(), str(path))
    except (UnreadableImage, OSError) as error:
        what = str(error) if isinstance(error, UnreadableImage) else f"{path}: {error.strerror or error}"
        raise StoreError(f"{what}: {remedy}") from error
    if pixels_id(image) != id_:
        raise StoreError(f"{path}: damaged: it is not the picture that was added: {remedy}")
    return image
