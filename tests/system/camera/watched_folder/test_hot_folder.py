"""A watched folder as a camera: complete files only, each once, put away when its result is stored."""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest
from PIL import Image as Pillow
from pydantic import ValidationError

from camera.core.frame import CameraError, Capture, Fault
from camera.core.settings import FolderCamera
from camera.core.source import Source
from camera.sources.factory import open_source
from camera.watched_folder.arrivals import LOOK_AHEAD, Arrival, Arrivals
from camera.watched_folder.source import TRIES, HotFolder
from tests.support.insides import limit
from tests.support.mqtt_peers import wait_until

SOON_S = 20.0


def picture(path: Path, brightness: int = 100, mtime_s: float | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Pillow.new("RGB", (20, 16), (brightness, 0, 0)).save(path)
    if mtime_s is not None:
        os.utime(path, (mtime_s, mtime_s))
    return path


def settings(folder: Path, **watch: Any) -> FolderCamera:
    return FolderCamera(path=str(folder), watch={"settle_s": 0.2, "poll_s": 0.05, **watch})


class Line:
    """Takes captures in a thread of its own, and stores the result of each unless told otherwise."""

    def __init__(self, source: Source) -> None:
        self.source, self.given, self.stop = source, list[Capture](), Event()
        self.store = True
        self._thread = Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        for capture in self.source.captures(self.stop):
            self.given.append(capture)
            if self.store and capture.receipt is not None:
                capture.receipt.stored(capture.fault)

    @property
    def names(self) -> list[str | None]:
        return [capture.part_id for capture in self.given]

    def end(self) -> None:
        self.stop.set()
        self._thread.join(SOON_S)
        assert not self._thread.is_alive()


@contextmanager
def line(folder: Path, keep: Path | None, **watch: Any) -> Iterator[Line]:
    running = Line(open_source(settings(folder, **watch), keep))
    try:
        yield running
    finally:
        running.end()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    return tmp_path / "in"


@pytest.fixture
def keep(tmp_path: Path) -> Path:
    return tmp_path / "keep"


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir())


def until(condition: Callable[[], object]) -> None:
    wait_until(condition, SOON_S)


def a_while() -> None:
    """Several looks at the folder and several times the time that a file takes to settle."""
    time.sleep(0.8)


def test_files_come_by_their_age_and_are_moved_when_they_are_done(folder: Path, keep: Path) -> None:
    """Sub-folders stay as they are; capitals in the suffix count; new ones are found while it runs."""
    now = time.time()
    picture(folder / "b.png", mtime_s=now - 50)
    picture(folder / "a" / "x.PNG", mtime_s=now - 100)
    picture(folder / "a.png", mtime_s=now - 50)
    with line(folder, keep) as running:
        until(lambda: len(files(folder / "done")) == 3)
        assert running.names == ["a/x.PNG", "a.png", "b.png"]
        assert files(folder) == ["done/a.png", "done/a/x.PNG", "done/b.png"]
        picture(folder / "later.png")
        until(lambda: "done/later.png" in files(folder))
    assert not running.source.live
    assert (running.source.stats.frames, running.source.stats.trouble) == (4, None)


def test_nothing_is_given_before_it_is_complete(folder: Path, keep: Path) -> None:
    """A slow writer, a name of a transfer, a hidden one, an empty one: none of them before its time."""
    content = picture(folder.parent / "whole.png").read_bytes()
    with line(folder, keep, settle_s=1.0) as running:
        with (folder / "slow.png").open("wb") as slow:
            for part in range(8):
                slow.write(content[part * len(content) // 8 : (part + 1) * len(content) // 8])
                slow.flush()
                if part == 1:
                    for name in ("up.png.part", "up.png.filepart", "up.tmp", ".up.png"):
                        (folder / name).write_bytes(content)
                    (folder / "empty.png").touch()
                time.sleep(0.2)
                assert running.given == []
        until(lambda: running.names == ["slow.png"])
        old = folder.parent / "old.png"
        shutil.copy(folder.parent / "whole.png", old)
        os.utime(old, (1, 1))
        renamed_s = time.monotonic()
        old.rename(folder / "old.png")  # its time is long ago, by whatever clock
        (folder / "up.png.part").rename(folder / "up.png")
        until(lambda: len(running.given) == 3)
        assert running.given[1].captured_ns / 1e9 - renamed_s >= 1.0
        assert sorted(running.names) == ["old.png", "slow.png", "up.png"]
    assert all(capture.fault is None for capture in running.given)


def test_a_file_that_stays_empty_is_told_once_and_left(
    folder: Path, keep: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("a.png", "b.png"):
        (folder / name).touch()
    picture(folder / "c.png")
    with line(folder, keep, settle_s=0.05) as running:
        until(lambda: "stays empty" in caplog.text)
        a_while()
    assert running.names == ["c.png"]
    assert files(folder) == ["a.png", "b.png", "done/c.png"]
    assert [r.message.count("stays empty") for r in caplog.records if r.levelno >= logging.WARNING] == [1]


def test_a_broken_picture_is_one_capture_and_goes_to_failed(folder: Path, keep: Path) -> None:
    """It is read some times, in case its writer only paused, then it is unreadable, once."""
    whole = picture(folder / "a" / "good.png").read_bytes()
    (folder / "a" / "bad.png").write_bytes(whole[: len(whole) // 2])
    (folder / "half.png").write_bytes(whole[: len(whole) // 2])
    with line(folder, keep) as running:
        until(lambda: "a/good.png" in running.names)
        with (folder / "half.png").open("ab") as paused:
            paused.write(whole[len(whole) // 2 :])
        until(lambda: len(running.given) == 3)
        until(lambda: len(files(folder)) == len(files(folder / "done")) + len(files(folder / "failed")))
        a_while()
    assert {c.part_id: c.fault for c in running.given} == {
        "a/good.png": None, "half.png": None, "a/bad.png": Fault.UNREADABLE
    }  # fmt: skip
    assert files(folder) == ["done/a/good.png", "done/half.png", "failed/a/bad.png"]
    assert TRIES > 1


def test_the_same_name_again_is_a_new_part_and_nothing_is_overwritten(folder: Path, keep: Path) -> None:
    """A camera that always writes the same name; also over a restart, and over what lay in done/ before."""
    picture(folder / "done" / "image.png", 1)
    for brightness in (2, 3, 4):
        picture(folder / "image.png", brightness)
        with line(folder, keep) as running:
            until(lambda: files(folder) == files(folder) and not (folder / "image.png").exists())
            assert running.names == ["image.png"]
    found = {name: Pillow.open(folder / name).getpixel((0, 0))[0] for name in files(folder)}
    assert found == {
        "done/image.png": 1, "done/image-1.png": 2, "done/image-2.png": 3, "done/image-3.png": 4
    }  # fmt: skip


def test_what_is_not_stored_is_given_again_and_what_is_stored_is_not(
    folder: Path, keep: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Read is not done: lost ones come again in the same run, unanswered ones after a restart."""
    monkeypatch.setattr("camera.watched_folder.source.LEAVE_S", 0.1)
    for number in range(4):
        picture(folder / f"{number}.png", mtime_s=1000 + number)
    source = HotFolder(settings(folder), settings(folder).watch, keep)  # type: ignore[arg-type]
    stop = Event()
    captures = source.captures(stop)
    first, second, third = (next(captures) for _ in range(3))
    assert all(capture.receipt is not None for capture in (first, second, third))
    first.receipt.stored(None)  # type: ignore[union-attr]
    second.receipt.lost()  # type: ignore[union-attr]
    assert [next(captures).part_id, next(captures).part_id] == ["3.png", "1.png"]
    assert files(folder) == ["1.png", "2.png", "3.png", "done/0.png"]
    del captures, source  # as by kill -9, but for the time that it waits for the others
    with line(folder, keep) as again:
        until(lambda: len(files(folder / "done")) == 4)
        assert again.names == ["1.png", "2.png", "3.png"]


def test_the_end_waits_for_results_that_are_on_their_way(folder: Path, keep: Path) -> None:
    """A reload or a stop comes between picture and result: it is put away all the same."""
    picture(folder / "a.png")
    with line(folder, keep) as running:
        running.store = False
        until(lambda: running.given)
        running.stop.set()
        time.sleep(0.3)
        assert files(folder) == ["a.png"]
        running.given[0].receipt.stored(None)  # type: ignore[union-attr]
    assert files(folder) == ["done/a.png"]


def test_a_file_that_is_replaced_before_it_is_put_away_is_a_new_part(folder: Path, keep: Path) -> None:
    picture(folder / "a.png", 10)
    with line(folder, keep) as running:
        running.store = False
        until(lambda: running.given)
        picture(folder / "a.png", 20, mtime_s=5)
        running.store = True
        running.given[0].receipt.stored(None)  # type: ignore[union-attr]
        until(lambda: files(folder) == ["done/a.png"])
    assert [int(capture.image[0, 0, 0]) for capture in running.given] == [10, 20]  # type: ignore[index]


def test_marked_files_stay_and_are_not_inspected_after_a_restart(folder: Path, keep: Path) -> None:
    """On a share that is read-only: nothing is written there; a changed file is a new one."""
    odd = [b"bad\xff.png", b"two\nlines.png"]
    for name in odd:
        shutil.copy(picture(folder.parent / "whole.png"), os.path.join(os.fsencode(folder), name))  # noqa: PTH118
    for number in range(3):
        picture(folder / f"{number}.png")
    before = files(folder)
    with read_only(folder):
        with line(folder, keep, when_done="mark") as running:
            until(lambda: len(running.given) == 5)
        assert "bad\N{REPLACEMENT CHARACTER}.png" in running.names
    with line(folder, keep, when_done="mark") as again:
        a_while()
        assert again.given == []
        picture(folder / "1.png", 77, mtime_s=1)
        until(lambda: again.names == ["1.png"])
    assert files(folder) == before


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Root may write everywhere but on a file system that is read-only."""
    if os.geteuid():
        folder.chmod(0o500)
        yield
        folder.chmod(0o700)
        return
    subprocess.run(["mount", "--bind", str(folder), str(folder)], check=True)
    subprocess.run(["mount", "-o", "remount,bind,ro", str(folder)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_deleted_are_only_those_that_were_inspected(folder: Path, keep: Path) -> None:
    picture(folder / "a.png")
    (folder / "bad.png").write_text("no picture")
    with line(folder, keep, when_done="delete"):
        until(lambda: files(folder) == ["failed/bad.png"])


def test_a_folder_that_vanishes_is_told_once_and_goes_on_by_itself(
    folder: Path, keep: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """One capture, a problem for health, one line when it is back; what was there is inspected then."""
    caplog.set_level(logging.INFO)
    with line(folder, keep, settle_s=1.0) as running:
        for number in range(50):
            picture(folder / f"{number:02}.png")
        a_while()
        away = folder.rename(folder.parent / "away")
        until(lambda: running.given)
        a_while()
        assert [c.fault for c in running.given] == [Fault.CAMERA_OFFLINE]
        assert not running.source.stats.connected
        assert "no such folder" in (running.source.stats.problem or "")
        away.rename(folder)
        until(lambda: len(files(folder / "done")) == 50)
    assert [c.fault for c in running.given[1:]] == [None] * 50
    stats = running.source.stats
    assert (stats.connected, stats.problem, stats.reconnects) == (True, None, 1)
    assert [r.message for r in caplog.records if r.levelno >= logging.WARNING] == []  # the feed tells
    assert [r.message for r in caplog.records if r.levelno == logging.INFO] == [f"camera: {folder} is back"]


def test_a_share_that_hangs_is_offline(folder: Path, keep: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its server is gone, and the kernel keeps whoever asks: health says so meanwhile."""
    answers = Event()
    scan = Arrivals.scan

    def hang(self: Arrivals, *arguments: Any) -> list[Arrival]:
        answers.wait(SOON_S)
        return scan(self, *arguments)

    monkeypatch.setattr(Arrivals, "scan", hang)
    monkeypatch.setattr("camera.watched_folder.source.HANGS_S", 0.2)
    picture(folder / "a.png")
    with line(folder, keep) as running:
        until(lambda: "does not answer" in (running.source.stats.problem or ""))
        assert not running.source.stats.connected
        answers.set()
        until(lambda: running.source.stats.connected)
        until(lambda: files(folder) == ["done/a.png"])


def test_a_share_that_is_unmounted_is_no_empty_folder(folder: Path, keep: Path) -> None:
    """Its mount point stays, and is empty: it is offline, and what was marked is not forgotten."""
    made = subprocess.run(["mount", "-t", "tmpfs", "none", str(folder)], check=False, capture_output=True)
    if made.returncode:
        pytest.skip("this user may not mount")
    try:
        picture(folder / "a.png")
        with line(folder, keep, when_done="mark") as running:
            until(lambda: running.names == ["a.png"])
            a_while()
            subprocess.run(["umount", "-l", str(folder)], check=True)
            until(lambda: len(running.given) == 2)
            assert running.given[1].fault is Fault.CAMERA_OFFLINE
            assert "mount it again" in (running.source.stats.problem or "")
        with line(folder, keep, when_done="mark"):  # started before it is mounted
            a_while()
        picture(folder / "a.png")
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=False, capture_output=True)


def test_marks_outlive_a_start_without_the_share_and_go_with_their_files(
    folder: Path, keep: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not one file there looks like an empty mount point: nothing is forgotten. Else who is gone is."""
    from camera.watched_folder.done_ledger import DoneLedger

    limit(monkeypatch, "marks are kept beyond their files", 0)
    for number in range(3):
        picture(folder / f"{number}.png")
    with line(folder, keep, when_done="mark") as running:
        until(lambda: len(running.given) == 3)
    away = folder.rename(folder.parent / "away")
    folder.mkdir()
    with line(folder, keep, when_done="mark"):
        a_while()
    folder.rmdir()
    away.rename(folder)
    with line(folder, keep, when_done="mark") as again:
        a_while()
        assert again.given == []
        (folder / "0.png").unlink()
        a_while()
        picture(folder / "0.png")
        until(lambda: again.names == ["0.png"])
        for number in range(1, 3):
            (folder / f"{number}.png").unlink()
        (file,) = keep.iterdir()
        until(lambda: len(file.read_text().splitlines()) == 2)  # its header, and the one that is left
    assert len(DoneLedger(file, folder)) == 1


def test_a_file_in_the_place_of_done_is_told_once_and_holds_nothing_up(
    folder: Path, keep: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What cannot be moved stays, is not inspected again, not even after a restart, and moves by itself."""
    limit(monkeypatch, "a picture is put away again", 0.3)
    (folder / "done").write_text("in the way")
    for number in range(20):
        picture(folder / f"{number:02}.png")
    with line(folder, keep) as running:
        until(lambda: len(running.given) == 20)
        until(lambda: running.source.stats.trouble)
        picture(folder / "later.png")
        until(lambda: len(running.given) == 21)
        a_while()
    assert len(set(running.names)) == 21
    told = [r.message for r in caplog.records if r.levelno >= logging.WARNING]
    assert len(told) == 1
    for word in ("00.png", "done", "File exists", "ReadWritePaths", "when_done: mark"):
        assert word in told[0]
    with line(folder, keep) as again:
        until(lambda: again.source.stats.trouble)
        a_while()
        (folder / "done").unlink()
        until(lambda: len(files(folder / "done")) == 21)
        until(lambda: again.source.stats.trouble is None)
        assert again.given == []


def test_links_and_pipes_are_no_pictures(folder: Path, keep: Path) -> None:
    """Only regular files are read: a link may lead anywhere, and a pipe waits for its writer."""
    outside = picture(folder.parent / "outside" / "x.png")
    (folder / "link.png").symlink_to(outside)
    (folder / "linked").symlink_to(outside.parent)
    os.mkfifo(folder / "pipe.png")
    picture(folder / "a.png")
    with line(folder, keep) as running:
        until(lambda: (folder / "done" / "a.png").exists())
        a_while()
    assert running.names == ["a.png"]


def test_who_only_looks_leaves_the_files_and_sees_each_once(folder: Path) -> None:
    """`record`, `commission`: nobody stores results, nothing is put away."""
    picture(folder / "a.png")
    with line(folder, None) as running:
        until(lambda: running.names == ["a.png"])
        picture(folder / "b.png")
        until(lambda: running.names == ["a.png", "b.png"])
        a_while()
    assert all(capture.receipt is None for capture in running.given)
    assert files(folder) == ["a.png", "b.png"]


def test_pictures_wait_in_the_folder_while_no_result_can_be_stored(
    folder: Path, keep: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that is full for long: no more than so many are read, none is lost."""
    monkeypatch.setattr("camera.watched_folder.source.IN_FLIGHT", 5)
    for number in range(12):
        picture(folder / f"{number:02}.png")
    with line(folder, keep) as running:
        running.store = False
        until(lambda: len(running.given) == 5)
        a_while()
        assert len(running.given) == 5
        running.store = True
        for capture in running.given[:5]:
            capture.receipt.stored(None)  # type: ignore[union-attr]
        until(lambda: len(files(folder / "done")) == 12)
    assert len(running.given) == 12


def test_twenty_thousand_files_at_once(folder: Path, keep: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No more than so many are kept in mind; the oldest is first, and all of them come, once."""
    scan, found = Arrivals.scan, list[int]()

    def counted(self: Arrivals, *arguments: Any) -> list[Arrival]:
        arrived = scan(self, *arguments)
        found.append(len(arrived))
        return arrived

    monkeypatch.setattr(Arrivals, "scan", counted)
    whole = picture(folder.parent / "whole.png").read_bytes()
    for number in range(20_000):
        file = folder / f"{number:05}.png"
        file.write_bytes(whole)
        os.utime(file, (1_000_000 - number, 1_000_000 - number))
    source = open_source(settings(folder, settle_s=0.05), keep)
    assert isinstance(source, HotFolder)
    first = next(iter(source.captures(Event())))
    assert first.part_id == "19999.png"
    assert max(found) == LOOK_AHEAD
    with line(folder, keep, settle_s=0.05) as running:
        wait_until(lambda: len(running.given) == 20_000, 150)
        until(lambda: len(os.listdir(folder / "done")) == 20_000)  # noqa: PTH208
    assert len(set(running.names)) == 20_000


def test_rate_is_kept_and_an_empty_folder_is_no_trouble(folder: Path, keep: Path) -> None:
    for number in range(4):
        picture(folder / f"{number}.png")
    source = open_source(settings(folder).model_copy(update={"fps": 10.0}), keep)
    running = Line(source)
    until(lambda: len(running.given) == 4)
    running.end()
    assert running.given[3].captured_ns - running.given[0].captured_ns >= 0.29e9
    empty = folder.parent / "empty"
    empty.mkdir()
    with line(empty, keep) as other:
        a_while()
        assert (other.given, other.source.stats.connected) == ([], True)


def test_settings_that_cannot_be_are_refused(folder: Path, keep: Path) -> None:
    with pytest.raises(ValidationError, match="loop and watch exclude each other"):
        FolderCamera(path=str(folder), loop=True, watch={})
    for wrong in ({"settle_s": 0}, {"settle_s": 1e9}, {"poll_s": 0.0}, {"when_done": "burn"}, {"every": 1}):
        with pytest.raises(ValidationError):
            FolderCamera(path=str(folder), watch=wrong)
    with pytest.raises(CameraError, match="no such folder: mount it"):
        open_source(settings(folder / "nowhere"), keep)
    with line(folder, keep, when_done="mark"):
        picture(folder / "a.png")
        until(lambda: keep.is_dir())
    (file,) = keep.iterdir()
    file.write_text('{"schema": "mekiki.folder.v2"}\n')
    with pytest.raises(CameraError, match="newer version"):
        open_source(settings(folder), keep)


def test_a_power_cut_in_the_middle_of_a_mark_costs_that_mark(folder: Path, keep: Path) -> None:
    for number in range(3):
        picture(folder / f"{number}.png", mtime_s=1000 + number)
    with line(folder, keep, when_done="mark") as running:
        until(lambda: len(running.given) == 3)
    (file,) = keep.iterdir()
    file.write_bytes(file.read_bytes()[:-5])
    for names in (["2.png"], []):
        with line(folder, keep, when_done="mark") as again:
            a_while()
        assert again.names == names
