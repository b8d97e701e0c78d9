"""Is what is stored whole, and do database, pictures and labels agree? Looks only; an agent may run."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from adapters.files.strict_json import loads
from agent.store.database import NAME, as_texts, open_to_read, ours, used_bytes
from agent.store.image_files import ImageFiles

_MANY = 20
"""Lines of one kind; what is more is counted."""


@dataclass(frozen=True, slots=True)
class Found:
    """What a look at a store has found.

    Attributes:
        facts: one line each, of what is there.
        problems: one line each; empty where all is well.
    """

    facts: tuple[str, ...]
    problems: tuple[str, ...]


def check(data: Path) -> Found:
    """Look at everything in a data folder; takes as long as reading it does.

    Raises:
        DiskTrouble, Damaged: the database cannot be read at all.
    """
    path = data / NAME
    with closing(open_to_read(path)) as db, ours(path):
        # One moment of the database for all that is asked of it; whoever writes is not held up.
        db.execute("BEGIN")
        broken = [" ".join(str(row[0]).split()) for row in db.execute(f"PRAGMA integrity_check({_MANY})")]
        if broken != ["ok"]:
            return Found((), tuple(f"{path}: {line}" for line in broken))
        problems = [*_relations(db), *_gaps(db), *_payloads(db)]
        facts = _facts(db, data)
        db.execute("ROLLBACK")
        problems += _pictures(db, ImageFiles(data))
    return Found(tuple(facts), tuple(problems))


def _relations(db: sqlite3.Connection) -> Iterator[str]:
    questions = {
        "waits for delivery and is not stored": (
            "SELECT station, seq FROM outbox o WHERE NOT EXISTS"
            " (SELECT 1 FROM verdict v WHERE v.station = o.station AND v.seq = o.seq)"
        ),
        "has a label and is not stored": (
            "SELECT station, seq FROM label l WHERE NOT EXISTS (SELECT 1 FROM verdict v"
            " WHERE v.event_id = l.event_id AND v.station = l.station AND v.seq = l.seq)"
        ),
        "has a picture and is not stored": (
            "SELECT station, seq FROM image i WHERE doomed = 0 AND NOT EXISTS (SELECT 1 FROM verdict v"
            " WHERE v.event_id = i.event_id AND v.station = i.station AND v.seq = i.seq)"
        ),
        "has bytes in the place of a text": (
            "SELECT station, seq FROM verdict WHERE 'blob' IN"
            " (typeof(station), typeof(event_id), typeof(decided_at), typeof(verdict), typeof(payload))"
        ),
        "has bytes in the place of a text of its picture": (
            "SELECT station, seq FROM image WHERE 'blob' IN (typeof(station), typeof(event_id), typeof(day))"
        ),
        "is numbered beyond what was given out": (
            "SELECT v.station, MAX(v.seq) FROM verdict v JOIN numbering n USING (station)"
            " GROUP BY v.station HAVING MAX(v.seq) > n.last_seq"
        ),
    }
    for what, query in questions.items():
        yield from _few(f"{station} {seq}: {what}" for station, seq in db.execute(query))


def _gaps(db: sqlite3.Connection) -> Iterator[str]:
    rows = db.execute(
        "SELECT station, seq, next FROM (SELECT station, seq,"
        " LEAD(seq) OVER (PARTITION BY station ORDER BY seq) AS next FROM verdict) WHERE next > seq + 1"
    )
    yield from _few(f"{station}: {seq + 1} to {after - 1} are missing" for station, seq, after in rows)


def _payloads(db: sqlite3.Connection) -> Iterator[str]:
    def wrong() -> Iterator[str]:
        for station, seq, event_id, verdict, payload in db.execute(
            "SELECT station, seq, event_id, verdict, payload FROM verdict"
        ):
            try:
                said = loads(payload)
                same = (said["station"], said["seq"], said["event_id"], said["verdict"])
            except (ValueError, KeyError, TypeError) as error:
                yield f"{station} {seq}: its payload cannot be read: {error!r}"
                continue
            if same != (station, seq, event_id, verdict):
                yield f"{station} {seq}: its payload says {same}"

    yield from _few(wrong())


def _pictures(db: sqlite3.Connection, files: ImageFiles) -> Iterator[str]:
    """Hold rows against files; what an agent was doing just now is asked for again."""
    rows = {
        event_id: (station, day, size)
        for event_id, station, day, size in map(
            as_texts, db.execute("SELECT event_id, station, day, bytes FROM image WHERE doomed = 0")
        )
    }
    there = {path.stem: path for path in files.settled()}
    staged = {picture.event_id for picture in files.staged()}

    def wrong() -> Iterator[str]:
        for event_id, (station, day, size) in rows.items():
            place = files.place(station, day, event_id)
            try:
                found = files.size(place)
            except FileNotFoundError:
                if event_id not in staged and _doomed(db, event_id) is False:
                    yield f"{place}: is not there"
                continue
            if found != size:
                yield f"{place}: has {found} bytes, not {size}"
        for event_id, path in there.items():
            if event_id not in rows and _doomed(db, event_id) is None and path.exists():
                yield f"{path}: no result has this picture"
        for path in files.lonely_maps():
            if path in set(files.lonely_maps()):  # an agent may have been settling it
                yield f"{path}: its picture is not there"

    yield from _few(wrong())


def _doomed(db: sqlite3.Connection, event_id: str) -> bool | None:
    """Return whether a picture is to go; None where it is not recorded."""
    row = db.execute("SELECT doomed FROM image WHERE event_id = ?", (event_id,)).fetchone()
    return None if row is None else row[0] == 1


def _facts(db: sqlite3.Connection, data: Path) -> Iterator[str]:
    used, free = used_bytes(db)
    images, image_bytes = db.execute("SELECT COUNT(*), IFNULL(SUM(bytes), 0) FROM image").fetchone()
    (labels,) = db.execute("SELECT COUNT(*) FROM label").fetchone()
    (waiting,) = db.execute("SELECT COUNT(*) FROM outbox").fetchone()
    facts = [f"database {used / 1e6:.1f} MB, and {free / 1e6:.1f} MB free in it"]
    facts += [
        f"{station}: {count} results, {first} to {last}, since {since}"
        for station, count, first, last, since in db.execute(
            "SELECT station, COUNT(*), MIN(seq), MAX(seq), MIN(decided_at) FROM verdict GROUP BY station"
        )
    ]
    facts.append(
        f"{images} pictures, {image_bytes / 1e6:.1f} MB; {labels} labels; {waiting} wait for delivery"
    )
    facts += [f"{path}: was damaged and put aside" for path in sorted(data.glob(f"{NAME}.damaged-*"))]
    return iter(facts)


def _few(lines: Iterator[str]) -> Iterator[str]:
    """Return the first lines, and how many more there are."""
    for _, line in zip(range(_MANY), lines, strict=False):
        yield line
    more = sum(1 for _ in lines)
    if more:
        yield f"... and {more} more like the last one"
