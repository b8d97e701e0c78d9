"""What was known of the time, in the data folder; and which results were decided while it was not known."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

from adapters.files.atomic_file import write_durably
from adapters.files.strict_json import loads
from agent.base.codec import timestamp
from agent.clock.trusted_time import ClockReading, Doubt, TrustedTime, read_clocks, step

log = logging.getLogger(__name__)

_FILE = "clock.json"
_WRITE_EVERY = timedelta(minutes=10)
_MOST_DOUBTS = 1000
_NEWEST = 2**62
_LAST_YEAR = 9000
_MOST_S = 1e11


class TimeBook:
    """Owns the file; the publisher's thread alone uses it. It keeps the newest 1000 doubts.

    Where the file is lost or cannot be read, the newest result says what time it was at least.

    Args:
        folder: the data folder.
        numbers: station -> number of its newest result.
        newest: when the newest result says that it was decided; None without one.
        clocks: returns what the machine's clocks say.
    """

    def __init__(
        self,
        folder: Path,
        numbers: Mapping[str, int],
        newest: datetime | None,
        clocks: Callable[[], ClockReading] = read_clocks,
    ) -> None:
        self._file = folder / _FILE
        self._clocks = clocks
        self._last = dict(numbers)  # at the last look
        self._began = dict(numbers)  # when the machine was started, or at the first look
        self._open: dict[str, int] | None = None  # all behind these numbers is in doubt
        self._closed: list[Doubt] = []  # the newest first
        self._known = TrustedTime(newest, clocks().up_s)
        self._written: datetime | None = None
        self._read()

    def look(self, numbers: Mapping[str, int]) -> datetime:
        """Look at the clocks, and return the time to count ages by.

        Args:
            numbers: station -> number of its newest result.
        """
        reading, was_trusted = self._clocks(), self._known.trusted
        if reading.up_s < self._known.up_s:  # the machine was started anew
            self._began = dict(self._last)
        self._known, believed = step(self._known, reading)
        now = self._known.now(reading)
        if believed:
            # What was decided since the machine was started has the times of a clock that was wrong.
            self._close(self._began, numbers, now)
            log.info("clock: %s is believed from here on", timestamp(reading.wall))
        elif self._known.trusted and self._open is not None:
            self._close(self._open, numbers, now)
            log.info("clock: is right again")
        elif not self._known.trusted and self._open is None:
            self._open = dict(self._last)
            log.warning("clock: %s is not believed yet: nothing is deleted by it", timestamp(reading.wall))
        self._last = dict(numbers)
        changed = believed or was_trusted is not self._known.trusted
        if changed or self._written is None or abs(now - self._written) >= _WRITE_EVERY:
            self.write()
            self._written = now
        return now

    def doubts(self, station: str) -> list[Doubt]:
        """Return which results of a station do not have the time at which they were decided."""
        found = [doubt for doubt in self._closed if doubt.station == station]
        if self._open is not None:
            found.insert(0, Doubt(station, self._open.get(station, 0) + 1, _NEWEST, None))
        return found

    def write(self) -> None:
        """Write what is known; where that cannot be, it goes on in memory."""
        known = self._known
        content = {
            "at": None if known.at is None else timestamp(known.at),
            "up_s": known.up_s,
            "off_s": known.off_s,
            "trusted": known.trusted,
            "began": self._began,
            "open": self._open,
            "doubts": [[d.station, d.first, d.last, d.at and timestamp(d.at)] for d in self._closed],
        }
        try:
            write_durably(self._file, json.dumps(content, allow_nan=False).encode())
        except OSError as error:  # no reason not to inspect
            log.warning("%s: cannot be written: %s", self._file, error.strerror or error)

    def _close(self, behind: Mapping[str, int], numbers: Mapping[str, int], at: datetime) -> None:
        """Note that all behind these numbers had been decided by then."""
        new = [
            Doubt(station, behind.get(station, 0) + 1, last, at)
            for station, last in numbers.items()
            if last > behind.get(station, 0)
        ]
        self._closed = [*new, *self._closed][:_MOST_DOUBTS]
        self._open = None

    def _read(self) -> None:
        try:
            said = loads(self._file.read_bytes())
            at = None if said["at"] is None else _moment(said["at"])
            up_s, off_s = (_seconds(said[name]) for name in ("up_s", "off_s"))
            known = TrustedTime(at, up_s, off_s, said["trusted"] is True)
            began, opened = _numbers(said["began"]), said["open"]
            opened = None if opened is None else _numbers(opened)
            closed = [
                Doubt(str(station), int(first), int(last), _moment(at))
                for station, first, last, at, *_ in said["doubts"]  # a newer release may say more
            ]
        except FileNotFoundError:
            return
        except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
            log.warning("%s: cannot be read, the newest result says what time it was: %s", self._file, error)
            return
        self._known, self._began, self._open, self._closed = known, began, opened, closed


def _moment(text: str) -> datetime:
    found = datetime.fromisoformat(text).astimezone(UTC)
    if found.year > _LAST_YEAR:  # time goes on from it
        raise ValueError(f"{text} is too late")
    return found


def _seconds(said: float) -> float:
    if not abs(seconds := float(said)) < _MOST_S:
        raise ValueError(f"{seconds} s are too many")
    return seconds


def _numbers(said: Mapping[str, object]) -> dict[str, int]:
    return {str(station): int(str(last)) for station, last in said.items()}
