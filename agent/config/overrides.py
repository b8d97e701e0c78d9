"""What was set from outside, over the config file: kept in the data folder, so that it outlives a restart.

The file has the last word: where somebody edits a setting there, what was set over it is forgotten.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import ValidationError

from adapters.files.atomic_file import write_durably
from adapters.files.strict_json import loads
from agent.base.errors import AgentError, StoreError
from agent.base.refusal import refusal
from agent.config.loader import Loaded
from agent.config.models import Config, Station
from agent.config.models_adaptation import Adaptation
from agent.config.recipes import find_recipe, recipe_names
from agent.config.voting import votes_over_parts, voting_problem
from agent.config.yaml_tree import with_value

log = logging.getLogger(__name__)

Name = Literal["recipe", "adaptation", "enabled"]
NAMES: tuple[Name, ...] = get_args(Name)
"""What ``S/<name>/set`` changes and ``S/<name>/state`` shows."""
Value = str | bool

_FILE = "overrides.json"
_VERSION = 1
"""What is added to the file keeps it: an older release passes over names and fields that it does not know."""
_KEYS = {"recipe": ("recipe",), "adaptation": ("adaptation", "mode"), "enabled": ("enabled",)}


class OverrideError(AgentError):
    """It cannot be set; says why and what can."""


@dataclass(frozen=True, slots=True)
class Override:
    """One setting of a station that is another one than the file says.

    Attributes:
        file: what the file said when it was set.
    """

    station: str
    name: Name
    value: Value
    file: Value


Overrides = tuple[Override, ...]


def read(data: Path) -> Overrides:
    """Return what was set; what cannot be read is told in the journal and forgotten.

    Raises:
        StoreError: a newer release wrote the file in a way that this one does not read. What was set there
            may be another recipe: a line is not to inspect as if it were not.
    """
    file = data / _FILE
    try:
        stored = read_stored(file, _VERSION)["overrides"]
        return tuple(_override(one) for one in stored if _known(one, file))
    except (FileNotFoundError, NotADirectoryError):  # whoever needs the folder says what lies there instead
        return ()
    except (OSError, ValueError, KeyError, TypeError) as error:
        log.error("%s: cannot be read, the config file alone counts: %s", file, error)
        return ()


def write(data: Path, overrides: Overrides) -> None:
    """Keep what was set, and what a newer release has kept there besides.

    Raises:
        OSError: the data folder cannot be written; what was kept still is.
    """
    file = data / _FILE
    if not overrides and not file.exists():
        return
    try:
        before = read_stored(file, _VERSION)
        foreign = [one for one in before["overrides"] if one["name"] not in NAMES]
    except (FileNotFoundError, ValueError, KeyError, TypeError):  # `read` has told
        before, foreign = {}, []
    content = {**before, "version": _VERSION, "overrides": [*map(asdict, overrides), *foreign]}
    write_durably(file, json.dumps(content, allow_nan=False).encode())


def with_set(file: Loaded, overrides: Overrides, station: str, name: Name, value: Value) -> Overrides:
    """Return the overrides with one more, or one less where the file says the same.

    Raises:
        OverrideError: there is no such station, or it cannot have this value.
    """
    found = file.config.stations.get(station)
    if found is None:
        raise OverrideError(f"there is no station {station!r}: name one of {', '.join(file.config.stations)}")
    rest = tuple(one for one in overrides if (one.station, one.name) != (station, name))
    written = written_in(found, name)
    override = Override(station, name, value, written)
    if name == "adaptation" and written == "locked":
        raise OverrideError(f"station {station} is locked by the config file: change it there")
    _changed(file.config, override)
    return rest if value == written else (*rest, override)


def applied(file: Loaded, overrides: Overrides) -> tuple[Loaded, Overrides]:
    """Return what is in force, and the overrides that still count; why others do not is in the journal."""
    config, effective, kept = file.config, file.effective, []
    for one in overrides:
        where = f"{one.station}: {one.name} was set to {one.value!r}"
        station = file.config.stations.get(one.station)
        if station is None:
            log.warning("%s, the station is gone: forgotten", where)
        elif (written := written_in(station, one.name)) != one.file:
            log.warning("%s, since then the file was changed to %r: that counts", where, written)
        else:
            try:
                config = _changed(config, one)
            except OverrideError as error:
                log.warning("%s, which is not possible any more: %s", where, error)
                continue
            effective = with_value(effective, ("stations", one.station, *_KEYS[one.name]), one.value)
            kept.append(one)
    return (file.but(config, effective) if kept else file), tuple(kept)


def written_in(station: Station, name: Name) -> Value:
    """Return the value of a setting."""
    values: dict[Name, Value] = {
        "recipe": station.recipe,
        "adaptation": station.adaptation.mode,
        "enabled": station.enabled,
    }
    return values[name]


def _changed(config: Config, override: Override) -> Config:
    station, value = config.stations[override.station], override.value
    update: dict[str, Any]
    match override.name:
        case "recipe":
            names = recipe_names(config.recipes)
            if value not in names:
                raise OverrideError(f"there is no recipe {value!r}: name one of {', '.join(names)}")
            recipe = find_recipe(str(value), config.recipes)
            if votes_over_parts(station, recipe):
                problem = voting_problem(override.station, str(value), recipe, station.trigger.mode)
                raise OverrideError(f"recipe {value}: {problem}")
            update = {"recipe": value}
        case "adaptation":
            try:
                update = {"adaptation": _adaptation(station.adaptation, value)}
            except ValidationError as error:
                raise OverrideError(f"mode {value!r}: {refusal(error, Adaptation)}") from None
        case "enabled":
            if not isinstance(value, bool):
                raise OverrideError(f"enabled is true or false, not {value!r}")
            update = {"enabled": value}
    stations = {**config.stations, override.station: station.model_copy(update=update)}
    return config.model_copy(update={"stations": stations})


def _adaptation(settings: Adaptation, mode: Value) -> Adaptation:
    return Adaptation.model_validate({**dict(settings), "mode": mode})


def read_stored(file: Path, known: int) -> dict[str, Any]:
    """Return what stands in a file of values that were set over the config file.

    Args:
        file: to read.
        known: the highest version of it that this release reads.

    Raises:
        OSError, ValueError, TypeError, KeyError: it cannot be read.
        StoreError: this release must not read it.
    """
    content = loads(file.read_bytes())
    if not isinstance(content, dict):
        raise TypeError("no object of JSON")
    version = content.get("version", known)
    if isinstance(version, int) and version > known:
        raise StoreError(
            f"{file}: version {version}, written by a newer version of the agent; this one reads {known}:"
            " install that version again, or move the file away: then the config file alone counts"
        )
    return content


def _known(fields: Mapping[str, Any], file: Path) -> bool:
    """Whether this release has such a setting."""
    if isinstance(name := fields["name"], str) and name not in NAMES:
        log.warning(
            "%s: %r was set by a newer version of the agent: it has no effect in this one", file, name
        )
        return False
    return True


def _override(fields: Mapping[str, Any]) -> Override:
    made = Override(**{name: fields[name] for name in ("station", "name", "value", "file")})
    if made.name not in NAMES or not isinstance(made.value, str | bool):
        raise ValueError(f"no override: {fields}")
    return made
