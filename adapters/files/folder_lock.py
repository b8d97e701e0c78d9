"""Keeps two programs from writing into one folder at the same time."""

from __future__ import annotations

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_LOCK = "lock"
_PATIENCE_S = 5.0


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other writers out of the folder; the lock of a killed program goes with it.

    Raises:
        TimeoutError: another program has been writing for five seconds.
        OSError: the folder cannot be written.
    """
    with (folder / _LOCK).open("a") as handle:
        until = time.monotonic() + _PATIENCE_S
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > until:
                    raise TimeoutError(
                        f"{folder}: another program has been writing for {_PATIENCE_S:.0f} s"
                    ) from None
                time.sleep(0.01)
        yield
