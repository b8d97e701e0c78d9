"""What goes, in which order, and that nothing else does."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.base.event_id import ulid_of
from agent.config.models import EvidenceSettings, StorageSettings
from agent.store.database import NAME, DiskTrouble
from agent.store.garbage_collector import AT_ONCE
from agent.store.integrity import check
from agent.store.retention import Holdings, Rank, Retention, excess, rank_of, wanted
from agent.telemetry.health import conditions
from tests.support.evidence_site import NOON, judged, pictures_in, tidy_up, with_pictures
from tests.support.insides import upkeep
from tests.support.mqtt_peers import wait_until
from tests.support.verdicts import a_publisher, a_store, a_verdict, availability, beside, close_stores

MB = 1_000_000
BYTES = st.integers(0, 10**12)
LIMIT = st.none() | BYTES


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    yield
    close_stores()


@given(st.builds(Holdings, BYTES, BYTES, BYTES), LIMIT, LIMIT, BYTES)
def test_what_goes_is_enough_and_no_more(
    held: Holdings, max_bytes: int | None, image_bytes: int | None, floor: int
) -> None:
    """Behind it every limit holds, as far as pictures and results can do that; else nothing goes."""
    limits = Retention(10, 10, max_bytes=max_bytes, image_bytes=image_bytes, min_free_bytes=floor)
    found = excess(limits, held, NOON)
    images = held.images - found.image_bytes
    database = held.database - found.result_bytes
    assert 0 <= images <= held.images
    assert database <= held.database
    assert found.result_bytes == 0 or images == 0  # pictures first
    if max_bytes is not None:
        assert database + images <= max_bytes
    if image_bytes is not None:
        assert images <= image_bytes
    assert images == 0 or held.disk_free + found.image_bytes >= floor
    if held.disk_free >= floor and max_bytes is None and image_bytes is None:
        assert (found.image_bytes, found.result_bytes) == (0, 0)


def test_age_is_a_moment_and_an_event_id() -> None:
    """Ids sort by time: all before that moment are lower, all after are higher."""
    found = excess(Retention(10, 10, keep_days=2, image_days=1), Holdings(0, 0, 0), NOON)
    day = int((NOON - timedelta(days=1)).timestamp() * 1000)
    assert found.results_before == NOON - timedelta(days=2)
    assert ulid_of(day - 1, 2**80 - 1) < found.images_before <= ulid_of(day, 0)
    assert excess(Retention(10, 10), Holdings(0, 0, 0), NOON).images_before == ""


def test_the_order_of_evidence() -> None:
    """Failed is worth most, then unsure, then what somebody labelled, then a sampled pass."""
    parts = (("fail", False), ("unsure", False), ("pass", True), ("pass", False))
    ranks = [rank_of(verdict, labelled=labelled) for verdict, labelled in parts]
    assert ranks == [Rank.FAIL, Rank.UNSURE, Rank.LABELLED, Rank.SAMPLED]
    assert sorted(Rank, reverse=True) == [Rank.FAIL, Rank.UNSURE, Rank.LABELLED, Rank.SAMPLED]


@given(st.floats(0, 1), st.integers(0, 2**80 - 1))
def test_which_passes_are_sampled_follows_from_the_id(share: float, chance: int) -> None:
    """The same id is always in or out; a larger share takes all that a smaller one does."""
    event_id = ulid_of(1, chance)
    settings = EvidenceSettings(enabled=True, sampled_passes=share)
    found = wanted(settings, "pass", event_id)
    assert found == wanted(settings, "pass", event_id)
    if found is not None:
        assert wanted(EvidenceSettings(enabled=True, sampled_passes=1.0), "pass", event_id) is Rank.SAMPLED
    assert wanted(EvidenceSettings(sampled_passes=1.0), "fail", event_id) is None  # off by default


def test_a_share_of_the_passes_is_sampled() -> None:
    """One in four of ten thousand, within four standard deviations."""
    settings = EvidenceSettings(enabled=True, sampled_passes=0.25)
    taken = sum(wanted(settings, "pass", ulid_of(n, n)) is not None for n in range(10_000))
    assert abs(taken - 2500) < 4 * (10_000 * 0.25 * 0.75) ** 0.5


def test_old_results_go_with_all_that_hangs_on_them(tmp_path: Path) -> None:
    """By age: result, label, picture and its empty folder; what is younger, or waits for delivery, stays."""
    store = a_store(tmp_path, keep_days=10)
    old, young, waiting = judged("fail", age_days=11), judged("fail", age_days=9), judged("fail", "side", 30)
    with_pictures(store, [old, young])
    with_pictures(store, [waiting], deliver=False)
    store.label(old.event_id, "scratch", "yamada", "2026-01-01T00:00:00.000Z")

    tidy_up(store)

    assert [row.seq for row in store.between("top", 1, 9, 9)] == [2]
    assert [row.seq for row in store.backlog(0, 9)] == [1]
    assert pictures_in(tmp_path) == {young.event_id, waiting.event_id}
    assert len(list((tmp_path / "evidence" / "top").iterdir())) == 1
    assert (store.kept.purged, store.kept.purged_images, store.kept.images) == (1, 1, 2)
    assert check(tmp_path).problems == ()


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 6, 7])
def test_pictures_go_in_the_order_of_evidence(tmp_path: Path, count: int) -> None:
    """Passes first, then what was labelled, unsure, failed; within a kind the oldest first."""
    store = a_store(tmp_path)
    parts = [judged(v) for v in ("fail", "pass", "unsure", "pass", "pass", "fail", "unsure")]
    with_pictures(store, parts)
    store.label(parts[1].event_id, "ok", "yamada", "2026-01-01T00:00:00.000Z")
    going = [parts[n] for n in (3, 4, 1, 2, 6, 0, 5)]

    store.retention = replace(store.retention, image_bytes=1000 * (7 - count))
    tidy_up(store)

    assert pictures_in(tmp_path) == {part.event_id for part in going[count:]}
    assert store.last_seq("top") == len(store.between("top", 1, 9, 9)) == 7  # results stay
    assert check(tmp_path).problems == ()


def test_bytes_take_pictures_first_and_then_the_oldest_results(tmp_path: Path) -> None:
    """Database and pictures together hold `max_bytes`; what waits for delivery stays."""
    store = a_store(tmp_path)
    with_pictures(store, [judged("fail") for _ in range(20)], 10_000)
    rows = store.commit([judged(station=name) for _ in range(900) for name in ("top", "side")])
    store.commit([], [row.id for row in rows[:-40]])
    store.collect_garbage(NOON)
    size = store.kept.database_bytes

    store.retention = replace(store.retention, max_bytes=size + 100_000)
    tidy_up(store)
    assert (store.kept.images, store.kept.purged) == (10, 0)
    store.retention = replace(store.retention, max_bytes=size // 2)
    tidy_up(store)
    assert store.kept.images == 0
    assert size // 4 < store.kept.database_bytes <= size // 2
    assert len(store.backlog(0, 100)) == 40
    left = {name: [row.seq for row in store.between(name, 1, 10**6, 10**6)] for name in ("top", "side")}
    for name, seqs in left.items():
        assert seqs == list(range(seqs[0], store.last_seq(name) + 1))
    store.retention = replace(store.retention, max_bytes=1)
    tidy_up_at_most(store, 50)
    assert [row.seq for row in store.backlog(0, 100)] == [row.seq for row in rows[-40:]]
    assert check(tmp_path).problems == ()


def tidy_up_at_most(store: object, steps: int) -> None:
    for _ in range(steps):
        store.collect_garbage(NOON)  # type: ignore[attr-defined]


def test_a_lower_limit_is_reached_in_small_steps_and_the_file_shrinks(tmp_path: Path) -> None:
    """Retention replaced at work: no step deletes more than its share, the disk gets its space."""
    store = a_store(tmp_path, outbox=False)
    for _ in range(10):
        store.commit([a_verdict() for _ in range(500)])
    beside(store, "PRAGMA wal_checkpoint(TRUNCATE)")
    before = (tmp_path / NAME).stat().st_size

    store.retention = replace(store.retention, keep_results=100)
    purged, most, purging = 0, 0, []
    while store.collect_garbage(NOON):
        most, purged = max(most, store.kept.purged - purged), store.kept.purged
        purging.append(store.kept.purging)
    beside(store, "PRAGMA wal_checkpoint(TRUNCATE)")

    assert (purged, most) == (4900, AT_ONCE)
    assert any(purging)
    assert not store.kept.purging
    assert [row.seq for row in store.between("top", 1, 9999, 9999)] == list(range(4901, 5001))
    assert (tmp_path / NAME).stat().st_size < before / 3


def test_a_result_that_is_committed_beyond_the_limit_takes_the_oldest_with_it(tmp_path: Path) -> None:
    """Also its picture: nothing is left that nobody would ever delete."""
    store = a_store(tmp_path, keep_results=3)
    parts = [judged("fail") for _ in range(5)]
    for part in parts:
        with_pictures(store, [part])
    tidy_up(store)

    assert pictures_in(tmp_path) == {part.event_id for part in parts[2:]}
    assert check(tmp_path).problems == ()


def test_below_the_floor_pictures_go_before_results_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each picture gives its bytes back; once there are none, and still no room, results are refused."""
    store = a_store(tmp_path, min_free_bytes=10 * MB)
    with_pictures(store, [judged("pass"), judged("fail")], 1 * MB)
    free = 8 * MB

    def left(_: Path) -> int:
        return free + 2 * MB - sum(map(os.path.getsize, (tmp_path / "evidence").glob("*/*/*.jpg")))

    for module in ("maintenance", "store"):
        monkeypatch.setattr(f"agent.store.{module}.disk_free", left)
    free = 9 * MB  # of which one picture is missing: the pass
    tidy_up(store)
    assert len(pictures_in(tmp_path)) == 1
    assert store.commit([judged()])
    free = 5 * MB
    tidy_up(store)
    assert pictures_in(tmp_path) == set()
    with pytest.raises(DiskTrouble, match=r"less than 10 MB free.*min_free_mb"):
        store.commit([judged()])


def test_settings_say_the_same_in_megabytes() -> None:
    """Every limit of the config arrives."""
    storage = StorageSettings(
        keep_results=1, max_waiting=2, keep_days=3, max_mb=4, min_free_mb=5, ballast_mb=6,
        images=EvidenceSettings(keep_days=7, max_mb=8),
    )  # fmt: skip
    assert Retention.of(storage) == Retention(1, 2, 3, 4 * MB, 7, 8 * MB, 5 * MB, 6 * MB)


def fill(path: Path) -> None:
    with path.open("wb", buffering=0) as filler, suppress(OSError):
        while filler.write(bytes(4096)):
            pass


@pytest.mark.slow
def test_on_a_full_disk_ballast_and_pictures_make_room(tmp_path: Path) -> None:
    """A file system of 4 MB that somebody fills: results go on, pictures go, nothing breaks."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "none", str(disk)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting a small file system needs root")
    try:
        store = a_store(disk / "data", ballast_bytes=500_000)
        with_pictures(store, [judged("fail") for _ in range(10)], 100_000)
        tidy_up(store)
        assert (disk / "data" / "ballast").stat().st_size == 500_000
        fill(disk / "filler")
        stored, refused = 0, 0
        for _ in range(60):
            try:
                stored += len(store.commit([judged() for _ in range(5)]))
            except DiskTrouble as error:
                refused += error.full
                store.make_room(NOON)
            tidy_up_at_most(store, 3)
        assert refused >= 1
        assert stored >= 200
        assert 0 < len(pictures_in(disk / "data")) < 10
        (disk / "filler").unlink()
        tidy_up(store)
        assert (disk / "data" / "ballast").stat().st_size == 500_000
        assert len(store.backlog(0, 10**6)) == stored
        assert check(disk / "data").problems == ()
    finally:
        close_stores()
        subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.slow
def test_a_full_disk_does_not_stop_inspection_and_ends_by_itself(tmp_path: Path) -> None:
    """Ballast, pictures, memory: in that order they are used up; with space again all is stored in order."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "none", str(disk)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting a small file system needs root")
    try:
        store = a_store(disk / "data", ballast_bytes=300_000)
        with_pictures(store, [judged("fail") for _ in range(5)], 100_000)
        tidy_up(store)
        publisher = a_publisher(store, None)
        thread = threading.Thread(target=publisher.run)
        thread.start()
        fill(disk / "filler")
        put = 0
        deadline = time.monotonic() + 60
        while put - publisher.stats().stored < 200:
            assert time.monotonic() < deadline
            publisher.put([a_verdict() for _ in range(20)])
            put += 20
            time.sleep(0.02)
            fill(disk / "filler2")  # somebody takes what we give back
        stats = publisher.stats()
        assert (stats.lost, pictures_in(disk / "data")) == (0, set())
        assert [c.code for c in conditions(stats, [])] == ["store"]
        (disk / "filler").unlink()
        (disk / "filler2").unlink()
        wait_until(lambda: publisher.stats().stored == put, 10)
        wait_until(lambda: publisher.stats().store_problem is None)
        publisher.stop(5, availability("stopped"))
        thread.join(20)
        again = a_store(disk / "data")
        assert [row.seq for row in again.between("top", 6, 10**6, 10**6)] == list(range(6, put + 6))
        assert check(disk / "data").problems == ()
    finally:
        close_stores()
        subprocess.run(["umount", str(disk)], check=True)


def test_a_lock_met_while_tidying_is_over_once_tidying_works(tmp_path: Path) -> None:
    """Also on a line that stands still, where no result comes to say so."""
    store = a_store(tmp_path)
    publisher = a_publisher(store, None)
    store.commit([a_verdict() for _ in range(5)])
    store.commit([], range(1, 6))
    store.retention = replace(store.retention, keep_results=1)
    with closing(sqlite3.connect(store.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        upkeep(publisher).collect_garbage(1e9)
        assert "locked" in str(publisher.stats().store_problem)
    upkeep(publisher).collect_garbage(2e9)
    assert publisher.stats().store_problem is None
