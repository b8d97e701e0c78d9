"""What becomes of the files of a watched folder whose results are stored: put away, or remembered."""

from __future__ import annotations

import hashlib
import logging
import os
from pathlib import Path
from typing import Final, Literal

from camera.watched_folder.arrivals import Arrival, Sight, sight_of
from camera.watched_folder.done_ledger import DoneFile, DoneLedger
from camera.watched_folder.presence import Presence
from camera.watched_folder.put_away import PutAway

_AGAIN_S: Final = 10.0
_MOST_AGAIN: Final = 100

log = logging.getLogger(__name__)


class Finished:
    """Moves, deletes or marks what is done. What cannot be moved is marked, and tried again every 10 s.

    Used by one thread.

    Args:
        folder: the watched one.
        presence: of it.
        when_done: what is to be done with a file.
        keep: a folder of our own for the marks. None: they are in memory alone, and no file is touched.

    Attributes:
        trouble: what is wrong, without a full stop; None where nothing is.

    Raises:
        CameraError: the marks cannot be read, or a newer release has written them.
    """

    def __init__(
        self,
        folder: Path,
        presence: Presence,
        when_done: Literal["move", "mark", "delete"],
        keep: Path | None,
    ) -> None:
        self.trouble: str | None = None
        self._folder, self._presence = folder, presence
        self._put_away = None if keep is None or when_done == "mark" else PutAway(folder, when_done)
        self._ledger = DoneLedger(None if keep is None else keep / _ledger_name(folder), folder)
        self._stuck: dict[str, Arrival] = {}  # done, and cannot be put away now
        self._still: set[str] = set()  # of the ledger, found by this scan
        self._again_at = 0.0

    def begin_scan(self) -> None:
        """Get ready to be asked about all files that are there."""
        self._still.clear()

    def known(self, name: str, sight: Sight) -> bool:
        """Whether a file that is there is done."""
        done = self._ledger.get(name)
        if done is None:
            return False
        self._still.add(name)
        if done.sight != sight:
            return False
        if self._put_away is not None:  # of this run, or of one before
            self._stuck.setdefault(name, Arrival(name, sight))
        return True

    def end_scan(self) -> None:
        """Forget the files that are gone, after a scan that saw all that are there."""
        # Where not one is left, an empty folder may only look like ours: a share that is not mounted.
        if self._still and len(self._still) < len(self._ledger):
            self._ledger.keep_only(self._still)

    def add(self, files: dict[Arrival, DoneFile]) -> None:
        """Put files away whose results are stored, and remember those that stay."""
        stay = {one.name: done for one, done in files.items() if not self._away(one, done)}
        if stay:
            self._ledger.add(stay)

    def turn(self, now_s: float) -> None:
        """Try again what could not be done, where it is time, and say what changed."""
        if now_s >= self._again_at:
            self._again_at = now_s + _AGAIN_S
            self._ledger.save()
            self._try_again()
        if not self._stuck or self.trouble is None:
            self._tell(self._ledger.problem)

    def _try_again(self) -> None:
        """Put away what could not be, until the first that still cannot."""
        for name in list(self._stuck)[:_MOST_AGAIN]:
            arrival = self._stuck.pop(name)
            if not self._away(arrival, self._ledger.get(name) or DoneFile(arrival.sight)):
                return
            self._ledger.drop([name])

    def _away(self, arrival: Arrival, done: DoneFile) -> bool:
        """Put a file away; False where it stays, and has to be remembered."""
        if self._put_away is None:
            return False
        path = self._folder / arrival.name
        try:
            if sight_of(path) == arrival.sight:
                self._put_away(arrival.name, failed=done.failed)
            return True  # otherwise it is another one by now, which is inspected in its turn
        except OSError as error:
            there = self._presence.problem() is None
            if isinstance(error, FileNotFoundError) and there:
                log.debug("camera: %r below %s is gone", arrival.name, self._folder)
                return True
            self._stuck[arrival.name] = arrival
            if self.trouble is None and there:
                self._tell(_stays(path, self._put_away.target(arrival.name, failed=done.failed), error))
            return False

    def _tell(self, trouble: str | None) -> None:
        if trouble == self.trouble:
            return
        if trouble is None:
            log.info("camera: %s: what is inspected is put away again", self._folder)
        else:
            log.warning("camera: %s", trouble)
        self.trouble = trouble


def _ledger_name(folder: Path) -> str:
    """Return the ledger's name: a station whose path is changed has another one, and may return."""
    return f"{hashlib.sha256(os.fsencode(folder.absolute())).hexdigest()[:16]}.jsonl"


def _stays(path: Path, target: Path, error: OSError) -> str:
    return (
        f"{str(path)!r} is inspected and cannot be put away ({str(target)!r}): {error.strerror or error}:"
        " give the agent's user the right to write there (a service also needs ReadWritePaths), make room,"
        " or set watch.when_done: mark; until then such files stay, and are not inspected again"
    )
