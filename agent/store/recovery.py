"""What can be read of a damaged database, into a new one; the damaged file is put aside, not deleted."""

from __future__ import annotations

import json
import logging
import mmap
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from adapters.files.strict_json import loads
from agent.store.database import NAME, Damaged, as_texts, open_database, open_to_read, ours, sound
from agent.store.image_files import ImageFiles
from agent.store.retention import rank_of

log = logging.getLogger(__name__)

_LIMIT_S = 8.0
"""For reading. What is not read by then stays in the file that is put aside: the line is waiting."""
_PAYLOAD = b'{"schema":"mekiki.result.v'
"""How a result begins, whatever its version, that of a newer release too."""
_LONGEST = 100_000
_SUFFIXES = ("", "-wal", "-shm")

_RESULT = ("station", "seq", "event_id", "decided_at", "verdict", "payload")
_LABEL = ("event_id", "user", "station", "seq", "label", "at")
_IMAGE = ("event_id", "station", "seq", "day", "rank", "bytes", "doomed")

_Row = tuple[Any, ...]


@dataclass
class _Haul:
    """What was read so far.

    Attributes:
        waiting: (station, seq) -> place in the outbox.
        told: it is known which results wait; where it is not, all of them are sent again.
        last_seq: highest number seen of each station, anywhere.
    """

    until: float
    results: dict[tuple[str, int], _Row] = field(default_factory=dict)
    waiting: dict[tuple[str, int], int] = field(default_factory=dict)
    told: bool = False
    last_seq: dict[str, int] = field(default_factory=dict)
    labels: dict[tuple[str, str], _Row] = field(default_factory=dict)
    images: dict[str, _Row] = field(default_factory=dict)
    whole: bool = True

    def saw(self, station: str, seq: int) -> None:
        sound([(station, seq)], "tn")
        self.last_seq[station] = max(seq, self.last_seq.get(station, 0))


def put_aside(data: Path) -> list[Path]:
    """Return the damaged databases that lie in a data folder."""
    return sorted(path for path in data.glob(f"{NAME}.damaged-*") if not path.name.endswith(("-wal", "-shm")))


def finish_exchange(data: Path) -> None:
    """Complete an exchange in whose middle the power went: the new database takes the old one's place."""
    path, new = data / NAME, data / f"{NAME}.new"
    if not path.exists() and new.exists():
        new.replace(path)


def salvage(data: Path, now: datetime, last_seq: Mapping[str, int], *, outbox: bool) -> str:
    """Put a new database in the place of a damaged one, with all of it that can be read in a few seconds.

    Numbers go on behind the highest one that is found anywhere. Where it cannot be read what waits for
    delivery, everything is sent again.

    Args:
        data: the data folder; nobody has the database open.
        now: for the name of what is put aside.
        last_seq: numbers known to be given out, by station.
        outbox: somebody is to be told.

    Returns:
        What happened, in a sentence.

    Raises:
        DiskTrouble: there is no room for the new one; all is as it was.
    """
    path, new = data / NAME, data / f"{NAME}.new"
    for suffix in _SUFFIXES:
        Path(f"{new}{suffix}").unlink(missing_ok=True)
    haul = _Haul(time.monotonic() + _LIMIT_S)
    _read_tables(path, haul)
    for file in (Path(f"{path}-wal"), path):
        _read_bytes(file, haul)
    for station, seq in last_seq.items():
        haul.saw(station, seq)
    aside = data / f"{NAME}.damaged-{now:%Y%m%dT%H%M%SZ}"
    files = ImageFiles(data)
    lost_pictures = _adopt_pictures(files, haul)
    with closing(open_database(new)) as db, ours(new):
        _write(db, haul, outbox=outbox)
    for suffix in _SUFFIXES:
        old = Path(f"{path}{suffix}")
        if old.exists():
            old.replace(f"{aside}{suffix}")
    finish_exchange(data)
    for picture in lost_pictures:
        files.set_aside(picture)
    rest = "" if haul.whole else ", more may be in the file"
    return f"was damaged and lies at {aside.name}: {len(haul.results)} results were taken over{rest}"


def _read_tables(path: Path, haul: _Haul) -> None:
    """Read what SQLite can, from both ends of each table: between them lies what is damaged."""
    try:
        with closing(open_to_read(path)) as db:
            db.text_factory = lambda raw: raw.decode("utf-8", "replace")
            waits = "SELECT station, seq, id FROM outbox"
            for query in (f"{waits} NOT INDEXED", f"{waits} INDEXED BY outbox_station_seq"):
                haul.told |= _both_ways(db, query, ("id",), lambda row: _wait(haul, row), haul)
            numbers = "SELECT station, seq FROM verdict INDEXED BY sqlite_autoindex_verdict_2"
            _both_ways(db, numbers, ("station", "seq"), lambda row: haul.saw(*row), haul)
            given = "SELECT station, last_seq FROM numbering"
            _both_ways(db, given, ("station",), lambda row: haul.saw(*row), haul)
            results = f"SELECT {', '.join(_RESULT)} FROM verdict NOT INDEXED"  # noqa: S608 - names of ours
            haul.whole = _both_ways(db, results, ("rowid",), lambda row: _result(haul, row), haul)
            labels = f"SELECT {', '.join(_LABEL)} FROM label"  # noqa: S608 - names of ours
            _both_ways(db, labels, ("event_id", "user"), lambda row: _keep(haul.labels, row[:2], row), haul)
            images = f"SELECT {', '.join(_IMAGE)} FROM image"  # noqa: S608 - names of ours
            _both_ways(db, images, ("event_id",), lambda row: _image(haul, row), haul)
    except Exception as error:  # noqa: BLE001 - whatever a broken file does, its bytes are still there
        log.warning("store: %s: %s", path, error)
        haul.whole = False


def _both_ways(
    db: sqlite3.Connection, query: str, keys: tuple[str, ...], take: Callable[[_Row], object], haul: _Haul
) -> bool:
    """Take rows from the end, and where that breaks off from the start; return whether that was all."""
    for way in (" DESC", ""):
        order = ", ".join(f"{key}{way}" for key in keys)
        try:
            for row in db.execute(f"{query} ORDER BY {order}"):
                take(as_texts(row))
                if time.monotonic() > haul.until:
                    return False
            return True
        except (sqlite3.Error, Damaged, ValueError, LookupError, TypeError) as error:
            log.info("store: %s%s: %s", query, way, error)
    return False


def _read_bytes(path: Path, haul: _Haul) -> None:
    """Find results by how they begin, also where SQLite finds no page: the newest first."""
    if haul.whole or not path.exists() or path.stat().st_size == 0:
        return
    first = dict(sorted(haul.results, reverse=True))  # the lowest number of each station
    decoder = json.JSONDecoder()
    with path.open("rb") as file, closing(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)) as content:
        place = len(content)
        while (place := content.rfind(_PAYLOAD, 0, place)) >= 0 and time.monotonic() < haul.until:
            text = content[place : place + _LONGEST].decode("utf-8", "replace")
            try:
                said, end = decoder.raw_decode(text)
                row = (
                    said["station"], said["seq"], said["event_id"], said["decided_at"], said["verdict"],
                    text[:end],
                )  # fmt: skip
                # What lies below was deleted, and only its bytes are still there.
                if row[1] >= first.get(row[0], 0):
                    _result(haul, row)
            except (Damaged, ValueError, KeyError, TypeError):
                continue


def _result(haul: _Haul, row: _Row) -> None:
    """Keep a result where it is one: what a broken page says may be anything."""
    station, seq, event_id, _, _, payload = row
    said = loads(payload)
    if (said["station"], said["seq"], said["event_id"]) != (station, seq, event_id):
        raise ValueError(f"{station} {seq} says something else")
    sounds = (station, seq, event_id, said["decided_at"], said["verdict"], payload)
    haul.results.setdefault((station, seq), *sound([sounds], "tntttt"))
    haul.saw(station, seq)


def _wait(haul: _Haul, row: _Row) -> None:
    station, seq, place = row
    haul.waiting[str(station), int(seq)] = int(place)
    haul.saw(station, int(seq))


def _image(haul: _Haul, row: _Row) -> None:
    _keep(haul.images, row[0], *sound([row], "ttntnnn"))


def _keep(rows: dict[Any, _Row], key: Any, row: _Row) -> None:
    rows[key] = row


def _adopt_pictures(files: ImageFiles, haul: _Haul) -> list[Path]:
    """Hold pictures against results: rows without a file go; return files without a result."""
    by_event = {row[2]: row for row in haul.results.values()}
    there = {path.stem: path for path in files.settled()}
    staged = {picture.event_id for picture in files.staged()}
    labelled = {event_id for event_id, _ in haul.labels}
    haul.images = {
        event_id: row
        for event_id, row in haul.images.items()
        if event_id in by_event and (event_id in there or event_id in staged)
    }
    for event_id in there.keys() & by_event.keys() - haul.images.keys():
        station, seq, _, decided_at, verdict, _ = by_event[event_id]
        rank = rank_of(verdict, labelled=event_id in labelled)
        size = files.size(there[event_id])
        haul.images[event_id] = (event_id, station, seq, decided_at[:10], rank, size, 0)
    return [path for event_id, path in there.items() if event_id not in by_event]


def _write(db: sqlite3.Connection, haul: _Haul, *, outbox: bool) -> None:
    events = {row[2] for row in haul.results.values()}
    with db:
        db.execute("BEGIN IMMEDIATE")
        results = (haul.results[key] for key in sorted(haul.results))
        _insert(db, "verdict", _RESULT, results, "OR IGNORE")
        _insert(db, "numbering", ("station", "last_seq"), haul.last_seq.items())
        _insert(db, "label", _LABEL, (row for row in haul.labels.values() if row[0] in events))
        _insert(db, "image", _IMAGE, haul.images.values())
        if outbox:
            _insert(db, "outbox", ("id", "station", "seq"), _waiting(haul))


def _waiting(haul: _Haul) -> Iterator[_Row]:
    if haul.told:
        known = {place: key for key, place in haul.waiting.items() if key in haul.results}
        yield from ((place, *known[place]) for place in sorted(known))
        return
    # In the order of decision, which is that of their ids.
    rows = sorted(haul.results.values(), key=lambda row: str(row[2]))
    yield from ((place, row[0], row[1]) for place, row in enumerate(rows, start=1))


def _insert(
    db: sqlite3.Connection, table: str, columns: Sequence[str], rows: Iterable[_Row], how: str = ""
) -> None:
    names, marks = ", ".join(columns), ", ".join("?" * len(columns))
    db.executemany(f"INSERT {how} INTO {table} ({names}) VALUES ({marks})", rows)  # noqa: S608 - names of ours
