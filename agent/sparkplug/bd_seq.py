"""The birth and death number of Sparkplug: one more with every connection, also after a restart."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

from adapters.files.atomic_file import write_durably
from adapters.files.strict_json import loads
from agent.sparkplug.edge_node import NUMBERS

log = logging.getLogger(__name__)

_FILE = "sparkplug.json"


class BdSeq:
    """Owns the file; the session's thread alone uses it.

    A number is on disk before a broker hears it. Where the disk does not take it, the numbers go on in
    memory: a host can then see one twice, after a restart.

    Args:
        folder: the data folder.
        descriptor: of the edge node; another one starts at 0.
    """

    def __init__(self, folder: Path, descriptor: str) -> None:
        self._file = folder / _FILE
        self._descriptor = descriptor
        self._kept: dict[str, Any] = {}  # what a newer release keeps there besides
        self._last = self._read()

    def next(self) -> int:
        """Return the number of the next connection, 0..255."""
        self._last = (self._last + 1) % NUMBERS
        try:
            kept = {**self._kept, "edge_node": self._descriptor, "bdSeq": self._last}
            content = json.dumps(kept, allow_nan=False)
            write_durably(self._file, content.encode())
        except OSError as error:  # no reason not to tell
            log.warning("%s: cannot be written: %s", self._file, error.strerror or error)
        return self._last

    def _read(self) -> int:
        try:
            found = loads(self._file.read_text("utf-8"))
            last = int(found["bdSeq"]) if found["edge_node"] == self._descriptor else -1
            self._kept = dict(found)
            return last
        except FileNotFoundError:
            return -1
        except (OSError, ValueError, KeyError, TypeError, OverflowError) as error:
            log.warning("%s: cannot be read, numbers start at 0: %s", self._file, error)
            return -1
