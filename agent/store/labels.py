"""Labels: what people say about an inspected part. One for each event and user; the last word counts."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from adapters.files.strict_json import loads
from agent.base.errors import StoreError
from agent.store.retention import Rank


class UnknownEvent(StoreError):
    """No result with this event id is stored: it never was, or it was forgotten."""


@dataclass(frozen=True, slots=True)
class Labelled:
    """A label as it stands now.

    Attributes:
        verdict: what the agent had said.
        recipe: name of the recipe by which it was said; None where the stored result does not say.
        before: what the same user had said of the same event; None where that is the first time.
        label: what the user says now.
        at: UTC, ISO-8601, of this label; of the first one where it was said before.
    """

    event_id: str
    station: str
    seq: int
    verdict: str
    recipe: str | None
    user: str
    before: str | None
    label: str
    at: str

    @property
    def changed(self) -> bool:
        """Whether this is news; False where the user had said the very same."""
        return self.before != self.label


def put_label(db: sqlite3.Connection, event_id: str, label: str, user: str, at: str) -> Labelled:
    """Write a label inside the caller's transaction; the same one again changes nothing.

    Raises:
        UnknownEvent: there is no such result; nothing was written.
    """
    found = db.execute(
        "SELECT station, seq, verdict, payload FROM verdict WHERE event_id = ?", (event_id,)
    ).fetchone()
    if found is None:
        raise UnknownEvent(f"{event_id}: no such result is stored: it is mistyped, or too old")
    station, seq, verdict, payload = found
    said = db.execute(
        "SELECT label, at FROM label WHERE event_id = ? AND user = ?", (event_id, user)
    ).fetchone()
    before, since = said or (None, at)
    if before != label:
        since = at
        db.execute(
            "INSERT INTO label (event_id, user, station, seq, label, at) VALUES (?, ?, ?, ?, ?, ?)"
            " ON CONFLICT (event_id, user) DO UPDATE SET label = excluded.label, at = excluded.at",
            (event_id, user, station, seq, label, at),
        )
        # What somebody has looked at is worth more than a sample.
        db.execute(
            "UPDATE image SET rank = ? WHERE event_id = ? AND rank < ?",
            (Rank.LABELLED, event_id, Rank.LABELLED),
        )
    return Labelled(event_id, station, seq, verdict, _recipe_of(payload), user, before, label, since)


def _recipe_of(payload: str) -> str | None:
    """Return the name of the recipe that a stored result names."""
    try:
        recipe = loads(payload).get("recipe")
    except (ValueError, AttributeError):  # damaged; what was said of it is in columns of its own
        return None
    return recipe if isinstance(recipe, str) else None
