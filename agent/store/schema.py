"""The tables of the database: the steps that made them, and which releases can use a file.

A file carries two numbers. ``PRAGMA user_version`` is the oldest schema whose releases can use the file: a
release that knows fewer steps than that refuses it. The table ``about``, which is there from the first
additive step on, holds how many steps the file has had, and the release that took the last one.

An additive step raises the second number alone, so that one can return to an older release: it uses the file
as it is and does not see what is new. Additive are new tables, new indexes that are not unique, and new
columns that may be NULL or have a default. Release 0.1.0 inserts into `verdict` and `numbering` without
naming columns: these two get none as long as anybody may return to it. Triggers and constraints are not
additive: they act on what an older release writes. A newer release must cope with rows that an older one
wrote.

Anything else is breaking. The release before the one that takes a breaking step must know that step already.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent import __version__
from agent.base.errors import StoreError


@dataclass(frozen=True, slots=True)
class MigrationStep:
    """One change of the tables.

    Attributes:
        script: statements, each ended by a semicolon.
        breaking: releases that do not know the step cannot use the file afterwards.
    """

    script: str
    breaking: bool = False


STEPS: tuple[MigrationStep, ...] = (
    MigrationStep(
        """
        CREATE TABLE verdict (
            station TEXT NOT NULL,
            seq INTEGER NOT NULL,
            event_id TEXT NOT NULL UNIQUE,
            decided_at TEXT NOT NULL,
            verdict TEXT NOT NULL,
            payload TEXT NOT NULL,
            PRIMARY KEY (station, seq)
        );
        CREATE TABLE outbox (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            station TEXT NOT NULL,
            seq INTEGER NOT NULL
        );
        CREATE INDEX outbox_station_seq ON outbox (station, seq);
        """,
        breaking=True,
    ),
    MigrationStep(
        """
        -- Numbers go on behind this one, also when every result of the station is gone.
        CREATE TABLE numbering (
            station TEXT NOT NULL PRIMARY KEY,
            last_seq INTEGER NOT NULL
        ) WITHOUT ROWID;
        CREATE TABLE label (
            event_id TEXT NOT NULL,
            user TEXT NOT NULL,
            station TEXT NOT NULL,
            seq INTEGER NOT NULL,
            label TEXT NOT NULL,
            at TEXT NOT NULL,
            PRIMARY KEY (event_id, user)
        ) WITHOUT ROWID;
        CREATE INDEX label_station_seq ON label (station, seq);
        CREATE TABLE image (
            event_id TEXT NOT NULL PRIMARY KEY,
            station TEXT NOT NULL,
            seq INTEGER NOT NULL,
            day TEXT NOT NULL,
            rank INTEGER NOT NULL,
            bytes INTEGER NOT NULL,
            doomed INTEGER NOT NULL DEFAULT 0
        ) WITHOUT ROWID;
        CREATE INDEX image_rank ON image (doomed, rank, event_id);
        CREATE INDEX image_station_seq ON image (station, seq);
        """,
        breaking=True,
    ),
)
"""Step n lifts a file from schema n - 1 to n. Never edit one that was released."""

_WITHOUT_ABOUT = 2
"""A file of this schema is as release 0.1.0 makes it, to the last table."""
_ABOUT = """
CREATE TABLE IF NOT EXISTS about (key TEXT NOT NULL PRIMARY KEY, value) WITHOUT ROWID;
INSERT INTO about VALUES ('schema', {schema}), ('release', '{release}')
    ON CONFLICT (key) DO UPDATE SET value = excluded.value;
"""


def require_usable(db: sqlite3.Connection, path: Path, steps: Sequence[MigrationStep] = STEPS) -> None:
    """Look whether this release knows enough steps to read and write a file; changes nothing.

    Raises:
        StoreError: it does not; names the release to install.
    """
    usable_by = _usable_by(db)
    if usable_by <= len(steps):
        return
    release = _about(db).get("release")
    writer = "" if release is None else f"release {release}, "
    raise StoreError(
        f"{path}: written by a newer version of the agent ({writer}schema {usable_by}); this is release"
        f" {__version__} (schema {len(steps)}): install that version again; the file is left as it is"
    )


def lift(db: sqlite3.Connection, steps: Sequence[MigrationStep] = STEPS) -> None:
    """Take the steps that a file has not had; each is taken as a whole, or not at all."""
    usable_by = _usable_by(db)
    schema = max(usable_by, _about(db).get("schema", 0))
    for number, step in enumerate(steps[schema:], start=schema + 1):
        usable_by = number if step.breaking else usable_by
        about = _ABOUT.format(schema=number, release=__version__) if number > _WITHOUT_ABOUT else ""
        db.executescript(f"BEGIN; {step.script} {about} PRAGMA user_version = {usable_by}; COMMIT;")


def _usable_by(db: sqlite3.Connection) -> int:
    return int(db.execute("PRAGMA user_version").fetchone()[0])


def _about(db: sqlite3.Connection) -> dict[str, Any]:
    if db.execute("SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'about'").fetchone() is None:
        return {}
    return dict(db.execute("SELECT key, value FROM about").fetchall())
