"""What people say about parts, and reading results again by their numbers."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.store.database import NAME
from agent.store.labels import Labelled, UnknownEvent
from tests.support.verdicts import a_store, a_verdict, beside, close_stores

AT, LATER = "2026-01-01T00:00:00.000Z", "2026-01-01T00:00:09.000Z"


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    yield
    close_stores()


def labels_in(folder: Path) -> list[tuple[str, str, str]]:
    with sqlite3.connect(folder / NAME) as db:
        return db.execute("SELECT user, label, at FROM label ORDER BY user").fetchall()


def test_a_label_is_kept_once_for_each_event_and_user(tmp_path: Path) -> None:
    """The same again changes nothing, not even its time; another word takes its place; others have a say."""
    store = a_store(tmp_path)
    verdict = a_verdict()
    store.commit([a_verdict(), verdict])
    told: list[Labelled] = []

    first = store.label(verdict.event_id, "scratch", "yamada", AT, told.append)
    again = store.label(verdict.event_id, "scratch", "yamada", LATER, told.append)
    other = store.label(verdict.event_id, "ok", "yamada", LATER, told.append)
    store.label(verdict.event_id, "dent", "sato", LATER, told.append)

    assert (first.station, first.seq, first.verdict, first.before, first.changed) == (
        "top", 2, "pass", None, True,
    )  # fmt: skip
    assert (again.before, again.at, again.changed) == ("scratch", AT, False)
    assert (other.before, other.label) == ("scratch", "ok")
    assert [(one.user, one.before, one.label) for one in told] == [
        ("yamada", None, "scratch"), ("yamada", "scratch", "ok"), ("sato", None, "dent"),
    ]  # fmt: skip
    assert labels_in(tmp_path) == [("sato", "dent", LATER), ("yamada", "ok", LATER)]


def test_a_label_for_nothing_is_refused(tmp_path: Path) -> None:
    """An event that was never stored cannot be labelled, and the message names it."""
    store = a_store(tmp_path)
    store.commit([a_verdict()])

    with pytest.raises(UnknownEvent, match=r"01NOTHING.*no such result"):
        store.label("01NOTHING", "ok", "yamada", AT)
    assert labels_in(tmp_path) == []


def test_no_label_without_its_record(tmp_path: Path) -> None:
    """Can the audit trail not be written, the label does not count, and can be said again."""
    store = a_store(tmp_path)
    verdict = a_verdict()
    store.commit([verdict])

    def full(_: Labelled) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        store.label(verdict.event_id, "ok", "yamada", AT, full)
    assert labels_in(tmp_path) == []
    assert store.label(verdict.event_id, "ok", "yamada", AT).changed


def test_results_are_read_again_by_number(tmp_path: Path) -> None:
    """Both ends included, oldest first, at most `limit`, of that station alone."""
    store = a_store(tmp_path)
    store.commit([a_verdict("a") for _ in range(6)] + [a_verdict("b")])

    found = store.between("a", 2, 5, 100)

    assert [row.seq for row in found] == [2, 3, 4, 5]
    assert [json.loads(row.payload)["seq"] for row in found] == [2, 3, 4, 5]
    assert [row.seq for row in store.between("a", 3, 10**9, 2)] == [3, 4]
    assert store.between("a", 7, 10**9, 10) == store.between("c", 1, 10, 10) == []
    assert [store.last_seq(name) for name in ("a", "b", "c")] == [6, 1, 0]


def test_numbers_go_on_where_every_result_is_forgotten(tmp_path: Path) -> None:
    """With `keep_results: 0` nothing is left to count from, and still no number comes twice."""
    store = a_store(tmp_path, keep_results=0)
    rows = store.commit([a_verdict() for _ in range(3)])
    store.commit([], [row.id for row in rows])
    rows = store.commit([a_verdict()])
    store.commit([], [row.id for row in rows])
    store.commit([a_verdict("side")])
    store.close()
    with sqlite3.connect(tmp_path / NAME) as db:
        db.execute("DELETE FROM verdict WHERE station = 'top'")

    store = a_store(tmp_path, keep_results=0)

    assert store.last_seq("top") == 4
    assert [row.seq for row in store.commit([a_verdict()])] == [5]


def test_a_store_of_the_version_before_goes_on(tmp_path: Path) -> None:
    """Its results, its numbers and what waits are as they were, and the file can shrink from now on."""
    store = a_store(tmp_path)
    store.commit([a_verdict() for _ in range(3)])
    store.close()
    with sqlite3.connect(tmp_path / NAME, isolation_level=None) as db:
        for table in ("numbering", "label", "image"):
            db.execute(f"DROP TABLE {table}")
        db.execute("PRAGMA user_version = 1")
        db.execute("PRAGMA journal_mode = DELETE")
        db.execute("PRAGMA auto_vacuum = NONE")
        db.execute("VACUUM")
        assert db.execute("PRAGMA auto_vacuum").fetchone() == (0,)

    store = a_store(tmp_path)

    assert [row.seq for row in store.backlog(0, 10)] == [1, 2, 3]
    assert [row.seq for row in store.commit([a_verdict()])] == [4]
    assert beside(store, "PRAGMA auto_vacuum") == [(2,)]
