"""`mekiki run`: the agent in the foreground, and what to do when its config file is broken."""

from __future__ import annotations

import logging
import signal
from pathlib import Path

from adapters.core.adapter import AdapterError
from adapters.engines.factory import ModelSettings
from agent.app.daemon import Daemon
from agent.app.run_summary import Summary
from agent.base import logs
from agent.base.errors import AgentError, ConfigError, NotNow, StoreError
from agent.config.absent import Excuse, whatever_is_spared
from agent.config.loader import Loaded, load
from agent.reload import last_known_good

log = logging.getLogger(__name__)


def run(path: Path, *, frames: int | None = None, strict: bool = False) -> Summary:
    """Inspect until somebody stops it.

    A config that cannot be used does not stop a line: the one that was in force last is, and health says so.
    Nor does what a config names and cannot be had now, where it was in force before and inspection can do
    without: a folder of pictures, a certificate, a password.

    Args:
        path: of the config file.
        frames: end after so many.
        strict: rather not start than with another config than the file.

    Raises:
        ConfigError, AdapterError: the file, or a model that it names, is no good, and there is no other.
        NotNow: so it is, and it was good when it was in force last: it may be so again.
        StoreError: the data folder cannot be used now, and it is that of the config that was in force last.
    """
    try:
        good, before = _last_good(path), True
    except LookupError:
        good, before = None, False
    excuse = whatever_is_spared if good is None else good.unchanged
    loaded = None
    try:
        loaded = load(path, excuse)
        _require_a_camera(loaded, before=before)
        return _run(loaded, frames, (), proven=good is not None and loaded.text == good.text)
    except (ConfigError, AdapterError, StoreError) as error:
        if isinstance(error, StoreError) and not _moved(loaded, good):
            raise
        problems = _problems(error, loaded)
        edited = loaded is None or good is None or loaded.text != good.text
        if before and (good is None or not edited):
            raise NotNow(problems) from error
        if strict or good is None:
            raise
        unusable = loaded.config.model if loaded is not None and isinstance(error, AdapterError) else None
    logs.set_up(good.config.log.level, good.config.log.format)
    for line in problems:
        log.error("config refused: %s", line)
    log.error("config: starting with the one that was in force last")
    try:
        return _run(good, frames, problems, proven=True, unusable=unusable)
    except (ConfigError, AdapterError) as error:
        raise NotNow((*problems, f"the config that was in force last: {error}")) from error


def excused(path: Path) -> Excuse:
    """Return what may be missing of the things that the config at `path` names, as `run` reads it."""
    try:
        good = _last_good(path)
    except LookupError:
        good = None
    return whatever_is_spared if good is None else good.unchanged


def _run(
    loaded: Loaded,
    frames: int | None,
    refused: tuple[str, ...],
    *,
    proven: bool,
    unusable: ModelSettings | None = None,
) -> Summary:
    logs.set_up(loaded.config.log.level, loaded.config.log.format)
    for one in loaded.absent:
        log.error("%s; what needs it waits, it is looked for again", one.what)
    daemon = Daemon(loaded, frames=frames, refused=refused, proven=proven, unusable=unusable)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda got, _: daemon.stop(f"stopped by {signal.Signals(got).name}"))
    signal.signal(signal.SIGHUP, lambda *_: daemon.reload("SIGHUP"))
    try:
        return daemon.run()
    except (AgentError, AdapterError, OSError) as error:
        if daemon.started:  # it could begin, and something broke later: whatever it is, it is unexpected
            raise RuntimeError(f"the agent had begun, and ended with {type(error).__name__}") from error
        raise


def _moved(loaded: Loaded | None, good: Loaded | None) -> bool:
    """Whether the file names another data folder than the config that was in force last."""
    if loaded is None or good is None:
        return False
    return loaded.config.agent.data_dir != good.config.agent.data_dir


def _problems(error: ConfigError | AdapterError | StoreError, loaded: Loaded | None) -> tuple[str, ...]:
    if isinstance(error, StoreError) and loaded is not None:
        return (loaded.problem(("agent", "data_dir"), str(error)),)
    return error.problems if isinstance(error, AgentError) else (f"model: {error}",)


def _require_a_camera(loaded: Loaded, *, before: bool) -> None:
    """Raise ConfigError where a config that was never in force names no camera that is there."""
    enabled = [name for name, station in loaded.config.stations.items() if station.enabled]
    lacking = [loaded.lacking("stations", name, "camera") for name in enabled]
    if not before and None not in lacking:
        raise ConfigError([one.what for one in lacking if one is not None])


def _last_good(path: Path) -> Loaded | None:
    """Return the config that was in force last; None where it cannot be used now.

    Raises:
        LookupError: none was.
    """
    try:
        found = last_known_good.find(path)
    except (ConfigError, OSError) as error:
        log.error("the config that was in force last cannot be used either: %s", error)
        return None
    if found is None:
        raise LookupError(path)
    return found[0]
