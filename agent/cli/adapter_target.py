"""The station whose adapters a command is about: its folders, its versions, what is asked of its agent.

Imports nothing heavy before a command needs it, as `agent.cli.main` does.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from agent.base.errors import ConfigError, StoreError, UsageError
from agent.cli.output import say

if TYPE_CHECKING:
    from adapters.core.version import Version
    from adapters.core.version_store import AdapterStore
    from agent.config.models import Config
    from agent.versions.operator_requests import Kind


@dataclass(frozen=True, slots=True)
class AdapterTarget:
    """The station that a command is about, and its folders.

    Attributes:
        config: with the recipe in force that the command is about.
        in_force: name of the recipe that is in force.
    """

    config: Config
    station: str
    in_force: str

    @property
    def data(self) -> Path:
        """The data folder of the agent."""
        return Path(self.config.agent.data_dir)

    @property
    def folder(self) -> Path:
        """The folder in it where the station keeps what belongs to the recipe."""
        from agent.versions.commissioned import station_folder

        return station_folder(self.config, self.station)

    def store(self) -> AdapterStore:
        """Open the adapters to look at them; tells what is wrong with them."""
        from adapters.core.adapter import AdapterFileError
        from adapters.core.version_store import AdapterStore
        from adapters.engines.factory import open_plain

        engine = open_plain(self.config.model)
        try:
            store = AdapterStore(self.folder / "adapters", engine.source, engine.info.weights, reading=True)
        except AdapterFileError as error:
            raise ConfigError([str(error)]) from error
        for line in store.found:
            say(line)
        return store

    def load(self, store: AdapterStore, number: int) -> Version:
        """Return a version that is to be shown, exported or gone back to."""
        from adapters.core.adapter import AdapterFileError
        from adapters.core.version_store import UnknownVersion

        try:
            return store.load(number)
        except UnknownVersion:
            numbers = ", ".join(map(str, [0, *store.numbers()]))
            raise UsageError(f"{self.station}: no version {number}; there is {numbers}") from None
        except AdapterFileError as error:
            raise ConfigError([str(error)]) from error

    def request(self, kind: Kind, number: int | None, why: str) -> None:
        """Leave the request and say who will take it."""
        from pydantic import ValidationError

        from agent.base.data_dir import no_folder, require_owner
        from agent.base.refusal import refusal
        from agent.versions.commissioned import commissioning_file
        from agent.versions.operator_requests import Request, agent_runs, ask, requester

        require_owner(self.data, "adapter")
        now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        try:
            request = Request(kind=kind, actor=requester(), at=now, number=number, why=why)
        except ValidationError as error:
            raise UsageError(refusal(error, Request)) from None
        try:
            runs = agent_runs(self.data)
            ask(self.folder / "requests", request)
        except (FileExistsError, NotADirectoryError) as error:
            raise no_folder(self.folder) from error
        except OSError as error:
            raise StoreError(f"{self.folder}: cannot be written: {error.strerror or error}") from error
        what = kind if number is None else f"{kind} {number}"
        if not commissioning_file(self.config, self.station).exists():
            taken = "it waits until the station is commissioned"
        elif (recipe := self.config.stations[self.station].recipe) != self.in_force:
            taken = f"it waits until recipe {recipe} is in force"
        elif runs:
            taken = "the running agent takes it within a second"
        else:
            taken = "no agent runs; it takes it when it starts"
        say(f"{self.station}: {what}: asked; {taken}")


def target_of(arguments: argparse.Namespace) -> AdapterTarget:
    """Return the station that is meant: the one that is named, or the only one.

    Raises:
        UsageError: there is none of that name, or there are several.
    """
    from agent.config.absent import whatever_is_spared
    from agent.config.diagnostics import did_you_mean
    from agent.config.loader import load
    from agent.versions.file_plan import in_force, with_recipe

    loaded = load(Path(arguments.config), whatever_is_spared)
    names = list(loaded.config.stations)
    station = arguments.station
    if station is None:
        if len(names) > 1:
            raise UsageError(f"which station? add -s with one of {', '.join(names)}")
        station = names[0]
    if station not in names:
        raise UsageError(f"no station is called {station!r}: {did_you_mean(station, names)}")
    now = in_force(loaded)
    asked = with_recipe(now, station, arguments.recipe)
    return AdapterTarget(asked.config, station, now.config.stations[station].recipe)
