"""Settings of a camera and of what is looked at, as they stand in config.yaml under `stations.<name>`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr

Unit = Annotated[float, Field(ge=0.0, le=1.0)]
Point = tuple[Unit, Unit]


class Settings(BaseModel):
    """A strict, frozen piece of config.yaml: unknown keys and wrong types are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Reconnect(Settings):
    """How long to wait before a lost camera is opened again: doubling, jittered, capped, for ever."""

    initial_s: float = Field(1.0, gt=0)
    max_s: float = Field(30.0, gt=0)
    jitter: Unit = 0.2


class OpenCVCamera(Settings):
    """A camera, stream or clip that OpenCV reads."""

    kind: Literal["opencv"] = "opencv"
    source: SecretStr = Field(description="V4L2 index or path, rtsp://, http://, GStreamer pipeline, video file")
    backend: Literal["auto", "ffmpeg", "v4l2", "gstreamer"] = "auto"
    fps: float | None = Field(None, gt=0, description="look at no more pictures a second than this")
    width: int | None = Field(None, gt=0)
    height: int | None = Field(None, gt=0)
    open_timeout_s: float = Field(5.0, gt=0)
    read_timeout_s: float = Field(3.0, gt=0)
    reconnect: Reconnect = Reconnect()
    loop: bool = Field(False, description="start a clip again when it ends")
    pace: Literal["recorded", "full"] = Field("recorded", description="a clip: as it was recorded, or as fast as possible")


class FolderCamera(Settings):
    """A folder of pictures, in the order of their names, sub-folders included."""

    kind: Literal["folder"] = "folder"
    path: str
    fps: float | None = Field(None, gt=0, description="pictures a second; without it as fast as they are inspected")
    loop: bool = False


class Condition(Settings):
    """One change of the simulated line: between two parts a degradation ramps from one severity to another."""

    kind: Literal[
        "dim", "glare", "dirt", "defocus", "motion", "noise", "fog", "contrast", "cast"
    ]
    from_part: int = Field(0, ge=0)
    to_part: int | None = Field(None, ge=0, description="without it the condition stays")
    severity: float = Field(3.0, ge=0, le=5, description="0 none, 1 mild, 5 severe; reached at the end of the ramp")
    ramp_parts: int = Field(0, ge=0, description="0: sudden; else parts until the severity is reached")


class SimulatedCamera(Settings):
    """The simulated line: machined parts on a belt, with ground truth."""

    kind: Literal["simulated"] = "simulated"
    seed: int = 0
    fps: float | None = Field(None, gt=0, description="parts a second; without it as fast as they are inspected")
    parts: int | None = Field(None, gt=0, description="stop after so many parts; without it for ever")
    defect_rate: Unit = 0.03
    burst_rate: Unit = Field(0.02, description="share of blocks of 25 parts in which half of the parts are defective")
    conditions: tuple[Condition, ...] = ()


CameraSettings = Annotated[OpenCVCamera | FolderCamera | SimulatedCamera, Field(discriminator="kind")]


class QualityLimits(Settings):
    """When a picture is not judged. None switches a check off."""

    min_luma: float | None = Field(8.0, ge=0, le=255, description="darker on average: black")
    max_luma: float | None = Field(247.0, ge=0, le=255, description="brighter on average: saturated")
    min_sharpness: float | None = Field(None, ge=0, description="variance of the Laplacian below this: blurred")
    frozen_s: float | None = Field(5.0, gt=0, description="the very same picture for this long: frozen")
    stale_s: float | None = Field(2.0, gt=0, description="older than this when it is judged: stale")


class RegionOfInterest(Settings):
    """What of the picture is looked at; coordinates are shares of width and height."""

    crop: tuple[Unit, Unit, Unit, Unit] = Field((0.0, 0.0, 1.0, 1.0), description="left, top, right, bottom")
    masks: dict[str, tuple[Point, ...]] = Field(
        default_factory=dict, description="polygons that are blackened before anything else sees the picture"
    )
