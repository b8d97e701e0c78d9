"""The config that was in force last, kept with the data: what a start with a broken file falls back to.

Also kept in $STATE_DIRECTORY, which systemd sets: the disk with the data may not be mounted at a start, and
that a config was in force must be known then too.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from adapters.files.atomic_file import write_durably
from agent.base.codec import timestamp
from agent.base.errors import ConfigError, UsageError
from agent.config import yaml_reader, yaml_tree
from agent.config.absent import whatever_is_spared
from agent.config.loader import Loaded, load_text, read_text
from agent.config.models import AgentSettings

_FOLDER = "last_good"


def keep(loaded: Loaded) -> None:
    """Keep the file of `loaded` as it was read; with its literal secrets, so for its owner's eyes only.

    Raises:
        OSError: a folder cannot be written.
    """
    failed = None
    for folder in dict.fromkeys((Path(loaded.config.agent.data_dir), *_state())):
        try:
            _keep(_file(folder, loaded.path), loaded.text.encode())
        except OSError as error:
            failed = failed or error
    if failed is not None:
        raise failed


def find(path: Path) -> tuple[Loaded, str] | None:
    """Return the config that was in force last for the config file at `path`, and since when; None without.

    Where the data folder is says the file itself, as far as it can be read; then $STATE_DIRECTORY, which
    systemd sets, and the default.

    What it names and is missing now is excused where inspection can do without it.

    Raises:
        ConfigError: what was kept cannot be used any more either.
        OSError: the folder cannot be looked at.
    """
    for folder in _folders(path):
        file = _file(folder, path)
        if file.is_file():
            since = timestamp(datetime.fromtimestamp(file.stat().st_mtime, UTC))
            loaded = load_text(read_text(file), path, whatever_is_spared)
            return loaded, since
    return None


def last_of(loaded: Loaded) -> Loaded:
    """Return the config that was in force last for the file of `loaded`.

    Raises:
        UsageError: none was in force yet, or this release refuses it.
    """
    try:
        found = find(loaded.path)
    except ConfigError as error:  # this release refuses what an older one took
        why = f"{loaded.path}: what was in force last cannot be read any more: {error.problems[0]}"
        raise UsageError(why) from error
    if found is None:
        raise UsageError(f"{loaded.path}: no agent has run with it yet: there is nothing to compare with")
    return found[0]


def _keep(file: Path, content: bytes) -> None:
    file.parent.mkdir(mode=0o700, exist_ok=True)
    if not file.exists() or file.read_bytes() != content:
        write_durably(file, content, mode=0o600)


def _file(data: Path, config: Path) -> Path:
    # One for each config file: another one's would be another line's.
    name = hashlib.sha256(os.fsencode(config.absolute())).hexdigest()[:16]
    return data / _FOLDER / f"{name}.yaml"


def _folders(path: Path) -> Iterator[Path]:
    here = path.absolute().parent
    try:
        tree, _ = yaml_reader.parse(read_text(path))
        written = tree.get(("agent", "data_dir"))
    except (ConfigError, yaml_tree.YamlError):
        written = None
    if written is not None and isinstance(written.value, str) and "\0" not in written.value:
        yield here / written.value
    yield from _state()
    yield here / AgentSettings().data_dir


def _state() -> list[Path]:
    state = os.environ.get("STATE_DIRECTORY")
    return [Path(state.split(":")[0])] if state else []
