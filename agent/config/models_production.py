"""What is being made: a section of config.yaml, for all stations or for one."""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from pydantic import Field

from agent.config.types import Text
from camera.core.settings import Settings

ProductionText = Annotated[Text, Field(max_length=100)]
"""What a person or a host calls an order, a lot or a shift."""
ProductionName = Literal["order", "lot", "shift"]
PRODUCTION_NAMES: tuple[ProductionName, ...] = get_args(ProductionName)


class ProductionSettings(Settings):
    """What is being made; results, exports and hosts are told, nothing is decided by it."""

    order: ProductionText | None = Field(default=None, description="number or name of the order")
    lot: ProductionText | None = Field(default=None, description="number or name of the lot")
    shift: ProductionText | None = Field(default=None, description="which shift is at work")
