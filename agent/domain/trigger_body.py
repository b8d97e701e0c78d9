"""What a client says who wants a part to be inspected: the body of ``S/trigger``."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from agent.config.models import MAX_DEADLINE_MS
from agent.config.types import Exactly, PartId


class TriggerBody(BaseModel):
    """A part is there: ``S/trigger``."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    trigger_id: Exactly = Field(max_length=100)
    part_id: PartId = Field(default=None, max_length=100)
    deadline_ms: int | None = Field(default=None, ge=1, le=MAX_DEADLINE_MS)
