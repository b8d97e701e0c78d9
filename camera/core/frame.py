"""What travels from a camera to the inspector: `Capture` as it was read, `Frame` as it will be judged."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from camera.core.kept_region import KeptRegion
from camera.core.settings import RegionOfInterest

Image = NDArray[np.uint8]
"""``(H, W, 3)`` uint8, RGB."""
Shares = tuple[float, float, float, float]
"""A box: left, top, right, bottom in shares of the width and height of a picture, 0..1."""


class CameraError(Exception):
    """Root of everything that camera/ raises on purpose."""


class Fault(StrEnum):
    """Why a picture cannot be judged. Part of the result's closed set of reasons."""

    BLACK = "black"
    SATURATED = "saturated"
    FROZEN = "frozen"
    BLURRED = "blurred"
    STALE = "stale"
    UNREADABLE = "unreadable"
    CAMERA_OFFLINE = "camera_offline"


class Receipt(Protocol):
    """What becomes of one capture, for a source that must know. From any thread; quick, and raises nothing.

    Exactly one of the two is called, unless the process ends before.
    """

    def stored(self, fault: Fault | None) -> None:
        """Note that its result is on disk.

        Args:
            fault: why the picture could not be judged; None where it was.
        """

    def lost(self) -> None:
        """Note that it was thrown away: there will be no result of it."""


@dataclass(frozen=True, slots=True, eq=False)
class Capture:
    """One reading of a source: a picture, or the reason why there is none.

    Attributes:
        image: ``(H, W, 3)`` uint8 RGB, or None where `fault` says why.
        captured_at: UTC wall clock, for people and payloads.
        captured_ns: ``time.monotonic_ns()``, for every difference of times.
        part_id: what the source knows about the part: a file name, a serial number.
        fault: UNREADABLE or CAMERA_OFFLINE when there is no image, else None.
        detail: one sentence about the fault, for the log.
        kept: which region the picture shows, where it was cut before.
        receipt: who wants to know what becomes of it, or None; only of sources that wait for the inspector.
    """

    image: Image | None
    captured_at: datetime
    captured_ns: int
    part_id: str | None = None
    fault: Fault | None = None
    detail: str = ""
    kept: KeptRegion | None = None
    receipt: Receipt | None = None


@dataclass(frozen=True, slots=True)
class Quality:
    """What a glance at the picture says, before any model.

    Attributes:
        luma: mean brightness, 0..255; None without a picture.
        sharpness: variance of the Laplacian; None without a picture.
        fault: why the picture cannot be judged, or None.
    """

    luma: float | None = None
    sharpness: float | None = None
    fault: Fault | None = None


@dataclass(frozen=True, slots=True)
class PartPicture:
    """Which picture of which part it is, where the agent itself finds the parts.

    Attributes:
        number: of the part, 1, 2, ... at the station since the start.
        place: of the picture among the part's, 1, 2, ... in the order of capture.
        of: how many pictures of the part are judged.
        chosen_ns: ``time.monotonic_ns()`` of the capture by which it was known to be one of the best.
    """

    number: int
    place: int
    of: int
    chosen_ns: int


@dataclass(frozen=True, slots=True, eq=False)
class ReferenceInput:
    """One region as a backbone gets it whose features are compared with those of good parts.

    Attributes:
        pixels: ``(T, 3, R, R)`` float32, read-only: the tiles row by row; one where there are no tiles.
        view: how each became a square: fit, fill or crop.
    """

    pixels: NDArray[np.float32]
    view: str


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One picture of one station, ready to be judged, complete at birth.

    Attributes:
        station: name of the station.
        number: 1, 2, ... per station since the start; gaps are dropped frames.
        image: the region of interest with its masks burnt in, uint8 RGB; None without a picture.
        pixels: ``(T, 3, S, S)`` float32, the model's input: the T tiles of the region row by row, 1 without
            tiles; None where `quality.fault` is set, and where nobody asks the model.
        trigger: id of the trigger that this picture was taken for, or None.
        roi: what of the camera's picture `image` shows.
        receipt: of its capture.
        view: how the region, or each tile, became a square: fit, fill or crop; None without an input.
        tiles: of each input, in shares of the camera's whole picture; empty where there are no tiles.
        part: which picture of which part it is; None where nobody looks for parts.
        references: inputs of backbones by a name that the settings have; empty without a picture to judge.
    """

    station: str
    number: int
    captured_at: datetime
    captured_ns: int
    image: Image | None
    pixels: NDArray[np.float32] | None
    quality: Quality
    part_id: str | None = None
    trigger: str | None = None
    roi: RegionOfInterest = field(default_factory=RegionOfInterest)
    receipt: Receipt | None = None
    view: str | None = None
    tiles: tuple[Shares, ...] = ()
    references: Mapping[str, ReferenceInput] = field(default_factory=dict)
    part: PartPicture | None = None

    @property
    def known_ns(self) -> int:
        """Since when it has been known that it is to be judged; too old it is by this, not by its capture."""
        return self.captured_ns if self.part is None else self.part.chosen_ns
