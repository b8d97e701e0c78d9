"""The audit trail: what changed the answers of a station, when, by whom and why, as a chain of hashes.

One JSON object a line. ``hash`` is the SHA-256 of the line without its last field, so any tool can check it::

    sed 's/,"hash":"[0-9a-f]*"}$/}/' audit.jsonl | while read -r line; do printf %s "$line" | sha256sum; done

and ``prev_hash`` is that of the line before. A trail that was cut off at the end, or written anew as a
whole, is a good chain too: who wants to notice that keeps the last hash elsewhere and gives it to `verify`.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from adapters.files.strict_json import loads

GENESIS = "0" * 64
"""The hash before the first line."""

# Release 0.1.0 takes a line with more fields for a changed one: what is to be added goes into `numbers`.
_FIELDS = ("n", "at", "station", "actor", "event", "before", "after", "numbers", "why", "prev_hash")
_DIGITS = 9


class Audit:
    """Owns one trail, of a station or of the agent; any thread may append, one at a time.

    Args:
        station: whose trail it is; "" for the agent's own.
        path: audit.jsonl; made at the first event. None keeps the lines in memory, for a replay.

    Attributes:
        head: hash of the last line.
        n: number of the last line, 0 where there is none.
        lines: the lines of a trail in memory; empty for one in a file.
        found: what was wrong at opening, one line each. The trail goes on behind it; `verify` still shows it.

    Raises:
        OSError: the file cannot be read, or what was torn cannot be cut off.
    """

    def __init__(self, station: str, path: Path | None = None) -> None:
        self.head = GENESIS
        self.n = 0
        self.lines: list[str] = []
        self.found: tuple[str, ...] = ()
        self._station = station
        self._path = path
        self._size = 0
        self._one = threading.Lock()
        if path is not None and path.exists():
            self._open(path)

    def append(
        self,
        at: str,
        event: str,
        *,
        actor: str,
        why: str,
        before: Any = None,
        after: Any = None,
        numbers: Mapping[str, Any] | None = None,
    ) -> str:
        """Add one event and return its hash; it is on disk then.

        Args:
            at: UTC, ISO-8601, by the caller's clock.
            event: such as ``promoted``.
            actor: ``learner``, ``guard``, or a person's user name.
            why: one sentence.
            before: what was so until now, JSON; for a promotion number and digest of the version.
            after: what is so from now on.
            numbers: what decided it. Floats keep 9 significant digits; nan and inf become text.

        Raises:
            OSError: the disk is full or the file cannot be written; the trail is as it was.
        """
        with self._one:
            return self._append(
                {
                    "at": at,
                    "station": self._station,
                    "actor": actor,
                    "event": event,
                    "before": before,
                    "after": after,
                    "numbers": numbers or {},
                    "why": why,
                }
            )

    def holds(self, record: Mapping[str, Any], after: int) -> bool:
        """Return whether a line with a number above `after` says exactly this.

        Args:
            record: what `append` takes, by name.
            after: number of a line; 0 for all lines.

        Raises:
            OSError: the file cannot be read.
        """
        wanted = loads(json.dumps(_plain({**record, "station": self._station}), allow_nan=False))
        for line in self._written():
            try:
                entry = loads(line)
                if entry["n"] > after and all(entry.get(name) == wanted[name] for name in wanted):
                    return True
            except (ValueError, TypeError, KeyError):  # `verify` shows it
                continue
        return False

    def _written(self) -> list[str]:
        if self._path is None:
            return self.lines
        return self._path.read_text("utf-8", "replace").splitlines() if self._path.exists() else []

    def _append(self, facts: dict[str, Any]) -> str:
        entry = {"n": self.n + 1, **facts, "prev_hash": self.head}
        body = _canonical(_plain(entry))
        digest = _hash(body)
        line = _with_hash(body, digest)
        if self._path is None:
            self.lines.append(line)
        else:
            self._write(self._path, f"{line}\n".encode())
        self.n, self.head = self.n + 1, digest
        return digest

    def _open(self, path: Path) -> None:
        content = path.read_bytes()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            # The power went while a line was written; its event had not happened yet.
            with path.open("r+b") as file:
                file.truncate(whole)
                os.fsync(file.fileno())
            self.found = (f"{path}: cut {len(content) - whole} bytes of a torn last line",)
        report = verify(path)
        self.found += report.problems
        self.n, self.head, self._size = report.last, report.head, whole

    def _write(self, path: Path, line: bytes) -> None:
        new = not path.exists()
        if new:
            path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab", buffering=0) as file:
            try:
                written = file.write(line)
                if written != len(line):
                    raise OSError(f"{path}: only {written} of {len(line)} bytes could be written: disk full?")
                os.fsync(file.fileno())
            except OSError:
                file.truncate(0 if new else self._size)
                raise
        if new:
            _sync_folder(path.parent)
            self._size = 0
        self._size += len(line)


@dataclass(frozen=True, slots=True)
class Report:
    """What `verify` found.

    Attributes:
        lines: how many there are.
        last: number that the last line gives itself.
        head: hash that the last line gives itself.
        problems: one line each, ``audit.jsonl:12: what``; empty for a good chain.
    """

    lines: int
    last: int
    head: str
    problems: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing was changed, removed, added or put elsewhere."""
        return not self.problems


def verify(path: Path, head: str | None = None) -> Report:
    """Find every line that was changed, every place where lines are missing, added or in another order.

    Args:
        path: an audit.jsonl.
        head: hash that the last line must have, where it was kept elsewhere: finds lines cut off at the end.

    Raises:
        OSError: the file cannot be read.
    """
    problems: list[str] = []
    count, last, previous = 0, 0, GENESIS
    with path.open("rb") as file:
        for count, line in enumerate(file, start=1):
            where = f"{path}:{count}: "
            try:
                entry = _read(line)
            except (ValueError, TypeError, KeyError, RecursionError) as error:
                problems.append(f"{where}changed or torn: {error}")
                # What follows is held against the next line that can be read.
                last, previous = last + 1, ""
                continue
            number = entry["n"]
            if number != last + 1:
                problems.append(
                    f"{where}line {number} stands where {last + 1} should: missing, added or moved"
                )
            elif previous and entry["prev_hash"] != previous:
                problems.append(f"{where}does not continue the line before it: one of them was exchanged")
            last, previous = number, entry["hash"]
    found = previous or GENESIS
    if head is not None and found != head:
        problems.append(
            f"{path}:{count + 1}: ends with {found[:12]}..., not with {head[:12]}...: lines are missing"
        )
    return Report(count, last, found, tuple(problems))


def _read(line: bytes) -> dict[str, Any]:
    """Return a line's entry; ValueError unless it is as `Audit` writes, to the last byte."""
    if not line.endswith(b"\n"):
        raise ValueError("no end of line")
    entry: dict[str, Any] = loads(line)
    if not isinstance(entry["n"], int) or not isinstance(entry["prev_hash"], str):
        raise ValueError("n or prev_hash is of another kind")
    if not entry.keys() >= {*_FIELDS, "hash"}:
        raise ValueError(f"{', '.join(sorted({*_FIELDS, 'hash'} - entry.keys()))} is missing")
    # A newer release may have added fields: they are part of the line, and of its hash.
    body = _canonical({key: value for key, value in entry.items() if key != "hash"})
    if entry["hash"] != _hash(body):
        raise ValueError("its hash does not fit")
    # Equal meaning is not enough: of a key that stands twice, readers take one or the other.
    if line != f"{_with_hash(body, entry['hash'])}\n".encode():
        raise ValueError("not written as the agent writes")
    return entry


def _canonical(entry: Mapping[str, Any]) -> str:
    """Return the fields in their order, everything inside them sorted by key, as compact strict JSON."""
    fields = (f"{_json(key)}:{_json(value)}" for key, value in entry.items())
    return "{" + ",".join(fields) + "}"


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def _with_hash(body: str, digest: str) -> str:
    return f'{body[:-1]},"hash":"{digest}"}}'


def _hash(body: str) -> str:
    return hashlib.sha256(body.encode()).hexdigest()


def _plain(value: Any) -> Any:
    """Return what strict JSON can say: numpy's scalars as Python's, rounded; nan, inf and -inf as text."""
    if isinstance(value, Mapping):
        return {_plain(str(key)): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, float):
        return float(f"{value:.{_DIGITS}g}") if math.isfinite(value) else str(value)
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()  # half of a surrogate pair is no UTF-8
    return value


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
