"""A damaged database is put aside, what can be read goes on, and the agent always starts."""

from __future__ import annotations

import random
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest

from agent.store.database import NAME, Damaged
from agent.store.integrity import check
from agent.telemetry.health import conditions
from tests.faults.damage_store import survive
from tests.support.evidence_site import NOON, judged, pictures_in, with_pictures
from tests.support.insides import upkeep
from tests.support.mqtt_peers import wait_until
from tests.support.places import ROOT
from tests.support.verdicts import a_publisher, a_store, a_verdict, availability, beside, close_stores


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    yield
    close_stores()


@pytest.mark.parametrize("seed", range(20))
def test_a_page_of_noise_costs_its_own_results_at_most(tmp_path: Path, seed: int) -> None:
    """Numbers go on, what waited waits, the damaged file is untouched, and the next start is an ordinary one.

    More of them: python -m tests.faults.damage_store --seeds 200
    """
    survive(tmp_path / "data", seed)


@pytest.mark.slow
@pytest.mark.parametrize("torn", ["cut", "zeros", "noise"])
def test_a_log_that_is_torn_anywhere_opens(tmp_path: Path, torn: str) -> None:
    """At each 512-byte boundary of the last commits: whole commits stay, no gap, no number twice."""
    store = a_store(tmp_path / "data")
    store.commit([a_verdict() for _ in range(20)])
    beside(store, "PRAGMA wal_checkpoint(TRUNCATE)")
    log = tmp_path / "data" / f"{NAME}-wal"
    for _ in range(3):
        store.commit([a_verdict() for _ in range(2)])
    content = log.read_bytes()
    seen = set()
    for number, boundary in enumerate([*range(0, len(content), 512), len(content)]):
        copy = tmp_path / f"{number}"
        copy.mkdir()
        shutil.copy(tmp_path / "data" / NAME, copy / NAME)
        rest = len(content) - boundary
        tail = {"cut": b"", "zeros": bytes(rest), "noise": random.Random(number).randbytes(rest)}[torn]
        (copy / log.name).write_bytes(content[:boundary] + tail)
        again = a_store(copy)
        last = again.last_seq("top")
        assert [row.seq for row in again.between("top", 1, 99, 99)] == list(range(1, last + 1))
        assert [row.seq for row in again.commit([a_verdict()])] == [last + 1]
        assert again.damage is None
        seen.add(last)
        again.close()
        shutil.rmtree(copy)
    assert seen == {20, 22, 24, 26}


def test_damage_that_is_met_at_work_is_mended_at_work(tmp_path: Path) -> None:
    """Inspection goes on; every result before and after is stored and waits; health says what to do."""
    store = a_store(tmp_path)
    publisher = a_publisher(store, None)
    thread = threading.Thread(target=publisher.run)
    thread.start()
    publisher.put([a_verdict() for _ in range(500)])
    wait_until(lambda: publisher.stats().stored == 500)
    with sqlite3.connect(tmp_path / NAME) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        (root,) = db.execute(
            "SELECT rootpage FROM sqlite_schema WHERE name = 'outbox_station_seq'"
        ).fetchone()
    with (tmp_path / NAME).open("r+b") as file:
        file.seek((root - 1) * 4096)
        file.write(random.Random(1).randbytes(4096))
    # The pages that SQLite holds in memory are read again once somebody else has written.
    with sqlite3.connect(tmp_path / NAME) as db:
        db.execute("PRAGMA user_version = 2")
    publisher.put([a_verdict() for _ in range(10)])
    wait_until(lambda: publisher.stats().stored == 510)
    wait_until(lambda: publisher.stats().damage is not None)
    found = conditions(publisher.stats(), [])
    publisher.stop(5, availability("stopped"))
    thread.join(20)

    assert [(c.code, c.subject) for c in found] == [("store", "mekiki.db")]
    assert "move mekiki.db.damaged-" in found[0].message
    again = a_store(tmp_path)
    assert [row.seq for row in again.between("top", 1, 9999, 9999)] == list(range(1, 511))
    assert len(again.backlog(0, 9999)) == 510
    assert check(tmp_path).problems == ()


def test_pictures_stay_with_their_results(tmp_path: Path) -> None:
    """Those whose result was lost are moved aside; the others are recorded again, whatever page is gone."""
    store = a_store(tmp_path)
    parts = [judged("fail") for _ in range(30)]
    with_pictures(store, parts)
    beside(store, "PRAGMA wal_checkpoint(TRUNCATE)")
    ((root,),) = beside(store, "SELECT rootpage FROM sqlite_schema WHERE name = 'image'")
    store.close()
    with (tmp_path / NAME).open("r+b") as file:
        file.seek((root - 1) * 4096)
        file.write(random.Random(1).randbytes(4096))

    store = a_store(tmp_path)

    assert store.damage is not None
    assert pictures_in(tmp_path) == {part.event_id for part in parts}
    assert store.kept.images == 30
    assert check(tmp_path).problems == ()


def test_without_its_first_page_results_are_found_by_their_bytes(tmp_path: Path) -> None:
    """SQLite reads nothing of it: results of either version are there all the same, and are sent again."""
    store = a_store(tmp_path / "data")
    rows = []
    for store.version in (1, 2):
        rows += store.commit([a_verdict(station) for _ in range(50) for station in ("top", "side")])
    store.commit([], [row.id for row in rows[:50]])
    store.close()
    copy = tmp_path / "copy"
    copy.mkdir()
    shutil.copy(tmp_path / "data" / NAME, copy / NAME)
    with (copy / NAME).open("r+b") as file:
        file.write(random.Random(1).randbytes(4096))

    again = a_store(copy)

    assert again.damage is not None
    for station in ("top", "side"):
        assert [row.seq for row in again.between(station, 1, 999, 999)] == list(range(1, 101))
        assert again.last_seq(station) == 100
    assert len(again.backlog(0, 999)) == 200
    assert check(copy).problems == ()


def test_an_exchange_that_was_cut_off_is_completed(tmp_path: Path) -> None:
    """The power goes when the old one was put aside and the new one not moved in yet."""
    store = a_store(tmp_path)
    store.commit([a_verdict() for _ in range(3)])
    store.close()
    (tmp_path / NAME).rename(tmp_path / f"{NAME}.new")

    assert a_store(tmp_path).last_seq("top") == 3


_FAILS = """
import sys, time
sys.path[:0] = ["."]
from pathlib import Path
from tests.support.verdicts import a_store, a_verdict
from agent.store.database import DiskTrouble
store = a_store(Path(sys.argv[1]))
told, refused, pending = [], 0, None
deadline = time.monotonic() + 60
while len(told) < 60 and time.monotonic() < deadline:
    pending = pending or [a_verdict(), a_verdict()]
    try:
        told += [row.seq for row in store.commit(pending)]
        pending = None
    except DiskTrouble:
        refused += 1
print(len(told), told == list(range(1, len(told) + 1)), refused)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "fault",
    ["fdatasync:error=EIO:when=20+3", "pwrite64:error=ENOSPC:when=90+61", "pwrite64:error=EIO:when=90+61"],
)
def test_a_disk_that_fails_now_and_then_loses_nothing(tmp_path: Path, fault: str) -> None:
    """Errors of the disk, put in by strace: what was said to be stored is there, without gaps."""
    strace = shutil.which("strace")
    if strace is None:
        pytest.skip("needs strace: tests/setup-services.sh")
    run = subprocess.run(
        [strace, "-f", "-qq", "-o", "/dev/null", "-e", f"inject={fault}", sys.executable, "-c", _FAILS,
         str(tmp_path)],
        capture_output=True, text=True, timeout=120, cwd=ROOT,
    )  # fmt: skip
    if "PTRACE" in run.stderr or "Operation not permitted" in run.stderr:
        pytest.skip("strace may not trace here")
    told, gapless, refused = run.stdout.split()
    assert (int(told), gapless) == (60, "True"), run.stderr
    assert int(refused) > 0
    store = a_store(tmp_path)
    assert [row.seq for row in store.backlog(0, 999)] == list(range(1, 61))
    assert check(tmp_path).problems == ()


COLUMNS = ["station", "event_id", "decided_at", "verdict", "payload"]


def flip(folder: Path, text: str, place: int, bit: int) -> None:
    """Flip one bit of a text that stands in the database file."""
    content = bytearray((folder / NAME).read_bytes())
    content[content.rindex(text.encode()) + place] ^= 1 << bit
    (folder / NAME).write_bytes(content)


@pytest.mark.parametrize("bit", [0, 7])
@pytest.mark.parametrize("delivered", [True, False])
def test_one_flipped_bit_in_the_newest_result_keeps_nobody_from_starting(
    tmp_path: Path, bit: int, delivered: bool
) -> None:
    """No UTF-8, or no JSON; that result alone is lost, if it is, and it is not sent as it is."""
    store = a_store(tmp_path)
    rows = store.commit([a_verdict() for _ in range(20)])
    if delivered:
        store.commit([], [row.id for row in rows])
    store.close()
    flip(tmp_path, rows[-1].payload, 0, bit)

    store = a_store(tmp_path)
    a_publisher(store, None)
    try:
        found = store.between("top", 1, 99, 99)
    except Damaged as error:
        store.mend(error)
        found = store.between("top", 1, 99, 99)
    assert [row.seq for row in found] == list(range(1, 20))
    assert [row.seq for row in store.backlog(0, 99)] == ([] if delivered else list(range(1, 20)))
    assert [row.seq for row in store.commit([a_verdict()])] == [21]


@pytest.mark.parametrize("column", COLUMNS)
def test_bytes_in_the_place_of_a_text_end_nothing(tmp_path: Path, column: str) -> None:
    """One flipped bit of a row's header; of the newest and of the oldest result. Nothing is lost."""
    store = a_store(tmp_path, keep_days=30)
    rows = store.commit([judged() for _ in range(20)])
    beside(store, f"UPDATE verdict SET {column} = CAST({column} AS BLOB) WHERE seq IN (1, 20)")
    store.close()
    assert any("bytes" in problem or "says" in problem for problem in check(tmp_path).problems)
    _at_work(tmp_path, [row.seq for row in rows])


@pytest.mark.parametrize("column", ["event_id", "station", "day"])
@pytest.mark.parametrize("doomed", [0, 1])
def test_bytes_in_the_place_of_a_text_of_a_picture_end_nothing(
    tmp_path: Path, column: str, doomed: int
) -> None:
    store = a_store(tmp_path)
    parts = [judged("fail") for _ in range(20)]
    with_pictures(store, parts, deliver=False)
    beside(store, f"UPDATE image SET {column} = CAST({column} AS BLOB), doomed = {doomed} WHERE seq = 20")
    store.close()
    assert any("bytes" in problem for problem in check(tmp_path).problems)
    _at_work(tmp_path, list(range(1, 21)), image_bytes=15_000)
    assert len(pictures_in(tmp_path)) in (14, 15)


def _at_work(folder: Path, numbers: list[int], **limits: int) -> None:
    """Start, send everything, delete, tell: as an agent does, and mend what is met."""
    store = a_store(folder, keep_days=30, **limits)
    publisher = a_publisher(store, None)
    for act in (
        lambda: upkeep(publisher).collect_garbage(time.monotonic()),
        lambda: store.backlog(0, 99),
        lambda: [store.collect_garbage(NOON) for _ in range(9)],
    ):
        try:
            act()
        except Damaged as error:
            store.mend(error)
            act()
    oldest = publisher.stats().kept.oldest_at
    assert oldest is None or datetime.fromisoformat(oldest)
    assert [row.seq for row in store.backlog(0, 99)] == numbers
    assert [row.seq for row in store.between("top", 1, 99, 99)] == numbers
    assert [row.seq for row in store.commit([a_verdict()])] == [21]
    assert store.kept.images == len(pictures_in(folder))


def test_damage_that_is_met_while_somebody_asks_is_mended(tmp_path: Path) -> None:
    """Whoever asks again gets an answer."""
    store = a_store(tmp_path, outbox=False)
    publisher = a_publisher(store, None)
    text = store.commit([a_verdict() for _ in range(3)]) or store.between("top", 1, 1, 1)[0].payload
    beside(store, "PRAGMA wal_checkpoint(TRUNCATE)")
    store.close()
    flip(tmp_path, str(text), 0, 7)
    publisher = a_publisher(a_store(tmp_path, outbox=False), None)
    thread = threading.Thread(target=publisher.run)
    thread.start()
    try:
        assert publisher.repeat("top", 1, 3).result(60).status == "refused"
        wait_until(lambda: publisher.stats().damage is not None)
        assert publisher.repeat("top", 2, 3).result(60).status == "accepted"
    finally:
        publisher.stop(1, availability("stopped"))
        thread.join(20)
