"""Whether and how a station learns, as config.yaml says it under `stations.<name>.adaptation`."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from camera.core.settings import Settings

_DIGEST = r"^sha256:[0-9a-f]{64}$"
LEAST_SHADOW = 0.1
"""Where one learns: with less, a change of light would be noticed parts too late."""
_LOCKED_BY = ("weights", "recipe", "commissioning", "adapter")


class Pins(Settings):
    """What must be in force when the agent starts, or it does not start."""

    weights: str | None = Field(default=None, pattern=_DIGEST, description="of the model")
    recipe: str | None = Field(default=None, pattern=_DIGEST, description="of the station's recipe")
    commissioning: str | None = Field(
        default=None, pattern=_DIGEST, description="as mekiki commission prints it"
    )
    adapter: str | None = Field(
        default=None, pattern=_DIGEST, description="of what answers; S/adapter names it"
    )
    offset: float | None = Field(
        default=None, ge=-1e6, le=1e6, description="operating point of the version that answers"
    )
    reference: str | None = Field(
        default=None, pattern=_DIGEST, description="that parts are compared with; results name it"
    )


MODES = ("adaptive", "shadow", "frozen")
"""What adaptation can be set to; ``locked`` needs pins, which only the config names."""


class Adaptation(Settings):
    """Whether and how a station learns; without a commissioning it does not."""

    mode: Literal["adaptive", "shadow", "frozen", "locked"] = Field(
        default="adaptive",
        description="shadow: learns, the model as it was trained answers; frozen: what was learned answers,"
        " nothing is learned; locked: frozen, and exactly what pins name",
    )
    level: Literal["auto", "full", "operating_point"] = Field(
        default="auto",
        description="full, or auto: LayerNorms and operating point; operating_point: that alone",
    )
    every_frames: int = Field(
        default=50, ge=1, le=1_000_000, description="parts from one proposal to the next"
    )
    bound: float = Field(
        default=8.0, ge=0, le=100, description="how far the operating point may follow the pictures, in nats"
    )
    max_shift_per_hour: float = Field(
        default=6.0,
        ge=0.1,
        le=1000,
        description="how far the operating point of what answers may move within an hour beyond what the"
        " stream's good parts have moved, to and fro added up, in nats",
    )
    duty: float = Field(
        default=0.25, gt=0, le=1, description="share of the time that the learner may compute"
    )
    shadow_share: float = Field(
        default=1.0,
        ge=0,
        le=1,
        description="share of the parts that the frozen model sees too where something learned answers; by it"
        " drift is noticed, and each part that it sees costs twice",
    )
    keep: int = Field(
        default=20, ge=1, le=1_000_000, description="newest versions that are kept, beside pinned ones"
    )
    pins: Pins = Field(
        default=Pins(), description="what must be in force at the start; mode: locked needs them"
    )

    @model_validator(mode="after")
    def _possible(self) -> Self:
        missing = [name for name in _LOCKED_BY if getattr(self.pins, name) is None]
        if self.mode == "locked" and missing:
            raise ValueError(f"mode: locked needs pins for {', '.join(missing)}")
        if self.mode in ("adaptive", "shadow") and self.shadow_share < LEAST_SHADOW:
            raise ValueError(
                f"shadow_share: {self.shadow_share:g} is too little for mode: {self.mode}, which learns from"
                f" what the frozen model sees: {LEAST_SHADOW} or more"
            )
        return self
