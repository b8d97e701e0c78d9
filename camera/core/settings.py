"""Settings of a camera and of what is looked at, as they stand in config.yaml under `stations.<name>`."""

from __future__ import annotations

import re
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator

from camera.core.address import MASK, Address, check_source, is_address, shown_name, shown_pipeline

MOST = 10**12
"""What may be counted: more than any line makes, and every use of it can hold so many. Each number in a
config has such an end, which nobody reaches: beyond it something would overflow while the line runs."""

Unit = Annotated[float, Field(ge=0.0, le=1.0)]
# As udev names them. What else is written in the place of one may hold a password.
_PLAIN_DEVICE = re.compile(r"[0-9]+|/[\w/.:+-]+")
Rate = Annotated[float, Field(ge=1e-6, le=1e6)]
"""A second."""
Point = tuple[Unit, Unit]
Polygon = Annotated[tuple[Point, ...], Field(min_length=3)]


class Settings(BaseModel):
    """A strict, frozen piece of config.yaml: unknown keys, wrong types, NaN and infinity are errors."""

    # pydantic would show what it was given, which may be a secret, in the text of its errors.
    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, allow_inf_nan=False, hide_input_in_errors=True
    )


class Reconnect(Settings):
    """How long to wait before a lost camera is opened again: doubling, jittered, capped, for ever."""

    initial_s: float = Field(default=1.0, gt=0, le=86_400)
    max_s: float = Field(default=30.0, gt=0, le=86_400)
    jitter: Unit = 0.2

    @model_validator(mode="after")
    def _rising(self) -> Self:
        if self.initial_s > self.max_s:
            raise ValueError("initial_s is more than max_s: make it at most that")
        return self


class OpenCVCamera(Settings):
    """A camera, stream or clip that OpenCV reads."""

    kind: Literal["opencv"] = "opencv"
    source: SecretStr = Field(
        description="V4L2 index or path, rtsp://, http://, GStreamer pipeline, video file"
    )
    backend: Literal["auto", "ffmpeg", "v4l2", "gstreamer"] = "auto"
    fps: Rate | None = Field(default=None, description="look at no more pictures a second than this")
    width: int | None = Field(
        default=None, gt=0, le=65_535, description="asked of a V4L2 device; it may give another"
    )
    height: int | None = Field(
        default=None, gt=0, le=65_535, description="asked of a V4L2 device; it may give another"
    )
    open_timeout_s: float = Field(default=5.0, gt=0, le=3600)
    read_timeout_s: float = Field(default=3.0, gt=0, le=3600)
    reconnect: Reconnect = Reconnect()
    loop: bool = Field(default=False, description="start a clip again when it ends")
    pace: Literal["recorded", "full"] = Field(
        default="recorded", description="a clip: as it was recorded, or as fast as it is inspected"
    )

    @field_validator("source", mode="before")
    @classmethod
    def _index(cls, source: object) -> object:
        """Let `source: 0` be the first camera, as people write it."""
        return str(source) if isinstance(source, int) and not isinstance(source, bool) else source

    @field_validator("source", mode="after")
    @classmethod
    def _understood(cls, source: SecretStr) -> SecretStr:
        check_source(source.get_secret_value())
        return source

    @model_validator(mode="after")
    def _a_device(self) -> Self:
        source = self.source.get_secret_value()
        if self.backend == "v4l2" and not (source.isdecimal() or source.startswith("/")):
            raise ValueError("backend: v4l2 opens devices: source should be an index or the path of one")
        return self

    @property
    def medium(self) -> Literal["device", "stream", "pipeline", "clip"]:
        """What `source` is: a V4L2 device, a network stream, a GStreamer pipeline; else a file."""
        source = self.source.get_secret_value()
        if self.backend == "v4l2" or source.isdecimal() or source.startswith("/dev/"):
            return "device"
        if is_address(source):
            return "stream"
        return "pipeline" if self.backend == "gstreamer" or " ! " in source else "clip"

    @property
    def address(self) -> Address | None:
        """Where a network stream comes from; None of another medium."""
        return Address.parse(self.source.get_secret_value()) if self.medium == "stream" else None

    @property
    def target(self) -> str:
        """`source` as OpenCV is to get it; holds secrets."""
        return self.source.get_secret_value() if self.address is None else self.address.text

    @property
    def label(self) -> str:
        """`source` for logs and errors, without anything that may be a secret."""
        source = self.source.get_secret_value()
        if self.address is not None:
            return self.address.shown
        if self.medium == "device":
            return source if _PLAIN_DEVICE.fullmatch(source) else MASK
        return shown_pipeline(source) if self.medium == "pipeline" else shown_name(source)


class Watch(Settings):
    """A folder that others put pictures into while the line runs: each is inspected once it is complete."""

    when_done: Literal["move", "mark", "delete"] = Field(
        default="move",
        description="of a file whose result is stored: move it into done/ below path, remember it and leave"
        " it there, or delete it; unreadable ones go into failed/, but for mark",
    )
    settle_s: float = Field(
        default=2.0, gt=0, le=3600, description="a file is complete when it has not changed for so long"
    )
    poll_s: float = Field(default=1.0, ge=0.05, le=3600, description="how often the folder is looked at")


class FolderCamera(Settings):
    """A folder of pictures, in the order of their names, sub-folders included; with `watch` as they come."""

    kind: Literal["folder"] = "folder"
    path: str
    fps: Rate | None = Field(
        default=None, description="pictures a second; without it as fast as they are inspected"
    )
    loop: bool = Field(default=False, description="start again with the first picture behind the last")
    watch: Watch | None = Field(
        default=None,
        description="go on with the pictures that come; without it those that lie there at first",
    )
    bit_depth: int | None = Field(
        default=None,
        ge=9,
        le=16,
        description="how many bits the camera gave of the 16 in grey pictures; without it what the file says",
    )

    @model_validator(mode="after")
    def _once(self) -> Self:
        if self.loop and self.watch is not None:
            what = "loop and watch exclude each other: a file that is watched for is inspected once"
            raise ValueError(f"{what}; remove one of them")
        return self


class RecordingCamera(Settings):
    """What `mekiki record` has written, played as the camera that it was recorded from."""

    kind: Literal["recording"] = "recording"
    path: str = Field(description="the folder of the recording")
    pace: Literal["recorded", "full"] = Field(
        default="recorded", description="as it was recorded, or as fast as it is inspected"
    )
    loop: bool = Field(default=False, description="start again when it ends")


class SimulatedCondition(Settings):
    """One change of the simulated line: from one part to another a degradation ramps up to its severity."""

    kind: Literal["dim", "glare", "dirt", "defocus", "motion", "noise", "fog", "contrast", "cast"]
    from_part: int = Field(default=0, ge=0, le=MOST)
    to_part: int | None = Field(default=None, ge=0, le=MOST, description="without it the condition stays")
    severity: float = Field(
        default=3.0, ge=0, le=5, description="0 none, 1 mild, 5 severe; reached at the end of the ramp"
    )
    ramp_parts: int = Field(
        default=0, ge=0, le=MOST, description="0: sudden; else parts until the severity is reached"
    )

    @model_validator(mode="after")
    def _lasting(self) -> Self:
        if self.to_part is not None and self.to_part <= self.from_part:
            raise ValueError("to_part is not after from_part: there is no part in between")
        return self


class SimulatedCamera(Settings):
    """The simulated line: machined parts on a belt, with ground truth."""

    kind: Literal["simulated"] = "simulated"
    seed: int = Field(default=0, ge=-MOST, le=MOST)
    fps: Rate | None = Field(
        default=None, description="parts a second; without it as fast as they are inspected"
    )
    parts: int | None = Field(
        default=None, gt=0, le=MOST, description="stop after so many parts; without it for ever"
    )
    defect_rate: Unit = 0.03
    burst_rate: Unit = Field(
        default=0.02, description="share of blocks of 25 parts in which half of the parts are defective"
    )
    conditions: tuple[SimulatedCondition, ...] = ()


CameraSettings = Annotated[
    OpenCVCamera | FolderCamera | RecordingCamera | SimulatedCamera, Field(discriminator="kind")
]


class QualityLimits(Settings):
    """When a picture is not judged. None switches a check off."""

    min_luma: float | None = Field(default=8.0, ge=0, le=255, description="darker on average: black")
    max_luma: float | None = Field(default=247.0, ge=0, le=255, description="brighter on average: saturated")
    min_sharpness: float | None = Field(
        default=None, ge=0, le=1e9, description="variance of the Laplacian below this: blurred"
    )
    frozen_s: float | None = Field(
        default=5.0, gt=0, le=604_800, description="the very same picture for this long: frozen"
    )
    stale_s: float | None = Field(
        default=2.0, gt=0, le=604_800, description="older than this when it is judged: stale"
    )

    @model_validator(mode="after")
    def _some_light(self) -> Self:
        if self.min_luma is not None and self.max_luma is not None and self.min_luma >= self.max_luma:
            raise ValueError("min_luma is not less than max_luma: no picture would ever be judged")
        return self


class RegionOfInterest(Settings):
    """What of the picture is looked at; coordinates are shares of width and height."""

    crop: tuple[Unit, Unit, Unit, Unit] = Field(
        default=(0.0, 0.0, 1.0, 1.0), description="left, top, right, bottom"
    )
    masks: dict[str, Polygon] = Field(
        default_factory=dict, description="polygons that are blackened before anything else sees the picture"
    )

    @field_validator("crop", mode="after")
    @classmethod
    def _some_area(cls, crop: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
        left, top, right, bottom = crop
        if left >= right or top >= bottom:
            raise ValueError("leaves nothing: left < right and top < bottom are needed")
        return crop
