"""What is being made at each station: what the config says, and what was set over it. Pure functions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from agent.base.errors import AgentError
from agent.config.models import Config
from agent.config.types import PRODUCTION_NAMES, ProductionName
from agent.domain.production import Production


class ProductionError(AgentError):
    """It cannot be set; says why and what can."""


@dataclass(frozen=True, slots=True)
class ProductionValue:
    """One text that was set over the config file.

    Attributes:
        station: where; None at all stations.
        value: None where it was cleared.
        file: what the file said there when it was set; where it says something else by now, that counts.
    """

    station: str | None
    name: ProductionName
    value: str | None
    file: str | None


ProductionValues = tuple[ProductionValue, ...]


def with_values(
    config: Config, kept: ProductionValues, station: str | None, values: Mapping[ProductionName, str | None]
) -> ProductionValues:
    """Return what is set with more set; what the file says itself is not kept.

    Args:
        config: of the file.
        station: where; None at all stations.
        values: texts to be in force, None to clear.

    Raises:
        ProductionError: there is no such station.
    """
    if station is not None and station not in config.stations:
        raise ProductionError(f"there is no station {station!r}: name one of {', '.join(config.stations)}")
    rest = tuple(one for one in kept if one.station != station or one.name not in values)
    new = (
        ProductionValue(station, name, value, _written(config, station, name))
        for name, value in values.items()
    )
    return (*rest, *(one for one in new if one.value != one.file))


def counting(config: Config, kept: ProductionValues) -> ProductionValues:
    """Return what of it still counts: the station is there, and the file says what it said then."""
    return tuple(
        one
        for one in kept
        if (one.station is None or one.station in config.stations)
        and _written(config, one.station, one.name) == one.file
    )


def in_force(config: Config, kept: ProductionValues) -> dict[str, Production]:
    """Return what is being made at each station: its own text, else that of all stations."""
    own = {(one.station, one.name): one.value for one in kept}

    def said(station: str | None, name: ProductionName) -> str | None:
        return own.get((station, name), _written(config, station, name))

    return {
        station: Production(*(said(station, name) or said(None, name) for name in PRODUCTION_NAMES))
        for station in config.stations
    }


def _written(config: Config, station: str | None, name: ProductionName) -> str | None:
    """Return what the file says for one station, or for all."""
    at = config.production if station is None else config.stations[station].production
    return {"order": at.order, "lot": at.lot, "shift": at.shift}[name]
