"""What a stored value must be: one flipped bit makes bytes of a text, or no JSON of a result."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from adapters.files.strict_json import loads
from agent.store.database import NAME, Damaged

Row = tuple[Any, ...]


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
