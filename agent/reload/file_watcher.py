"""Thread `config-watch`: notices that the config file was saved."""

from __future__ import annotations

import codecs
import hashlib
import logging
import threading
from collections.abc import Callable
from pathlib import Path

from watchfiles import watch
from watchfiles._rust_notify import WatchfilesRustInternalError

from agent.config.yaml_reader import MAX_BYTES

log = logging.getLogger(__name__)

_DEBOUNCE_MS = 300
_STEP_MS = 50
_LOOK_MS = 1000
_AGAIN_S = 5.0


class ConfigWatch:
    """Watches the file's folder: editors and deployments replace files and links rather than write to them.

    Args:
        path: of the config file.
        known: its content, as it was read last; None where another config is in force: then it is read again.
        on_change: called in the thread whenever the content has become another one.

    Attributes:
        problem: why saving is not noticed; None while it is.
    """

    def __init__(self, path: Path, known: str | None, on_change: Callable[[], None]) -> None:
        self.problem: str | None = None
        self._path = path.absolute()
        self._known = None if known is None else _digest(known.encode())
        self._on_change = on_change
        self._stop = threading.Event()

    def stop(self) -> None:
        """Let `run` end."""
        self._stop.set()

    def run(self) -> None:
        """Watch until `stop`."""
        while not self._stop.is_set():
            try:
                self._watch()
            # No such folder any more, or no watches left on this machine.
            except (OSError, WatchfilesRustInternalError) as error:
                if self.problem is None:
                    log.warning("%s: saving is not noticed: %s", self._path, error)
                self.problem = f"saving {self._path} is not noticed: {error}; SIGHUP has it read again"
            self._stop.wait(_AGAIN_S)

    def _watch(self) -> None:
        seen = watch(
            self._path.parent,
            watch_filter=None,
            debounce=_DEBOUNCE_MS,
            step=_STEP_MS,
            stop_event=self._stop,
            recursive=False,
            yield_on_timeout=True,
            rust_timeout=_LOOK_MS,  # also where a file system tells nothing
            raise_interrupt=False,
        )
        for _ in seen:
            self.problem = None
            self._look()

    def _look(self) -> None:
        try:
            with self._path.open("rb") as file:
                content = _digest(file.read(MAX_BYTES + 1))  # a larger one is refused, whatever it says
        except FileNotFoundError:
            return  # between two steps of an editor; one that is deleted for good changes nothing
        if content != self._known:
            self._known = content
            self._on_change()


def _digest(content: bytes) -> bytes:
    """Return what tells two contents apart; how an editor marks the encoding and ends lines does not."""
    text = content.removeprefix(codecs.BOM_UTF8).replace(b"\r\n", b"\n")
    return hashlib.sha256(text).digest()
