"""The store keeps its word: numbered without gaps, durable, bounded, and honest when it cannot write."""

from __future__ import annotations

import json
import sqlite3
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from agent.base.errors import ConfigError, StoreError
from agent.store.database import DiskTrouble
from agent.store.outbox import peek
from tests.support.insides import database
from tests.support.verdicts import a_store, a_verdict, beside, close_stores


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    yield
    close_stores()


def test_results_are_numbered_per_station_without_gaps(tmp_path: Path) -> None:
    """1, 2, 3, ... for each station, whatever order they come in."""
    store = a_store(tmp_path)

    rows = store.commit([a_verdict("a"), a_verdict("b"), a_verdict("a")]) + store.commit([a_verdict("b")])

    assert [(row.station, row.seq) for row in rows] == [("a", 1), ("b", 1), ("a", 2), ("b", 2)]


def test_numbers_go_on_after_a_restart(tmp_path: Path) -> None:
    """A restart neither repeats nor skips a number, even when everything was delivered before."""
    store = a_store(tmp_path)
    rows = store.commit([a_verdict(), a_verdict()])
    store.commit([], [row.id for row in rows])
    store.close()

    again = a_store(tmp_path).commit([a_verdict()])

    assert [row.seq for row in again] == [3]


def test_what_is_not_struck_off_waits_in_order(tmp_path: Path) -> None:
    """The backlog is everything undelivered, oldest first, and survives the process."""
    store = a_store(tmp_path)
    rows = store.commit([a_verdict(part=n) for n in range(5)])
    store.commit([], [rows[1].id])
    store.close()

    backlog = a_store(tmp_path).backlog(0, 10)

    assert [row.seq for row in backlog] == [1, 3, 4, 5]
    assert [json.loads(row.payload)["seq"] for row in backlog] == [1, 3, 4, 5]


def test_backlog_is_read_in_pieces(tmp_path: Path) -> None:
    """`after_id` and `limit` walk through the backlog without repeating."""
    store = a_store(tmp_path)
    store.commit([a_verdict() for _ in range(7)])

    first = store.backlog(0, 4)
    rest = store.backlog(first[-1].id, 4)

    assert [row.seq for row in first + rest] == [1, 2, 3, 4, 5, 6, 7]


def test_too_many_waiting_gives_up_the_oldest_and_counts(tmp_path: Path) -> None:
    """A broker that never comes back costs bounded disk; what is given up is known."""
    store = a_store(tmp_path, max_waiting=3)
    for _ in range(5):
        store.commit([a_verdict()])

    assert [row.seq for row in store.backlog(0, 10)] == [3, 4, 5]
    assert (store.given_up, store.waiting) == (2, 3)


def test_delivered_results_beyond_the_limit_are_forgotten(tmp_path: Path) -> None:
    """Only delivered results go; one that waits stays, however old."""
    store = a_store(tmp_path, keep_results=2)
    rows = store.commit([a_verdict() for _ in range(4)])
    store.commit([a_verdict()], [row.id for row in rows[1:]])
    kept = sqlite3.connect(tmp_path / "mekiki.db").execute("SELECT seq FROM verdict ORDER BY seq").fetchall()
    assert (1,) in kept  # it waits, so it and what follows it stay

    store.commit([a_verdict()], [rows[0].id])
    kept = sqlite3.connect(tmp_path / "mekiki.db").execute("SELECT seq FROM verdict ORDER BY seq").fetchall()

    assert [seq for (seq,) in kept] == [5, 6]


def test_a_failed_commit_leaves_everything_as_it_was(tmp_path: Path) -> None:
    """A full disk loses nothing: the same call succeeds when there is space, with the same numbers."""
    store = a_store(tmp_path)
    rows = store.commit([a_verdict() for _ in range(3)])
    pages = database(store).execute("PRAGMA page_count").fetchone()[0]
    database(store).execute(f"PRAGMA max_page_count = {pages}")  # SQLITE_FULL, as a full disk gives it
    many = [a_verdict() for _ in range(200)]

    with pytest.raises(DiskTrouble, match="full"):
        store.commit(many, [rows[0].id])
    assert store.waiting == 3
    database(store).execute("PRAGMA max_page_count = 100000")
    again = store.commit(many, [rows[0].id])

    assert [row.seq for row in again] == list(range(4, 204))
    assert store.waiting == 202


def test_below_the_free_space_floor_nothing_is_written(tmp_path: Path) -> None:
    """`min_free_mb` leaves the disk to the plant's other programs."""
    store = a_store(tmp_path, min_free_bytes=10**15)

    with pytest.raises(DiskTrouble, match=r"storage\.min_free_mb"):
        store.commit([a_verdict()])


def test_striking_off_works_below_the_floor(tmp_path: Path) -> None:
    """It only makes room; refusing it would have everything sent again after a crash."""
    store = a_store(tmp_path)
    rows = store.commit([a_verdict() for _ in range(5)])
    store.retention = replace(store.retention, min_free_bytes=10**18)

    store.commit([], [row.id for row in rows])

    assert store.waiting == 0


def test_without_anybody_to_tell_nothing_waits(tmp_path: Path) -> None:
    """With `mqtt.enabled: false` results are kept by `keep_results` like delivered ones."""
    store = a_store(tmp_path, outbox=False, keep_results=3)
    for _ in range(10):
        assert store.commit([a_verdict()]) == []

    assert (store.waiting, store.given_up, store.backlog(0, 10)) == (0, 0, [])
    kept = sqlite3.connect(tmp_path / "mekiki.db").execute("SELECT COUNT(*) FROM verdict").fetchone()
    assert kept == (3,)


@pytest.mark.slow
def test_a_disk_that_is_really_full_is_survived(tmp_path: Path) -> None:
    """On a 1 MB file system the store says so, and goes on when space returns."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(disk)], capture_output=True
    ).returncode:
        pytest.skip("mounting a small file system needs root")
    try:
        filler = disk / "filler"
        filler.write_bytes(b"x" * 600_000)
        store = a_store(disk)
        stored = 0
        full = False
        while not full:
            try:
                stored += len(store.commit([a_verdict() for _ in range(20)]))
            except DiskTrouble:
                full = True
        filler.unlink()

        rows = store.commit([a_verdict()])

        assert rows[0].seq == stored + 1
        assert beside(store, "PRAGMA integrity_check") == [("ok",)]
        store.close()
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_a_second_agent_on_the_folder_is_refused(tmp_path: Path) -> None:
    """Two agents would number over each other."""
    store = a_store(tmp_path)

    with pytest.raises(StoreError, match="another agent uses this data folder"):
        a_store(tmp_path)
    store.close()
    a_store(tmp_path).close()


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    """The message says which folder and what to do."""
    (tmp_path / "file").write_text("")

    with pytest.raises(ConfigError, match=r"file/data.*cannot be written.*agent\.data_dir"):
        a_store(tmp_path / "file" / "data")


def test_a_file_that_is_no_database_is_put_aside(tmp_path: Path) -> None:
    """Nothing is overwritten, the line goes on, and somebody is told which file to look at."""
    (tmp_path / "mekiki.db").write_bytes(b"not a database" * 1000)

    store = a_store(tmp_path)

    (aside,) = tmp_path.glob("mekiki.db.damaged-*")
    assert aside.read_bytes() == b"not a database" * 1000
    assert aside.name in str(store.damage)
    assert [row.seq for row in store.commit([a_verdict()])] == [1]
    aside.rename(tmp_path / "seen")
    store.collect_garbage(datetime.now(UTC))
    assert store.damage is None


def test_a_store_of_a_newer_agent_is_left_alone(tmp_path: Path) -> None:
    """Going back to an older version must not damage the newer store."""
    a_store(tmp_path).close()
    with sqlite3.connect(tmp_path / "mekiki.db") as db:
        db.execute("PRAGMA user_version = 99")

    with pytest.raises(StoreError, match="newer version"):
        a_store(tmp_path)


def test_doctor_can_peek_while_the_agent_works(tmp_path: Path) -> None:
    """Looking from outside neither locks nor changes the store."""
    store = a_store(tmp_path)
    store.commit([a_verdict(), a_verdict()])

    assert peek(tmp_path / "mekiki.db") == 2
    store.commit([a_verdict()])
