"""Results as a table: CSV or Parquet, one row each, written while they are read."""

from __future__ import annotations

import csv
import importlib
import json
import logging
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any

from adapters.files.strict_json import loads
from agent.base.codec import timestamp
from agent.base.errors import ConfigError, UsageError
from agent.store.database import NAME, open_to_read, ours
from agent.store.image_files import ImageFiles

log = logging.getLogger(__name__)

_AT_ONCE = 1000
"""Results that are in memory together."""
_FORMULAS = ("=", "+", "-", "@", "\t", "\r")
"""How a cell begins that a spreadsheet would compute."""

COLUMNS = {
    "station": str, "seq": int, "event_id": str, "captured_at": str, "decided_at": str, "part_id": str,
    "recipe": str, "verdict": str, "reason": str, "label": str, "severity": str, "score": float,
    "margin": float, "source_label": str, "source_score": float, "scores": str, "model": str, "weights": str,
    "adapter": int, "adapter_digest": str, "recipe_digest": str, "config": str, "version": str,
    "offset": float, "commissioning": str, "luma": float, "sharpness": float, "wait_ms": float,
    "infer_ms": float, "total_ms": float, "labels": str, "image": str, "view": str, "tile": str, "order": str,
    "lot": str, "shift": str, "claim_false_rejects_at_most": float, "claim_confidence": float,
    "claim_good_parts": int, "reference_score": float, "reference_threshold": float, "reference_box": str,
    "reference_digest": str, "reference_samples": int, "map": str, "part_number": int,
    "part_picture": int,
}  # fmt: skip
"""Of a row. `scores` and `labels` are JSON, class: probability and user: label; `tile` and `reference_box`
are JSON, left, top, right, bottom; `image` and `map` are paths in the data folder. Only results of version 2
have what stands from `view` on."""


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """Which results: of one station, decided from `first` on and before `last`, with one verdict."""

    station: str | None = None
    first: datetime | None = None
    last: datetime | None = None
    verdict: str | None = None


def export(data: Path, out: Path, form: str, options: ExportOptions) -> int:
    """Write the results and return how many; `out` is there when it is complete, or not at all.

    Args:
        form: ``csv`` or ``parquet``.

    Raises:
        ConfigError: Parquet needs the extra `export`.
        UsageError: the file cannot be written.
        DiskTrouble, Damaged: the database cannot be read.
    """
    half = out.with_name(f".{out.name}.part")
    path = data / NAME
    try:
        with closing(open_to_read(path)) as db, ours(path):
            rows = _rows(db, options, ImageFiles(data))
            count = _csv(half, rows) if form == "csv" else _parquet(half, rows)
        half.replace(out)
    except OSError as error:
        raise UsageError(f"{out}: cannot be written: {error.strerror or error}") from error
    finally:
        half.unlink(missing_ok=True)
    return count


def _rows(db: sqlite3.Connection, options: ExportOptions, files: ImageFiles) -> Iterator[dict[str, Any]]:
    """Return flat rows by station and number. Each piece is read by itself: who writes is not held up."""
    first, last = (None if moment is None else timestamp(moment) for moment in (options.first, options.last))
    after: tuple[str, int] = ("", 0)
    while True:
        found = db.execute(
            "SELECT v.station, v.seq, v.event_id, v.payload, i.day FROM verdict v"
            " LEFT JOIN image i ON i.event_id = v.event_id AND i.doomed = 0"
            " WHERE (v.station, v.seq) > (?, ?) AND (? IS NULL OR v.station = ?)"
            " AND (? IS NULL OR v.decided_at >= ?) AND (? IS NULL OR v.decided_at < ?)"
            " AND (? IS NULL OR v.verdict = ?) ORDER BY v.station, v.seq LIMIT ?",
            (
                *after,
                options.station,
                options.station,
                first,
                first,
                last,
                last,
                options.verdict,
                options.verdict,
                _AT_ONCE,
            ),
        ).fetchall()
        if not found:
            return
        for station, seq, event_id, payload, day in found:
            labels = dict(
                db.execute("SELECT user, label FROM label WHERE event_id = ? ORDER BY user", (event_id,))
            )
            places = (None, None) if day is None else _places(files, station, day, event_id)
            try:
                row = _flat(loads(payload), labels, *places)
            except (ValueError, LookupError, TypeError, AttributeError) as error:
                log.warning("%s %s: cannot be read, it is left out: %s", station, seq, error)
                continue
            yield row
        after = (found[-1][0], found[-1][1])


def _places(files: ImageFiles, station: str, day: str, event_id: str) -> tuple[str, str | None]:
    """Return where a picture lies, and the map beside it, in the data folder; None where it has no map."""
    image, drawn = files.place(station, day, event_id), files.map_place(station, day, event_id)
    data = files.root.parent
    return str(image.relative_to(data)), str(drawn.relative_to(data)) if drawn.exists() else None


def _flat(
    said: dict[str, Any], labels: dict[str, str], image: str | None, drawn: str | None
) -> dict[str, Any]:
    source, provenance, claim = said["source"] or {}, said["provenance"], said.get("claim") or {}
    reference = said.get("reference") or {}
    box = reference.get("box")
    row = {name: said.get(name) for name in COLUMNS}
    part = said.get("part") or {}
    row |= {name: provenance.get(name) for name in (
        "model", "weights", "adapter", "adapter_digest", "config", "version", "offset", "commissioning",
    )}  # fmt: skip
    row |= {
        "part_id": said["trigger"]["part_id"],
        "source_label": source.get("label"),
        "source_score": source.get("score"),
        "scores": None if said["scores"] is None else _json(said["scores"]),
        "recipe_digest": provenance["recipe"],
        "luma": said["quality"]["luma"],
        "sharpness": said["quality"]["sharpness"],
        **{f"{stage}_ms": took for stage, took in said["latency_ms"].items()},
        "labels": _json(labels) if labels else None,
        "image": image,
        "map": drawn,
        "part_number": part.get("number"),
        "part_picture": part.get("picture"),
        "reference_box": None if box is None else _json(box),
        **{f"reference_{name}": reference.get(name) for name in ("score", "threshold", "digest", "samples")},
        "tile": None if said.get("tile") is None else _json(said["tile"]),
        **{
            f"claim_{name}": claim.get(name) for name in ("false_rejects_at_most", "confidence", "good_parts")
        },
    }
    return row


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def _csv(path: Path, rows: Iterator[dict[str, Any]]) -> int:
    count = 0
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for row in rows:
            writer.writerow([cell(row[name]) for name in COLUMNS])
            count += 1
    return count


def cell(value: Any) -> Any:
    """Return a cell that a spreadsheet takes for what it is: a name may begin like a formula."""
    if isinstance(value, str) and value.startswith(_FORMULAS):
        return f"'{value}"
    return value


def _parquet(path: Path, rows: Iterator[dict[str, Any]]) -> int:
    try:
        arrow, parquet = importlib.import_module("pyarrow"), importlib.import_module("pyarrow.parquet")
    except ModuleNotFoundError as error:
        what = f"{error.name} is not installed here: pip install 'mekiki[export]', or --format csv"
        raise ConfigError([what]) from None
    kinds = {str: arrow.string(), int: arrow.int64(), float: arrow.float64()}
    schema = arrow.schema([(name, kinds[kind]) for name, kind in COLUMNS.items()])
    count = 0
    with parquet.ParquetWriter(str(path), schema, compression="zstd") as writer:
        while piece := list(islice(rows, _AT_ONCE)):
            writer.write_table(arrow.Table.from_pylist(piece, schema=schema))
            count += len(piece)
    return count
