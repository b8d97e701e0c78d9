"""The writer of recordings: one capture after the other into a new folder."""

from __future__ import annotations

import hashlib
import os
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Literal

import cv2
import numpy as np
from pydantic import JsonValue

from camera.core.frame import Capture, Image
from camera.core.settings import QualityLimits, RegionOfInterest
from camera.pictures.region import Region
from camera.recording.reader import INDEX, MANIFEST, PICTURES, Ended, Entry, RecordingError, RecordingManifest

SYNC_NS: Final = 1_000_000_000
_ENDING_BYTES: Final = 512  # by which the manifest grows at the end, at most

# The camera waits while we write, and what it sends meanwhile is lost. A simulated part takes 2.5 ms and
# 110 kB so, 4.4 ms and 114 kB with the level alone (OpenCV then tries every filter on every row), and
# 19 ms and 110 kB at level 6: more compression is paid for and not had.
_PNG: Final = (
    *(cv2.IMWRITE_PNG_COMPRESSION, 1),
    *(cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_RLE),
    *(cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_SUB),
)


@dataclass(frozen=True, slots=True)
class RecordingLimits:
    """How much may be written.

    Attributes:
        max_bytes: of the whole recording.
        min_free_bytes: below this much free disk nothing is written; the plant's other programs need it too.
    """

    max_bytes: int
    min_free_bytes: int = 0


class Recorder:
    """Writes the captures of one camera into a new folder; what it has written is readable at any time.

    A picture is on the disk before its line is in the index, so a line never promises more than there is.
    A crash of the process loses nothing that was added, a power cut the captures of the last second.

    Owns the folder. One thread.

    Args:
        folder: made if absent; must be empty.
        camera: the camera's settings without secrets, for the manifest.
        roi: its masks are burnt into every picture; what is masked is never stored.

    Raises:
        RecordingError: the folder is in use or cannot be written, or the disk has no room to begin with.
    """

    def __init__(
        self,
        folder: Path,
        *,
        station: str,
        camera: dict[str, JsonValue],
        roi: RegionOfInterest,
        quality: QualityLimits,
        limits: RecordingLimits,
        started_at: datetime | None = None,
    ) -> None:
        self.folder = folder
        self.pictures = 0
        self.faults = 0
        self.seconds = 0.0
        self._manifest = RecordingManifest(
            station=station,
            camera=camera,
            roi=roi,
            quality=quality,
            started_at=started_at or datetime.now(UTC),
        )
        self._region = Region(RegionOfInterest(masks=roi.masks))
        self._limits = limits
        self._began_ns: int | None = None
        self._synced_ns = 0
        self._size_px: tuple[int, int] | None = None
        self._sha256 = hashlib.sha256()
        self._claim()
        self._written = 0
        self._overhead = (folder / MANIFEST).stat().st_size + _ENDING_BYTES
        self._index = (folder / INDEX).open("xb")

    @property
    def size_bytes(self) -> int:
        """Bytes of all pictures and of the index."""
        return self._written

    def add(self, capture: Capture) -> Literal["size", "disk"] | None:
        """Write one capture; where a limit is in the way, write nothing and return which one.

        Raises:
            RecordingError: the disk does not take it; what was added before stays readable.
        """
        if self._began_ns is None:
            self._began_ns = capture.captured_ns
        number, picture = self.pictures + self.faults + 1, None
        if capture.image is not None:
            image, _ = self._region.cut(capture.image)
            picture = _png(image)
        name = f"{PICTURES}/{number:06d}.png"
        entry = Entry(
            number=number,
            captured_at=capture.captured_at,
            captured_ns=capture.captured_ns - self._began_ns,
            part_id=capture.part_id,
            fault=capture.fault,
            # It may hold the name of a file, which need not be text.
            detail=capture.detail.encode("utf-8", "replace").decode(),
            file=None if picture is None else name,
            sha256=None if picture is None else hashlib.sha256(picture).hexdigest(),
        )
        line = entry.model_dump_json(exclude_defaults=True).encode() + b"\n"
        size = len(line) + (0 if picture is None else len(picture))
        if self._overhead + self._written + size > self._limits.max_bytes:
            return "size"
        if self._free() - size < self._limits.min_free_bytes:
            return "disk"
        try:
            if picture is not None:
                _write(self.folder / name, picture)
            self._index.write(line)
            self._index.flush()
            if entry.captured_ns - self._synced_ns >= SYNC_NS:
                self._sync()
                self._synced_ns = entry.captured_ns
        except OSError as error:
            raise _cannot(self.folder, error) from error
        self._sha256.update(line)
        self._written += size
        self.seconds = entry.captured_ns / 1e9
        if capture.image is None:
            self.faults += 1
        else:
            self.pictures += 1
            height, width = capture.image.shape[:2]
            self._size_px = self._size_px or (width, height)
        return None

    def finish(self, ended: Ended, *, dropped: int = 0) -> RecordingManifest:
        """Seal the recording: it is complete, for the reason `ended`."""
        manifest = self._manifest.model_copy(
            update={
                "complete": True,
                "ended": ended,
                "count": self.pictures + self.faults,
                "pictures": self.pictures,
                "dropped": dropped,
                "size_px": self._size_px,
                "size_bytes": self._written,
                "sha256": self._sha256.hexdigest(),
            }
        )
        try:
            self._sync()
            self._index.close()
            _write_manifest(self.folder, manifest)
        except OSError as error:
            raise _cannot(self.folder, error) from error
        return manifest

    def close(self) -> None:
        """Let go of the files; without `finish` before, the recording stays as one that was cut off."""
        self._index.close()

    def _claim(self) -> None:
        """Make the folder ours: nothing is ever written into one that holds something."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            if any(self.folder.iterdir()):
                raise RecordingError(f"{self.folder}: not empty: name a folder that is, or a new one")
            if self._free() < self._limits.min_free_bytes:
                floor_mb = self._limits.min_free_bytes // 1_000_000
                raise RecordingError(
                    f"{self.folder}: less than {floor_mb} MB free on the disk (storage.min_free_mb)"
                )
            (self.folder / PICTURES).mkdir()
            _write_manifest(self.folder, self._manifest)
        except OSError as error:
            raise _cannot(self.folder, error) from error

    def _free(self) -> int:
        return shutil.disk_usage(self.folder).free

    def _sync(self) -> None:
        """Have the names of the pictures on the disk before the lines that name them."""
        _sync_folder(self.folder / PICTURES)
        os.fsync(self._index.fileno())


def _png(image: Image) -> bytes:
    """Return `image`, RGB, as a PNG."""
    try:
        done, content = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), _PNG)
    except (cv2.error, MemoryError) as error:
        raise RecordingError(f"a picture of {image.shape} cannot be written as PNG: {error}") from error
    if not done:
        raise RecordingError(f"a picture of {image.shape} cannot be written as PNG: check the camera")
    return np.asarray(content, dtype=np.uint8).tobytes()


def _write_manifest(folder: Path, manifest: RecordingManifest) -> None:
    """Make or replace the manifest in one step: it is the old one or the new one after a power cut."""
    half = folder / f".{MANIFEST}"
    _write(half, manifest.model_dump_json(indent=2).encode() + b"\n")
    half.replace(folder / MANIFEST)
    _sync_folder(folder)


def _write(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _cannot(folder: Path, error: OSError) -> RecordingError:
    return RecordingError(f"{folder}: cannot be written: {error.strerror}: name another folder")
