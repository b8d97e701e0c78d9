"""The data folder: one process has it, and whoever works on it by hand is the user that it belongs to."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import TextIO

from agent.base.errors import ConfigError, StoreError, UsageError


def lock_folder(folder: Path) -> TextIO:
    """Take the data folder for this process; the lock dies with it, also by kill -9.

    Raises:
        StoreError: another process has it, or it cannot be written or locked.
        ConfigError: a file is in the way.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = (folder / "lock").open("a")
    except (FileExistsError, NotADirectoryError) as error:
        raise no_folder(folder) from error
    except OSError as error:
        raise StoreError(
            f"{folder}: the data folder cannot be written: {error.strerror}: "
            "look whether its disk is there and has room, give its owner the right to write,"
            " or set agent.data_dir"
        ) from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        handle.close()
        raise StoreError(
            f"{folder}: another agent uses this data folder: stop it, or set agent.data_dir"
        ) from None
    except OSError as error:  # a network's file system without locks
        handle.close()
        raise StoreError(
            f"{folder}: the data folder cannot be locked: {error.strerror}: put it on a local disk"
        ) from error
    return handle


def no_folder(folder: Path) -> ConfigError:
    """Return what to say where a file stands in the way of the data: that does not pass by itself."""
    return ConfigError([f"{folder}: cannot be written: a file is in the way: set agent.data_dir to a folder"])


def in_use(folder: Path) -> bool:
    """Whether a process has the data folder; nothing is made, and what cannot be asked counts as free."""
    try:
        with (folder / "lock").open() as handle:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def require_owner(data: Path, command: str) -> None:
    """Keep root from leaving files that the service's user can neither change nor take away.

    Args:
        command: of `mekiki`, for the message.

    Raises:
        UsageError: names the user to be.
    """
    existing = next(path for path in (data, *data.absolute().parents) if path.exists())
    owner = existing.stat().st_uid
    if os.geteuid() == 0 and owner != 0:
        raise UsageError(f"{data}: belongs to user {owner}: sudo -u '#{owner}' mekiki {command} ...")
