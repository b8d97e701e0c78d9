"""A recording: what a camera gave, kept in a folder to be looked at again, to the last bit.

    manifest.json        what was recorded and how it ended; replaced once, at the end
    frames.jsonl         one line per capture, also for one without a picture
    frames/000001.png    the picture of line 1: RGB, lossless, the whole of it, its masks burnt in

`camera.recording.writer` writes it, in such an order that it can be read wherever the writing was cut off.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path
from threading import Event
from typing import Annotated, Final, Literal, Self

from pydantic import AwareDatetime, BaseModel, Field, JsonValue, ValidationError, model_validator

from camera.core.frame import CameraError, Capture, Fault, Image
from camera.core.settings import QualityLimits, RecordingCamera, RegionOfInterest, Settings
from camera.core.source import SourceStats, paced, stamp
from camera.pictures.images import UnreadableImage, decode

FORMAT: Final = "mekiki.recording.v1"
MANIFEST: Final = "manifest.json"
INDEX: Final = "frames.jsonl"
PICTURES: Final = "frames"

Ended = Literal["frames", "seconds", "size", "disk", "source", "stopped"]
"""Why a recording is no longer: so many, so long or so much asked for, disk full, no more came, told to."""

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]

_AGAIN: Final = "copy the recording again, or record anew"

log = logging.getLogger(__name__)


class RecordingError(CameraError):
    """A recording cannot be read or written; says which file and what to do."""


class _Format(BaseModel):
    """What every manifest says, of whatever release."""

    format: str
    release: str = ""


class RecordingManifest(Settings):
    """What was recorded, as it stands in `manifest.json`. What is None is not known before the end.

    Readers pass over what a newer release has added; what changes the meaning changes the format. Release
    0.1.0 does not: what it is to read has these fields alone.

    Attributes:
        camera: the camera as `mekiki check --print` shows it, so without secrets; `kind` is among it.
        roi: of the station; its masks are burnt into the pictures, its crop is not.
        quality: limits of the station; nothing was left out because of them.
        count: captures, those without a picture included.
        pictures: captures with a picture.
        dropped: pictures of a live camera that a newer one pushed out while one was written.
        size_px: width and height of the first picture.
        size_bytes: of all pictures and of `frames.jsonl`.
        sha256: of `frames.jsonl`, which holds those of the pictures.
    """

    format: Literal["mekiki.recording.v1"] = FORMAT
    station: str
    camera: dict[str, JsonValue]
    roi: RegionOfInterest
    quality: QualityLimits
    started_at: AwareDatetime
    complete: bool = False
    ended: Ended | None = None
    count: int | None = None
    pictures: int | None = None
    dropped: int | None = None
    size_px: tuple[int, int] | None = None
    size_bytes: int | None = None
    sha256: Sha256 | None = None


class Entry(Settings):
    """One line of `frames.jsonl`: a capture without its picture.

    Attributes:
        number: 1, 2, 3, ...
        captured_ns: since the first capture, on the clock of differences.
        file: of the picture, below the recording; None where `fault` says why there is none.
        sha256: of the file.
    """

    number: int = Field(ge=1)
    captured_at: AwareDatetime
    captured_ns: int = Field(ge=0)
    part_id: str | None
    fault: Fault | None = None
    detail: str = ""
    # The name is given, so that no recording makes us read a file elsewhere.
    file: Annotated[str, Field(pattern=rf"^{PICTURES}/[0-9]{{6,}}\.png$")] | None = None
    sha256: Sha256 | None = None

    @model_validator(mode="after")
    def _picture_or_fault(self) -> Self:
        if len({self.file is None, self.sha256 is None, self.fault is not None}) != 1:
            raise ValueError("should name either a file with its sha256, or a fault")
        return self


class Recording:
    """A recording that is there to be read; its pictures are read, and their hashes checked, one at a time.

    Iterating gives captures with the times at which they were recorded: `captured_ns` starts at 0.

    Attributes:
        manifest: `complete` is False where the writing was cut off: by a power cut, or because it goes on.
        entries: every capture without its picture, in order.
        sha256: of that of `frames.jsonl` which was read: two recordings with the same one are the same.

    Raises:
        RecordingError: the folder is no recording, or its manifest or index is damaged.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.manifest = _read_manifest(folder)
        self.entries, self.sha256 = _read_index(folder / INDEX, self.manifest)

    def __len__(self) -> int:
        return len(self.entries)

    def __iter__(self) -> Iterator[Capture]:
        """Yield every capture, as `capture` does."""
        return map(self.capture, self.entries)

    def capture(self, entry: Entry) -> Capture:
        """Return the capture of one of `entries`, with its picture.

        Raises:
            RecordingError: the picture is missing, or not the one that was recorded.
        """
        image = None if entry.file is None else self._picture(entry.file, entry.sha256)
        return Capture(image, entry.captured_at, entry.captured_ns, entry.part_id, entry.fault, entry.detail)

    def _picture(self, name: str, sha256: str | None) -> Image:
        path = self.folder / name
        content = _read(path)
        if hashlib.sha256(content).hexdigest() != sha256:
            raise RecordingError(f"{path}: damaged: its sha256 is not that in {INDEX}: {_AGAIN}")
        try:
            image = decode(content, str(path))
        except UnreadableImage as error:
            raise RecordingError(f"{error}: record anew") from error
        image.setflags(write=False)
        return image


class PlayedRecording:
    """A recording as a camera: at its recorded pace it is live, at full pace it waits for the inspector.

    Captures are stamped as they are played; what was recorded without a picture comes without one again.
    A picture that is missing or damaged is a capture with the fault UNREADABLE; the next one follows.

    Args:
        clock: the time in s that the stop event's waits are measured in.

    Raises:
        RecordingError: the folder is no recording, holds no capture, or its index is damaged.
    """

    def __init__(self, settings: RecordingCamera, *, clock: Callable[[], float] | None = None) -> None:
        self._settings = settings
        self._clock = {} if clock is None else {"clock": clock}
        self._recording = Recording(Path(settings.path))
        if not self._recording.entries:
            raise RecordingError(f"{settings.path}: nothing was recorded: record again")
        if not self._recording.manifest.complete:
            log.warning(
                "recording %s: was cut off, its %d captures are played", settings.path, len(self._recording)
            )
        self._stats = SourceStats(connected=True)  # written by the iterating thread only

    @property
    def live(self) -> bool:
        """Whether it plays at its recorded pace."""
        return self._settings.pace == "recorded"

    @property
    def stats(self) -> SourceStats:
        """The counters as they are now."""
        return self._stats

    def captures(self, stop: Event) -> Iterator[Capture]:
        """Yield the recorded captures, as far apart as they were where that is asked for."""
        for entry in paced(self._due(), stop, catch_up=True, **self._clock):
            capture = self._capture(entry)
            self._stats = replace(
                self._stats,
                connected=capture.fault is not Fault.CAMERA_OFFLINE,
                frames=self._stats.frames + (capture.image is not None),
            )
            yield capture

    def _due(self) -> Iterator[tuple[float, Entry]]:
        """Yield every entry and when it is due, in s, 0 where it does not matter."""
        entries = self._recording.entries
        took_ns = entries[-1].captured_ns
        # From the last to the first as long as between two on average; a single one comes once a second.
        round_ns = took_ns + (took_ns // (len(entries) - 1) if len(entries) > 1 else 10**9)
        for lap in count() if self._settings.loop else range(1):
            for entry in entries:
                yield (lap * round_ns + entry.captured_ns) / 1e9 if self.live else 0.0, entry

    def _capture(self, entry: Entry) -> Capture:
        try:
            recorded = self._recording.capture(entry)
        except RecordingError as error:
            return stamp(part_id=entry.part_id, fault=Fault.UNREADABLE, detail=str(error))
        return stamp(recorded.image, part_id=recorded.part_id, fault=recorded.fault, detail=recorded.detail)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise RecordingError(f"{path}: cannot be read: {error.strerror}: {_AGAIN}") from error


def _read_manifest(folder: Path) -> RecordingManifest:
    path = folder / MANIFEST
    if not folder.is_dir():
        raise RecordingError(f"{folder}: no such folder: name one that `mekiki record` has written")
    if not path.exists():
        raise RecordingError(f"{folder}: not a recording: no {MANIFEST} in it: name one that has it")
    content = _read(path)
    try:
        found = _Format.model_validate_json(content)
        if found.format != FORMAT:
            writer = f" by release {found.release[:40]!r}" if found.release else ""
            what = f"written{writer} as {found.format[:80]!r}: read it with that version of the agent"
            raise RecordingError(f"{path}: not a manifest of {FORMAT}: format: {what}, or record anew")
        return RecordingManifest.model_validate_json(content, extra="ignore")
    except ValidationError as error:
        raise RecordingError(f"{path}: not a manifest of {FORMAT}: {_first(error)}: {_AGAIN}") from error


def _read_index(path: Path, manifest: RecordingManifest) -> tuple[tuple[Entry, ...], str]:
    """Return the entries and the sha256 of the lines that hold them."""
    content = _read(path)
    # What follows the last newline was being written when the power went.
    content = content[: content.rfind(b"\n") + 1]
    sha256 = hashlib.sha256(content).hexdigest()
    if manifest.complete and sha256 != manifest.sha256:
        raise RecordingError(f"{path}: damaged: its sha256 is not that in {MANIFEST}: {_AGAIN}")
    entries: list[Entry] = []
    for number, line in enumerate(content.splitlines(), start=1):
        try:
            entry = Entry.model_validate_json(line, extra="ignore")
        except ValidationError as error:
            raise RecordingError(f"{path}:{number}: damaged: {_first(error)}: record anew") from error
        if entry.number != number:
            raise RecordingError(f"{path}:{number}: damaged: here stands {entry.number}: record anew")
        entries.append(entry)
    return tuple(entries), sha256


def _first(error: ValidationError) -> str:
    """Return the first thing that is wrong, without what stands there."""
    first = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    return f"{where}: {first['msg']}" if where else first["msg"]
