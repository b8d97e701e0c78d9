"""What each command over MQTT takes: bounds of every number, visible text, nothing else."""

from __future__ import annotations

import re
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from agent.challenge.requests import LONGEST_S, MOST_PARTS
from agent.config.overrides import NAMES
from agent.config.types import PRODUCTION_NAMES, Exactly, ProductionName, ProductionText, Text

_EVENT_ID = re.compile(r"[0-9A-HJKMNP-TV-Z]{26}")

_Number = Annotated[int, Field(ge=0, le=2**31 - 1)]
_Seq = Annotated[int, Field(ge=1, le=2**53 - 1)]


class Body(BaseModel):
    """What every command may carry.

    Attributes:
        transaction: echoed in the answer; the same command with the same one is not obeyed twice.
        user: who asks; the audit trail says ``mqtt:<user>``.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    transaction: Exactly | None = Field(default=None, max_length=100)
    user: Text = Field(default="anonymous", max_length=64)

    @property
    def patience_s(self) -> float:
        """Return how long an answer that waits for something else may take."""
        return 30.0


class Reasoned(Body):
    """A command with a reason for the audit trail."""

    why: Text | None = Field(default=None, max_length=500)


class AboutStation(Reasoned):
    """A command about one station; needed where there are several."""

    station: Text | None = Field(default=None, max_length=64)


class AboutVersion(AboutStation):
    """A command about one version of a station's adapter; 0 is the model as it was trained."""

    number: _Number


class Range(AboutStation):
    """Results of a station by their numbers; without `to_seq` up to the newest."""

    from_seq: _Seq
    to_seq: _Seq | None = None


class ProductionBody(AboutStation):
    """What is being made, at one station or, without `station`, at all; null clears, left out stays."""

    order: ProductionText | None = None
    lot: ProductionText | None = None
    shift: ProductionText | None = None

    @model_validator(mode="after")
    def _asks(self) -> Self:
        if not self.values():
            raise ValueError("nothing to set: name order, lot or shift")
        return self

    def values(self) -> dict[ProductionName, str | None]:
        """Return what is to be set; None clears."""
        said = {"order": self.order, "lot": self.lot, "shift": self.shift}
        return {name: said[name] for name in PRODUCTION_NAMES if name in self.model_fields_set}


class ChallengeBody(AboutStation):
    """Known parts that are put before a camera now, and what they must do."""

    expect: Literal["fail", "pass"]
    parts: int = Field(default=1, ge=1, le=MOST_PARTS)
    within_s: float = Field(default=300.0, ge=1, le=LONGEST_S, allow_inf_nan=False)
    kind: Text | None = Field(default=None, max_length=100)

    @property
    def patience_s(self) -> float:
        """Return how long the answer may take."""
        return self.within_s + super().patience_s


class LabelBody(Body):
    """What a part really was: ``good``, ``defective`` or a class of the recipe."""

    event_id: str
    label: Text = Field(max_length=100)

    @field_validator("event_id", mode="after")
    @classmethod
    def _of_a_result(cls, event_id: str) -> str:
        if not _EVENT_ID.fullmatch(event_id):
            raise ValueError("is no event_id as results have it: 26 digits and capital letters")
        return event_id


class Setting(Body):
    """A setting to be in force from now on."""

    value: Text | bool = Field(union_mode="left_to_right")


BODIES: dict[str, type[Body]] = {
    "ping": Body,
    "stats": Body,
    "reload": Reasoned,
    "adapter/list": AboutStation,
    "adapter/show": AboutVersion,
    "adapter/rollback": AboutVersion,
    "adapter/activate": AboutVersion,
    "adapter/pin": AboutVersion,
    "adapter/unpin": AboutVersion,
    "adapter/freeze": AboutStation,
    "adapter/resume": AboutStation,
    "adapter/reset": AboutStation,
    "replay": Range,
    "label": LabelBody,
    "production": ProductionBody,
    "challenge": ChallengeBody,
    **{f"set/{name}": Setting for name in NAMES},
}
"""Every verb, with what it takes."""
