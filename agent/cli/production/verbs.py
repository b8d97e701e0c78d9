"""What `mekiki production show` and `set` do; imports nothing heavy before one is asked for."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent.base.errors import EXIT_OK, StoreError, UsageError
from agent.cli.output import as_json, put, say

if TYPE_CHECKING:
    from agent.config.models import Config


def show(arguments: argparse.Namespace) -> int:
    """Print what is in force at each station; see `mekiki production show --help`."""
    from dataclasses import asdict

    from agent.reload.production_book import read
    from agent.reload.production_requests import waiting
    from agent.reload.production_values import counting, in_force

    config = _config(arguments)
    data = Path(config.agent.data_dir)
    try:
        waits = len(waiting(data))
    except OSError as error:
        raise StoreError(f"{data}: cannot be read: {error.strerror or error}") from error
    found = in_force(config, counting(config, read(data)))
    rows = {name: asdict(one) for name, one in found.items() if arguments.station in (None, name)}
    for name, row in rows.items():
        said = ", ".join(f"{key} {value}" for key, value in row.items() if value is not None)
        put(as_json({"station": name, **row}) if arguments.json else f"{name}: {said or 'nothing is set'}")
    if waits:
        say(f"{waits} requests wait for the agent, which takes them at once where it runs")
    return EXIT_OK


def set_values(arguments: argparse.Namespace) -> int:
    """Leave a request for the agent; see `mekiki production set --help`."""
    from pydantic import ValidationError

    from agent.base.data_dir import in_use, no_folder, require_owner
    from agent.base.refusal import refusal
    from agent.config.types import PRODUCTION_NAMES
    from agent.reload.production_requests import ProductionRequest, ask
    from agent.versions.operator_requests import requester

    values: dict[Any, str | None] = {
        name: said for name in PRODUCTION_NAMES if (said := getattr(arguments, name)) is not None
    }
    if both := values.keys() & set(arguments.clear):
        raise UsageError(f"--{min(both)} and --clear {min(both)}: give one of them")
    values |= dict.fromkeys(arguments.clear)
    config = _config(arguments)
    data = Path(config.agent.data_dir)
    try:
        request = ProductionRequest(
            station=arguments.station, values=values, actor=requester(), why=arguments.why
        )
    except ValidationError as error:
        raise UsageError(refusal(error, ProductionRequest).removeprefix("values.")) from None
    require_owner(data, "production")
    runs = in_use(data)
    try:
        ask(data, request)
    except (FileExistsError, NotADirectoryError) as error:
        raise no_folder(data) from error
    except OSError as error:
        raise StoreError(f"{data}: cannot be written: {error.strerror or error}") from error
    what = ", ".join(
        f"no {name}" if value is None else f"{name} {value}" for name, value in request.values.items()
    )
    taken = "the running agent takes it at once" if runs else "no agent runs; it takes it when it starts"
    say(f"{arguments.station or 'all stations'}: {what}: asked; {taken}")
    return EXIT_OK


def _config(arguments: argparse.Namespace) -> Config:
    """Return the config; its station is there, if one is named."""
    from agent.config.absent import whatever_is_spared
    from agent.config.diagnostics import did_you_mean
    from agent.config.loader import load

    config = load(Path(arguments.config), whatever_is_spared).config
    if arguments.station is not None and arguments.station not in config.stations:
        hint = did_you_mean(arguments.station, list(config.stations))
        raise UsageError(f"no station is called {arguments.station!r}: {hint}")
    return config
