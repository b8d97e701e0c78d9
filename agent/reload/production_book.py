"""Order, lot and shift in force: by the config, over MQTT or by the command line; kept in the data folder."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from adapters.files.atomic_file import write_durably
from agent.audit.agent_log import Trail
from agent.config.models import Config
from agent.config.overrides import read_stored
from agent.config.types import PRODUCTION_NAMES, ProductionName, ProductionText
from agent.domain.production import UNSAID, Production
from agent.reload import production_requests as requests
from agent.reload.production_values import (
    ProductionError,
    ProductionValue,
    ProductionValues,
    counting,
    in_force,
    with_values,
)

log = logging.getLogger(__name__)

FILE = "production.json"
"""In the data folder."""
_VERSION = 1
"""What is added to the file keeps it: an older release passes over names and fields that it does not know."""
_TEXT: TypeAdapter[str | None] = TypeAdapter(ProductionText | None)


@dataclass(frozen=True, slots=True)
class ProductionChange:
    """What a person or a host has set.

    Attributes:
        before, after: what was in force and is, at each station that it is about.
    """

    before: Mapping[str, Production]
    after: Mapping[str, Production]


class ProductionBook:
    """Owns what was set over the config; the main thread uses it, any may ask `of`.

    The file has the last word: where somebody edits a text there, what was set over it is forgotten.

    Args:
        config: in force.
        trail: of the agent.
        on_change: called when something else is in force.

    Raises:
        StoreError: what was set was written by a newer release, in a way that this one does not read.
    """

    def __init__(self, config: Config, trail: Trail, on_change: Callable[[], None] = lambda: None) -> None:
        self.on_change = on_change
        self._data, self._trail = Path(config.agent.data_dir), trail
        self._done: set[str] = set()  # requests that were obeyed and cannot be removed
        self._trouble = ""
        self._config = config
        self._kept = read(self._data)
        self._now: Mapping[str, Production] = {}
        self.use(config)
        self.serve()  # what was asked while no agent ran is in force from the first part on

    def of(self, station: str) -> Production:
        """Return what is being made at a station; any thread may ask."""
        return self._now.get(station, UNSAID)

    def use(self, config: Config) -> None:
        """Go by another config from now on."""
        self._config = config
        kept = counting(config, self._kept)
        for one in self._kept:
            if one not in kept:
                where = one.station or "all stations"
                log.warning(
                    "%s: %s was set to %r; the config file was changed there: that counts",
                    where,
                    one.name,
                    one.value,
                )
        self._keep(kept)
        self._now = in_force(config, kept)

    def set(
        self, station: str | None, values: Mapping[ProductionName, str | None], actor: str, why: str = ""
    ) -> ProductionChange:
        """Set texts over what the file says, from the next part on; they outlive a restart.

        Args:
            station: where; None at all stations that have none of their own.
            values: None clears: a station's own gives way to that of all.
            actor: who asks, for the audit trail.

        Raises:
            ProductionError: there is no such station; nothing was changed.
        """
        kept = with_values(self._config, self._kept, station, values)
        now = in_force(self._config, kept)
        about = [station] if station is not None else list(now)
        change = ProductionChange(
            {name: self.of(name) for name in about}, {name: now[name] for name in about}
        )
        self._keep(kept)
        self._now = now
        where = station or "all stations"
        self._trail.record(
            "production",
            actor,
            why,
            before=_plain(change.before),
            after={"set": {where: dict(values)}, **_plain(change.after)},
        )
        log.info(
            "production: %s: %s, by %s",
            where,
            ", ".join(f"{name} {value!r}" for name, value in values.items()),
            actor,
        )
        self.on_change()
        return change

    def serve(self) -> None:
        """Do what was asked by the command line since the last turn."""
        try:
            for path in requests.waiting(self._data):
                if path.name not in self._done:
                    self._execute(path)
            self._trouble = ""
        except OSError as error:
            if self._trouble != str(error):
                log.error("production: requests cannot be taken: %s", error)
            self._trouble = str(error)

    def _execute(self, path: Path) -> None:
        try:
            request = requests.read_request(path)
        except requests.NoRequest as error:
            aside = requests.put_aside(path)
            log.warning("%s: not a request: %s; moved to %s", path, error, aside)
            self._trail.record("production_refused", "unknown", f"{path.name}: not a request: {error}")
            return
        try:
            self.set(request.station, request.values, request.actor, request.why or "mekiki production set")
        except ProductionError as error:
            log.warning("production: asked by %s: %s", request.actor, error)
            self._trail.record(
                "production_refused", request.actor, error.problems[0], after=dict(request.values)
            )
        self._done.add(path.name)  # whether or not it can be removed: it is done once
        path.unlink(missing_ok=True)
        self._done.discard(path.name)

    def _keep(self, kept: ProductionValues) -> None:
        changed, self._kept = kept != self._kept, kept
        if not changed:
            return
        try:
            _write(self._data, kept)
        except OSError as error:
            log.error("production: what was set does not outlive a restart: %s", error)


def read(data: Path) -> ProductionValues:
    """Return what was set; what cannot be read is told in the journal and forgotten.

    Raises:
        StoreError: a newer release wrote the file in a way that this one does not read.
    """
    file = data / FILE
    try:
        stored = read_stored(file, _VERSION)["set"]
        return tuple(_value(one) for one in stored if one["name"] in PRODUCTION_NAMES)
    except FileNotFoundError:
        return ()
    except (OSError, ValueError, KeyError, TypeError) as error:
        log.error("%s: cannot be read, the config file alone counts: %s", file, error)
        return ()


def _value(fields: Mapping[str, Any]) -> ProductionValue:
    station = fields["station"]
    if not isinstance(station, str | None):
        raise TypeError(f"no station: {station!r}")
    try:
        value, file = (_TEXT.validate_python(fields[key], strict=True) for key in ("value", "file"))
    except ValidationError as error:
        raise ValueError(f"{fields['name']}: no text: {error.errors()[0]['msg']}") from None
    return ProductionValue(station, fields["name"], value, file)


def _write(data: Path, kept: ProductionValues) -> None:
    """Keep what is set, and what a newer release has kept there besides."""
    file = data / FILE
    try:
        before = read_stored(file, _VERSION)
        foreign = [one for one in before["set"] if one["name"] not in PRODUCTION_NAMES]
    except (FileNotFoundError, ValueError, KeyError, TypeError):  # `read` has told
        before, foreign = {}, []
    content = {**before, "version": _VERSION, "set": [*map(asdict, kept), *foreign]}
    data.mkdir(parents=True, exist_ok=True)
    write_durably(file, json.dumps(content, allow_nan=False).encode())


def _plain(stations: Mapping[str, Production]) -> dict[str, Any]:
    return {name: asdict(one) for name, one in stations.items()}
