"""The database file: how it is opened, what SQLite's errors mean, and what a stored value must be."""

from __future__ import annotations

import errno
import logging
import shutil
import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from adapters.files.strict_json import loads
from agent.base.errors import StoreError
from agent.store.schema import lift, require_usable

log = logging.getLogger(__name__)

NAME = "mekiki.db"
"""In the data folder."""

_VACUUM_AT_START = 64_000_000
"""Bytes of a file that can be written anew at start without anybody waiting long: half a second."""

_LOOK_S = 1.0
_LOG_BYTES = 4_000_000
"""To which the write-ahead log is cut back after it had to be longer."""

_MAY_PASS = frozenset(
    {
        sqlite3.SQLITE_PERM, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_READONLY, sqlite3.SQLITE_INTERRUPT, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PROTOCOL, sqlite3.SQLITE_NOLFS, sqlite3.SQLITE_AUTH,
    }
)  # fmt: skip
"""What a disk or another program is at fault for; everything else lies in the file itself."""


_BUSY = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})
_NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT})

_PATIENCE_S = 1.0
"""For another program that has the database locked. Beyond it the publisher goes on with its other work and
tries again: it must notice the end of the agent in time."""
_PATIENCE_AT_START_S = 5.0


Row = tuple[Any, ...]


class DiskTrouble(StoreError):
    """The disk is full, read-only or failing. Nothing of the transaction was written; try it again later.

    Attributes:
        full: there was no space; only to give some back helps.
        busy: another program has the database locked.
    """

    def __init__(self, message: str, *, full: bool = False, busy: bool = False) -> None:
        self.full, self.busy = full, busy
        super().__init__(message)


class Damaged(StoreError):
    """The file is no good database any more; trying again does not help."""


@contextmanager
def ours(path: Path) -> Iterator[None]:
    """Raise what SQLite raises as `DiskTrouble` or `Damaged`; a mistake in a statement stays as it is."""
    try:
        yield
    except (sqlite3.ProgrammingError, sqlite3.InterfaceError):
        raise
    except sqlite3.DatabaseError as error:
        # The low byte is the kind, the rest says more.
        kind = (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF
        if kind in _MAY_PASS:
            raise DiskTrouble(
                f"{path}: {error}", full=kind == sqlite3.SQLITE_FULL, busy=kind in _BUSY
            ) from error
        raise Damaged(f"{path}: {error}") from error


@contextmanager
def on_disk(path: Path) -> Iterator[None]:
    """Raise what the operating system raises about files as `DiskTrouble`.

    Args:
        path: named where the error names no file.
    """
    try:
        yield
    except OSError as error:
        where = path if error.filename is None else error.filename
        what = f"{where}: {error.strerror or error}"
        raise DiskTrouble(what, full=error.errno in _NO_SPACE) from error


@contextmanager
def transaction(db: sqlite3.Connection, path: Path) -> Iterator[None]:
    """Everything inside, or nothing.

    Raises:
        DiskTrouble, Damaged: nothing.
    """
    # Disk full, read-only, I/O error: all may pass, and all leave the database as it was.
    with ours(path), db:
        db.execute("BEGIN IMMEDIATE")
        yield


def disk_free(path: Path) -> int:
    """Return how many bytes are free where the file lies.

    Raises:
        DiskTrouble: the disk cannot be asked.
    """
    with on_disk(path):
        return shutil.disk_usage(path.parent).free


def require_whole(db: sqlite3.Connection, path: Path) -> None:
    """Look for damage for a second at most; what is not found then is when it is met.

    Raises:
        Damaged: with what is wrong first.
    """
    until = time.monotonic() + _LOOK_S
    db.set_progress_handler(lambda: time.monotonic() > until, 10_000)
    try:
        with ours(path):
            found = " ".join(str(db.execute("PRAGMA quick_check(1)").fetchone()[0]).split())  # one line
    except DiskTrouble:  # interrupted
        return
    finally:
        db.set_progress_handler(None, 0)
    if found != "ok":
        raise Damaged(f"{path}: {found}")


def open_database(path: Path) -> sqlite3.Connection:
    """Open the file for writing, made or lifted to the present tables where needed.

    Raises:
        StoreError: a newer release has written it, and this one cannot use it.
        DiskTrouble, Damaged: it cannot be used.
    """
    with ours(path), on_disk(path):
        # Closed in order it has no log; a small one is looked at all the same.
        suspect = Path(f"{path}-wal").exists() or (path.exists() and path.stat().st_size <= _VACUUM_AT_START)
        db = sqlite3.connect(
            path, isolation_level=None, timeout=_PATIENCE_AT_START_S, check_same_thread=False
        )
        try:
            _set_up(db, path)
            if suspect:
                require_whole(db, path)
            db.execute(f"PRAGMA busy_timeout = {int(1000 * _PATIENCE_S)}")
        except BaseException:  # whatever it was, and raised again: nobody else knows of the file that is open
            db.close()
            raise
    return db


def open_to_read(path: Path) -> sqlite3.Connection:
    """Open the file to look at it, while an agent may be writing; changes nothing.

    Raises:
        StoreError: a newer release has written it, and this one cannot read it.
        DiskTrouble, Damaged: it cannot be used.
    """
    with ours(path):
        # Not `immutable`: the newest results may be in the write-ahead log still.
        uri = f"{path.absolute().as_uri()}?mode=ro"
        db = sqlite3.connect(uri, uri=True, isolation_level=None, timeout=5.0)
        try:
            require_usable(db, path)
        except BaseException:  # whatever it was, and raised again: nobody else knows of the file that is open
            db.close()
            raise
    return db


def used_bytes(db: sqlite3.Connection) -> tuple[int, int]:
    """Return how large the database is without its free pages, and how much these take."""
    size, pages, free = (
        int(db.execute(f"PRAGMA {name}").fetchone()[0])
        for name in ("page_size", "page_count", "freelist_count")
    )
    return size * (pages - free), size * free


def _set_up(db: sqlite3.Connection, path: Path) -> None:
    require_usable(db, path)  # before anything is changed
    if not path.exists() or path.stat().st_size == 0:
        # Only an empty file takes it at once; without it the file never shrinks.
        db.execute("PRAGMA auto_vacuum = INCREMENTAL")
    db.execute("PRAGMA journal_mode = WAL")
    # FULL: a commit that returned survives a power cut, not only a crash of the process.
    db.execute("PRAGMA synchronous = FULL")
    db.execute(f"PRAGMA journal_size_limit = {_LOG_BYTES}")
    lift(db)
    shrinks = int(db.execute("PRAGMA auto_vacuum").fetchone()[0])
    if not shrinks and path.stat().st_size <= _VACUUM_AT_START:
        try:
            make_shrinkable(db)
        except sqlite3.OperationalError as error:
            log.info("store: %s cannot give space back yet: %s", path, error)


def make_shrinkable(db: sqlite3.Connection) -> None:
    """Write the whole file anew so that it can give space back; takes as long again as its bytes do."""
    db.execute("PRAGMA auto_vacuum = INCREMENTAL")
    db.execute("VACUUM")


def sound(rows: Iterable[Row], kinds: str) -> list[Row]:
    """Return rows as they are.

    Args:
        rows: as the database gave them.
        kinds: of their values, in order: ``t`` a text, ``n`` a whole number.

    Raises:
        Damaged: one holds something else.
    """
    found = list(rows)
    for row in found:
        for value, kind in zip(row, kinds, strict=True):
            if not isinstance(value, str if kind == "t" else int):
                raise Damaged(f"{NAME}: {value!r:.60} is no {'text' if kind == 't' else 'number'}")
    return found


def sound_results(rows: Iterable[Row], kinds: str) -> list[Row]:
    """Return rows whose last value is a result's payload; see `sound`.

    Raises:
        Damaged: one cannot be read.
    """
    found = sound(rows, kinds)
    for row in found:
        try:
            loads(row[-1])
        except ValueError as error:
            raise Damaged(f"{NAME}: result {row[:-1]} cannot be read: {error}") from error
    return found


def as_texts(row: Sequence[Any]) -> Row:
    """Return a row of a damaged database with texts where bytes stand: there are no other bytes in it."""
    return tuple(value.decode("utf-8", "replace") if isinstance(value, bytes) else value for value in row)


def moment(text: str) -> datetime | None:
    """Return a stored time; None of what is none, in a database that was damaged."""
    try:
        found = datetime.fromisoformat(text)
    except (ValueError, TypeError):
        return None
    return None if found.tzinfo is None else found
