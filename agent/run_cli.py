"""`mekiki run`: the agent in the foreground, and what to do when its config file is broken."""

from __future__ import annotations

import logging
import signal
from pathlib import Path

from adapters.adapter import AdapterError
from adapters.open import ModelSettings
from agent import last_good, logs
from agent.configfile import Loaded, load
from agent.daemon import Daemon, Summary
from agent.errors import ConfigError

log = logging.getLogger(__name__)


def run(path: Path, *, frames: int | None = None, strict: bool = False) -> Summary:
    """Inspect until somebody stops it.

    A config that cannot be used does not stop a line: the one that was in force last is, and health says so.

    Args:
        path: of the config file.
        frames: end after so many.
        strict: rather not start than with another config than the file.

    Raises:
        ConfigError, AdapterError: the file, or a model that it names, is no good, and there is no other.
    """
    loaded = None
    try:
        loaded = load(path)
        return _run(loaded, frames, ())
    except (ConfigError, AdapterError) as error:
        if strict or (good := _last_good(path, loaded)) is None:
            raise
        problems = error.problems if isinstance(error, ConfigError) else (f"model: {error}",)
        unusable = loaded.config.model if loaded is not None and isinstance(error, AdapterError) else None
    logs.set_up(good.config.log.level, good.config.log.format)
    for line in problems:
        log.error("config refused: %s", line)
    log.error("config: starting with the one that was in force last")
    return _run(good, frames, problems, unusable)


def _run(
    loaded: Loaded, frames: int | None, refused: tuple[str, ...], unusable: ModelSettings | None = None
) -> Summary:
    logs.set_up(loaded.config.log.level, loaded.config.log.format)
    daemon = Daemon(loaded, frames=frames, refused=refused, unusable=unusable)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda got, _: daemon.stop(f"stopped by {signal.Signals(got).name}"))
    signal.signal(signal.SIGHUP, lambda *_: daemon.reload("SIGHUP"))
    try:
        return daemon.run()
    except (ConfigError, AdapterError) as error:
        if daemon.started:  # it was good, and something broke later
            raise RuntimeError(str(error)) from error
        raise


def _last_good(path: Path, loaded: Loaded | None) -> Loaded | None:
    """Return the config that was in force last, where that is another one."""
    try:
        found = last_good.find(path)
    except (ConfigError, OSError) as error:
        log.error("the config that was in force last cannot be used either: %s", error)
        return None
    if found is None or (loaded is not None and loaded.text == found[0].text):
        return None
    return found[0]
