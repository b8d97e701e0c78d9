"""How parts that pass or stop in the picture are found: `trigger.mode: presence` of config.yaml."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from camera.core.settings import Settings, Unit

Direction = Literal["any", "left", "right", "up", "down"]

MOST_PICTURES_OF_PART = 8
_LEAST_SIDE = 0.05


class PresenceTrigger(Settings):
    """A part is what comes into the region and goes, or stops there; the pictures of it are chosen."""

    mode: Literal["presence"] = "presence"
    region: Annotated[tuple[Unit, Unit, Unit, Unit], Field(
        description="where parts are looked for: left, top, right, bottom in shares of the camera's picture;"
        " the empty belt alone, without people, rails and lamps"
    )] = (0.0, 0.0, 1.0, 1.0)  # fmt: skip
    min_size: float = Field(
        default=0.005, gt=0, le=0.9, description="what is smaller is no part; share of the region's area"
    )
    max_size: float = Field(
        default=0.5, gt=0, le=0.95, description="what is larger is no part: a hand, a jump of the light"
    )
    direction: Direction = Field(
        default="any", description="where parts go to in the picture; what goes elsewhere is no part"
    )
    still: bool = Field(
        default=False,
        description="parts stop here: a picture is taken once a part stands still, and of one that never does"
        " when it leaves; false: the best picture of a part that passes",
    )
    pictures: int = Field(
        default=1, ge=1, le=MOST_PICTURES_OF_PART, description="the best ones of each part, one result each"
    )

    @model_validator(mode="after")
    def _has_room(self) -> Self:
        left, top, right, bottom = self.region
        if right - left < _LEAST_SIDE or bottom - top < _LEAST_SIDE:
            raise ValueError(
                "region: left, top, right, bottom, each side at least 0.05 of the picture, such as"
                " [0.1, 0.2, 0.9, 0.8]"
            )
        if self.min_size >= self.max_size:
            raise ValueError(
                f"min_size {self.min_size} is not below max_size {self.max_size}: nothing would be a part"
            )
        return self
