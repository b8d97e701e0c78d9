"""Pictures of parts: off by default, masked, in step with the database, and never in the inspector's way."""

from __future__ import annotations

import os
import random
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from agent.app.daemon import Daemon
from agent.config.loader import load
from agent.store.database import NAME
from agent.store.image_files import ImageFiles, Written
from agent.store.image_writer import MAX_PICTURES, MAX_STAGED, ImageWriter
from agent.store.integrity import check
from camera.pictures.images import read_image
from tests.support.evidence_site import (
    ALL,
    a_frame,
    judged,
    pictures_in,
    tidy_up,
    with_pictures,
)
from tests.support.mqtt_peers import wait_until
from tests.support.places import ROOT
from tests.support.running_agent import running, write_config, write_pictures
from tests.support.verdicts import a_publisher, a_store, availability, beside, close_stores


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    yield
    close_stores()


def rows_in(folder: Path) -> list[tuple[str, str, int]]:
    with sqlite3.connect(folder / NAME) as db:
        return db.execute("SELECT event_id, station, bytes FROM image ORDER BY event_id").fetchall()


def test_no_picture_is_kept_unless_somebody_says_so(tiny_bundle: Path, tmp_path: Path) -> None:
    """With the settings as they are shipped there is no folder for pictures, whatever the verdicts."""
    stations = {"line": {"camera": {"kind": "simulated", "parts": 20}}}
    Daemon(load(write_config(tmp_path, tiny_bundle, stations))).run()
    assert not (tmp_path / "data" / "evidence").exists()


def test_masks_are_burnt_into_what_is_stored(tiny_bundle: Path, tmp_path: Path) -> None:
    """White parts, the left half masked, the right third cut off: black stays black in every file."""
    pictures = write_pictures(tmp_path / "pictures", 0)
    for number in range(6):
        white = np.full((90, 120, 3), 250, np.uint8)
        white[0, number] = 0  # parts that are not the same
        Image.fromarray(white).save(pictures / f"{number}.png")
    stations = {
        "top": {
            "camera": {"kind": "folder", "path": str(pictures)},
            "quality": {"max_luma": 255},
            "roi": {
                "crop": [0.0, 0.0, 0.75, 1.0],
                "masks": {"lamp": [[0, 0], [0.375, 0], [0.375, 1], [0, 1]]},
            },
        }
    }
    storage = {"min_free_mb": 0, "ballast_mb": 0, "images": {"enabled": True, "sampled_passes": 1.0}}
    Daemon(load(write_config(tmp_path, tiny_bundle, stations, storage=storage))).run()

    data = tmp_path / "data"
    files = list((data / "evidence" / "top").glob("*/*.jpg"))
    assert len(files) == 6
    for file in files:
        picture = read_image(file)
        assert picture.shape == (90, 90, 3)
        assert picture[:, :40].max() < 16  # JPEG blurs by some grey levels
        assert picture[8:, 50:].min() > 230
    assert {event_id for event_id, _, _ in rows_in(data)} == {file.stem for file in files}
    assert check(data).problems == ()


def test_pictures_and_limits_are_set_while_the_agent_runs(tiny_bundle: Path, tmp_path: Path) -> None:
    """A saved config turns pictures on, then lowers what is kept; neither needs a restart."""
    stations = {"line": {"camera": {"kind": "simulated"}}}
    storage: dict[str, Any] = {"min_free_mb": 0, "ballast_mb": 0}
    data = tmp_path / "data"
    with running(load(write_config(tmp_path, tiny_bundle, stations, storage=storage))) as (daemon, _):
        wait_until(lambda: (data / NAME).exists())
        wait_until(lambda: daemon.started)
        images = {"enabled": True, "sampled_passes": 1.0}
        write_config(tmp_path, tiny_bundle, stations, storage={**storage, "images": images})
        daemon.reload("yamada")
        wait_until(lambda: len(pictures_in(data)) > 20)
        write_config(
            tmp_path, tiny_bundle, stations, storage={**storage, "keep_results": 10, "images": images}
        )
        daemon.reload("yamada")
        wait_until(lambda: 0 < len(pictures_in(data)) <= 20)
        wait_until(lambda: len(rows_in(data)) <= 20)
    assert check(data).problems == ()


def test_when_too_many_wait_the_least_evidence_is_given_up(tmp_path: Path) -> None:
    """Of 16 places a fail gets one from a pass, the newer from the older; every loss is counted."""
    evidence = ImageWriter(ImageFiles(tmp_path), ALL)
    verdicts = [judged("pass") for _ in range(MAX_PICTURES)] + [judged("fail") for _ in range(3)]
    for verdict in verdicts:
        evidence.offer(a_frame(verdict), verdict)
    late = judged("pass")
    evidence.offer(a_frame(late), late)
    evidence.end()
    evidence.run()

    kept = [written.event_id for written in evidence.take()]
    assert kept == [verdict.event_id for verdict in verdicts[4:]] + [late.event_id]
    assert evidence.dropped == 4


def test_offering_never_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that hangs holds up pictures, not the inspector."""
    hangs = threading.Event()
    monkeypatch.setattr(ImageFiles, "stage", lambda *_: hangs.wait(20))
    evidence = ImageWriter(ImageFiles(tmp_path), ALL)
    thread = threading.Thread(target=evidence.run)
    thread.start()
    began = time.monotonic()
    for _ in range(500):
        verdict = judged("fail")
        evidence.offer(a_frame(verdict), verdict)
    took_s = time.monotonic() - began
    hangs.set()
    evidence.end()
    thread.join(20)
    assert took_s < 5  # the disk hangs for 20
    assert 500 - MAX_PICTURES - 1 <= evidence.dropped <= 500 - MAX_PICTURES


def test_no_more_is_written_than_the_publisher_records(tmp_path: Path) -> None:
    """Is the database away, at most 64 pictures lie about unrecorded; the rest is dropped and counted."""
    evidence = ImageWriter(ImageFiles(tmp_path), ALL)
    thread = threading.Thread(target=evidence.run)
    thread.start()
    for _ in range(MAX_STAGED + MAX_PICTURES + 5):
        verdict = judged("fail")
        evidence.offer(a_frame(verdict), verdict)
        wait_until(lambda: evidence.unwritten == 0 or len(evidence.staged()) == MAX_STAGED)
    # At the end those that wait are dropped too, unless they are taken before.
    found = (len(ImageFiles(tmp_path).staged()), evidence.dropped)
    evidence.end()
    thread.join(20)
    assert found == (MAX_STAGED, 5)


def test_below_the_floor_no_picture_is_written(tmp_path: Path) -> None:
    """And somebody is told why; when there is room again pictures are kept again."""
    floor = 10**18
    evidence = ImageWriter(ImageFiles(tmp_path), ALL, lambda: floor)
    parts = [judged("fail"), judged("fail")]
    thread = threading.Thread(target=evidence.run)
    thread.start()
    evidence.offer(a_frame(parts[0]), parts[0])
    wait_until(lambda: evidence.dropped == 1)
    assert "min_free_mb" in str(evidence.problem)
    floor = 0
    evidence.offer(a_frame(parts[1]), parts[1])
    wait_until(lambda: len(ImageFiles(tmp_path).staged()) == 1)
    wait_until(lambda: evidence.problem is None)
    evidence.end()
    thread.join(20)


def test_a_picture_waits_for_its_result_and_goes_without_it(tmp_path: Path) -> None:
    """One whose result is to be committed is filed later, one whose result was lost is removed."""
    store = a_store(tmp_path)
    here, coming, lost = judged("fail"), judged("fail"), judged("fail")
    store.commit([here])
    for part in (here, coming, lost):
        store.files.stage(part.event_id, b"x" * 10)
    written = [Written(part.event_id, 10) for part in (here, coming, lost)]

    later = store.file(written, {coming.event_id})
    store.commit([coming])

    assert later == [written[1]]
    assert store.file(later) == []
    assert pictures_in(tmp_path) == {here.event_id, coming.event_id}
    assert store.files.staged() == []
    assert check(tmp_path).problems == ()


def test_a_picture_whose_result_was_lost_is_counted(tmp_path: Path) -> None:
    """It was to be kept and is not, like one that the disk or the queue gave up."""
    store = a_store(tmp_path)
    evidence = ImageWriter(store.files, ALL)
    publisher = a_publisher(store, None, evidence=evidence)
    lost, kept = judged("fail"), judged("fail")
    publisher.put([kept])
    for part in (lost, kept):
        evidence.offer(a_frame(part), part)
    threads = [threading.Thread(target=evidence.run), threading.Thread(target=publisher.run)]
    for thread in threads:
        thread.start()
    wait_until(lambda: publisher.stats().pictures_dropped == 1)
    wait_until(lambda: pictures_in(tmp_path) == {kept.event_id})
    evidence.end()
    publisher.stop(5, availability("stopped"))
    for thread in threads:
        thread.join(20)
    assert publisher.stats().pictures_dropped == 1


def test_the_publisher_records_what_was_written(tmp_path: Path) -> None:
    """Through both threads: every result that was to have a picture has one."""
    store = a_store(tmp_path)
    evidence = ImageWriter(store.files, ALL)
    publisher = a_publisher(store, None, evidence=evidence)
    threads = [threading.Thread(target=evidence.run), threading.Thread(target=publisher.run)]
    for thread in threads:
        thread.start()
    parts = [judged(("pass", "fail")[n % 2]) for n in range(40)]
    for part in parts:
        publisher.put([part])
        evidence.offer(a_frame(part), part)
        wait_until(lambda: evidence.unwritten < 8)
    wait_until(lambda: len(pictures_in(tmp_path)) == 40)
    publisher.keep(store.retention, 2)  # which it goes by at once
    wait_until(lambda: publisher.stats().kept.images == 40)
    evidence.end()
    publisher.stop(5, availability("stopped"))
    for thread in threads:
        thread.join(20)
    assert (publisher.stats().pictures_dropped, check(tmp_path).problems) == (0, ())


def test_a_crash_between_any_two_steps_leaves_nothing_wrong(tmp_path: Path) -> None:
    """Staged only; recorded and not moved; doomed with and without its file: the next start mends each."""
    store = a_store(tmp_path)
    parts = [judged("fail") for _ in range(5)]
    with_pictures(store, parts[1:4])
    store.commit([parts[0]])
    store.files.stage(parts[0].event_id, b"x" * 10)
    store.files.stage(parts[4].event_id, b"x" * 10)  # its result was lost
    day = parts[1].decided_at.date().isoformat()
    place = store.files.place("top", day, parts[1].event_id)
    place.rename(tmp_path / "evidence" / ".new" / place.name)
    beside(store, "UPDATE image SET doomed = 1 WHERE seq IN (2, 3)")
    store.files.remove("top", day, parts[2].event_id)
    store.close()

    store = a_store(tmp_path)
    tidy_up(store)

    assert pictures_in(tmp_path) == {parts[0].event_id, parts[1].event_id}
    assert check(tmp_path).problems == ()


@pytest.mark.slow
def test_kill_minus_nine_leaves_pictures_and_database_in_step(tmp_path: Path) -> None:
    """Killed 12 times at random while it writes, records and deletes: nothing wrong after the next start."""
    dice = random.Random(3)
    for _ in range(12):
        victim = subprocess.Popen(
            [sys.executable, "-m", "tests.support.evidence_site", str(tmp_path)],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": "."},
            stdout=subprocess.PIPE,
        )
        assert victim.stdout is not None
        victim.stdout.readline()
        time.sleep(dice.uniform(0.0, 0.4))
        victim.kill()
        victim.wait(10)
        victim.stdout.close()
        store = a_store(tmp_path, keep_results=60, image_bytes=100_000)
        assert check(tmp_path).problems == ()
        assert store.files.staged() == []
        store.close()
    assert len(rows_in(tmp_path)) > 10


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        ("DELETE FROM verdict WHERE seq = 2", "top 2: waits for delivery and is not stored"),
        ("DELETE FROM verdict WHERE seq = 2", "top: 2 to 2 are missing"),
        ("DELETE FROM verdict WHERE seq = 1", "top 1: has a picture and is not stored"),
        ("DELETE FROM verdict WHERE seq = 1", "top 1: has a label and is not stored"),
        ("UPDATE image SET bytes = 5", "has 1000 bytes, not 5"),
        ("DELETE FROM image", "no result has this picture"),
        ("UPDATE image SET day = '2020-01-01'", "is not there"),
        ("UPDATE numbering SET last_seq = 1", "top 3: is numbered beyond what was given out"),
        ("UPDATE verdict SET payload = '{' WHERE seq = 3", "top 3: its payload cannot be read"),
        ("UPDATE verdict SET verdict = 'pass' WHERE seq = 3", "top 3: its payload says"),
    ],
)
def test_check_finds_what_does_not_agree(tmp_path: Path, damage: str, said: str) -> None:
    """Each kind of damage is named; before it there was nothing to find."""
    store = a_store(tmp_path)
    part = judged("fail")
    with_pictures(store, [part])
    store.commit([judged("fail") for _ in range(2)])
    store.label(part.event_id, "ok", "yamada", "2026-01-01T00:00:00.000Z")
    assert check(tmp_path).problems == ()

    beside(store, damage)

    assert any(said in line for line in check(tmp_path).problems), check(tmp_path).problems
