"""How the last run of the agent ended: a file in the data folder that says "runs" until it says why not."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from pathlib import Path

from adapters.files.atomic_file import write_durably
from adapters.files.strict_json import loads
from agent.base.codec import timestamp
from agent.domain.exit_reason import LastExit

log = logging.getLogger(__name__)

_FILE = "last_run.json"


class RunRecord:
    """Owns the file; used by the main thread, by the owner of the data folder alone.

    Args:
        folder: the data folder.
    """

    def __init__(self, folder: Path) -> None:
        self._file = folder / _FILE
        self._before: bytes | None = None

    def begin(self) -> LastExit | None:
        """Say that a run begins; return how the one before it ended, None where there was none."""
        last = self._last()
        if last is not None and not last.orderly:
            log.warning("the last run: %s (%s)", last.reason, last.at)
        self._write({"began_at": _now(), "ended_at": None, "reason": None, "orderly": False})
        return last

    def take_back(self, reason: str) -> None:
        """Say that this run never began: how the one before it ended, if one did, is still to be told."""
        if self._before is None:
            self.end(reason, orderly=False)
        else:
            self._put(self._before)

    def end(self, reason: str, *, orderly: bool) -> None:
        """Say that this run ends, and why."""
        self._write({"began_at": None, "ended_at": _now(), "reason": reason, "orderly": orderly})

    def _last(self) -> LastExit | None:
        try:
            self._before = self._file.read_bytes()
            found = loads(self._before)
            if found["ended_at"] is None:
                why = "killed, or the machine went down, in a run that had begun then"
                return LastExit(str(found["began_at"]), why, orderly=False)
            return LastExit(str(found["ended_at"]), str(found["reason"]), bool(found["orderly"]))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            return LastExit(_now(), f"not known, {self._file} cannot be read: {error}", orderly=False)

    def _write(self, fields: dict[str, object]) -> None:
        self._put(json.dumps(fields, allow_nan=False).encode())

    def _put(self, content: bytes) -> None:
        try:
            write_durably(self._file, content)
        except OSError as error:  # no reason not to inspect
            log.warning("%s: cannot be written: %s", self._file, error.strerror or error)


def _now() -> str:
    return timestamp(datetime.now(UTC))
