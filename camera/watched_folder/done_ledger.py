"""Which files of a watched folder are done, where they cannot be moved: a file that survives a power cut."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from camera.core.frame import CameraError
from camera.watched_folder.arrivals import Sight

SCHEMA: Final = "mekiki.folder.v1"
_SLACK: Final = 1000
"""Lines of files that are gone, beyond as many as there are files, before the ledger is written anew."""


@dataclass(frozen=True, slots=True)
class DoneFile:
    """A file that was inspected.

    Attributes:
        sight: as it was then; a file that has changed since is a new one.
        failed: it could not be read.
    """

    sight: Sight
    failed: bool = False


class DoneLedger:
    """Owns the file: a header, then one line of JSON for each file that is done. Used by one thread.

    A line is on the disk when `add` returns, or it waits in memory and `problem` says why.

    Args:
        file: where; None keeps it in memory alone.
        folder: whose files these are, for people.

    Attributes:
        problem: why the last lines are not on the disk, without a full stop; None where they are.

    Raises:
        CameraError: a newer release has written it, or it cannot be read.
    """

    def __init__(self, file: Path | None, folder: Path) -> None:
        self.problem: str | None = None
        self._file, self._folder = file, folder
        self._done: dict[str, DoneFile] = {}
        self._unsaved: list[bytes] = []
        self._lines = 0
        self._torn = False  # the last line has no end
        if file is not None:
            self._read(file)

    def __len__(self) -> int:
        return len(self._done)

    def get(self, name: str) -> DoneFile | None:
        """Return what is known of a file; None where it is not done."""
        return self._done.get(name)

    def add(self, files: Mapping[str, DoneFile]) -> None:
        """Note that files are done."""
        self._done |= files
        if self._file is not None:
            self._unsaved += [_line(name, done) for name, done in files.items()]
            self.save()

    def drop(self, names: Iterable[str]) -> None:
        """Forget files that are gone; on the disk not at once, since that costs nothing but a longer file."""
        for name in names:
            self._done.pop(name, None)
        if self._file is not None and self._lines > 2 * len(self._done) + _SLACK:
            self._rewrite(self._file)

    def keep_only(self, names: Collection[str]) -> None:
        """Forget all files but these."""
        self.drop([name for name in self._done if name not in names])

    def save(self) -> None:
        """Write what waits."""
        if self._file is None or not self._unsaved:
            return
        try:
            if not self._lines:
                self._file.parent.mkdir(parents=True, exist_ok=True)
            self._append(self._file)
        except OSError as error:
            self._torn = True  # as far as anybody knows
            self.problem = (
                f"{self._file}: which files are done cannot be kept: {error.strerror or error}: make room, or"
                " give the agent's user the right to write there; until then a restart judges them again"
            )
            return
        self.problem = None

    def _append(self, file: Path) -> None:
        begin = b"\n" if self._torn else b""
        head = [] if self._lines else [_header(self._folder)]
        lines = [*head, *self._unsaved]
        with file.open("ab") as handle:
            handle.write(begin + b"".join(lines))
            handle.flush()
            os.fsync(handle.fileno())
        if not self._lines:
            _flush_folder(file.parent)
        self._lines += len(lines)
        self._unsaved.clear()
        self._torn = False

    def _rewrite(self, file: Path) -> None:
        """Replace the file by one without what is gone."""
        lines = [_header(self._folder), *(_line(name, done) for name, done in self._done.items())]
        new = file.with_name(f".{file.name}.new")
        try:
            with new.open("wb") as handle:
                handle.write(b"".join(lines))
                handle.flush()
                os.fsync(handle.fileno())
            new.replace(file)
            _flush_folder(file.parent)
        except OSError as error:  # the old one is as good, only longer
            self.problem = f"{file}: cannot be written anew: {error.strerror or error}: make room"
            return
        self._lines, self._torn, self.problem = len(lines), False, None
        self._unsaved.clear()

    def _read(self, file: Path) -> None:
        try:
            content = file.read_bytes()
        except FileNotFoundError:
            return
        except OSError as error:
            raise CameraError(
                f"{file}: which files are done cannot be read: {error.strerror or error}: give the agent's"
                " user the right to read it, or move it away: then all files are judged again"
            ) from error
        lines = content.split(b"\n")
        self._torn = bool(lines.pop())  # a power cut in the middle of a line
        self._lines = len(lines)
        for line in lines:
            self._take(file, line)

    def _take(self, file: Path, line: bytes) -> None:
        """Take one line over; what is damaged names no file, which is then judged again."""
        try:
            found = json.loads(line, parse_constant=_no_number)
        except (ValueError, RecursionError):
            return
        match found:
            case {"schema": str(schema)} if schema != SCHEMA:
                raise CameraError(
                    f"{file}: written by a newer version of the agent ({schema}): install that version again,"
                    " or move the file away: then all files are judged again"
                )
            case [str(name), int(size), int(mtime_ns), bool(failed), *_]:
                self._done[name] = DoneFile(Sight(size, mtime_ns), failed)


def _header(folder: Path) -> bytes:
    return json.dumps({"schema": SCHEMA, "folder": str(folder)}, allow_nan=False).encode() + b"\n"


def _line(name: str, done: DoneFile) -> bytes:
    # In ASCII: a name that is no UTF-8 comes back as it was.
    fields = [name, done.sight.size, done.sight.mtime_ns, done.failed]
    return json.dumps(fields, allow_nan=False).encode() + b"\n"


def _no_number(constant: str) -> None:
    raise ValueError(f"{constant} is no number")


def _flush_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
