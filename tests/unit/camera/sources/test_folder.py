"""A folder of pictures as a camera."""

from __future__ import annotations

import logging
import time
from itertools import islice
from threading import Event, Timer

import pytest
from PIL import Image as Pillow

from camera.core.frame import CameraError, Fault
from camera.core.settings import FolderCamera
from camera.sources.factory import open_source
from camera.sources.folder import Folder


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "b").mkdir()
    (tmp_path / ".hidden").mkdir()
    names = ["b/2.png", "b/10.PNG", "a.png", "z.bmp", ".secret.png", ".hidden/3.png"]
    for brightness, name in enumerate(names):
        Pillow.new("RGB", (8, 6), (brightness, 0, 0)).save(tmp_path / name)
    (tmp_path / "labels.csv").write_text("not a picture")
    return tmp_path


def read(path, **settings):
    source = open_source(FolderCamera(path=str(path), **settings))
    return source, list(source.captures(Event()))


def test_pictures_come_sorted_with_their_path_as_part_id(folder):
    """All pictures, sub-folders included, in the order of their names; hidden ones and other files not."""
    source, captures = read(folder)
    assert [capture.part_id for capture in captures] == ["a.png", "b/10.PNG", "b/2.png", "z.bmp"]
    assert [capture.image[0, 0, 0] for capture in captures] == [2, 1, 0, 3]
    assert not source.live
    assert source.stats.frames == 4


def test_an_unreadable_file_is_reported_and_the_next_one_follows(folder):
    """A broken picture is one capture with its reason; nothing else is lost."""
    (folder / "a.png").write_bytes(b"")
    source, captures = read(folder)
    assert [capture.fault for capture in captures] == [Fault.UNREADABLE, None, None, None]
    assert captures[0].image is None
    assert captures[0].part_id == "a.png"
    assert "empty file" in captures[0].detail
    assert source.stats.frames == 3


def test_a_file_that_vanishes_is_reported(folder):
    """A picture deleted after the folder was opened does not end the run."""
    source = Folder(FolderCamera(path=str(folder)))
    (folder / "b" / "2.png").unlink()
    faults = [capture.fault for capture in source.captures(Event())]
    assert faults == [None, None, Fault.UNREADABLE, None]


@pytest.mark.parametrize("loop", [False, True])
def test_a_folder_that_vanishes_is_told_once_and_waited_for(folder, loop, caplog):
    """An unmounted share burns no picture: one CAMERA_OFFLINE, then the same file once it is back."""
    caplog.set_level(logging.INFO)
    source = Folder(FolderCamera(path=str(folder), loop=loop))
    captures = source.captures(Event())
    assert next(captures).part_id == "a.png"
    away = folder.rename(folder.with_name("away"))
    offline = next(captures)
    assert (offline.fault, offline.image) == (Fault.CAMERA_OFFLINE, None)
    assert "no such folder: mount it" in offline.detail
    assert (source.stats.connected, source.stats.problem) == (False, offline.detail)
    Timer(0.5, lambda: away.rename(folder)).start()
    assert [capture.part_id for capture in islice(captures, 3)] == ["b/10.PNG", "b/2.png", "z.bmp"]
    assert (source.stats.connected, source.stats.problem, source.stats.reconnects) == (True, None, 1)
    assert [record.message for record in caplog.records] == [f"camera: {folder} is back"]


def test_stop_ends_the_wait_for_a_folder(folder):
    """It is obeyed while the folder is away."""
    stop = Event()
    captures = Folder(FolderCamera(path=str(folder))).captures(stop)
    folder.rename(folder.with_name("away"))
    assert next(captures).fault is Fault.CAMERA_OFFLINE
    Timer(0.1, stop.set).start()
    assert list(captures) == []


def test_pictures_are_read_only(folder):
    """What travels between threads cannot be changed."""
    image = read(folder)[1][0].image
    with pytest.raises(ValueError, match="read-only"):
        image[0, 0, 0] = 1


def test_a_loop_starts_again(folder):
    """With `loop` the first picture follows the last."""
    source = open_source(FolderCamera(path=str(folder), loop=True))
    ids = [capture.part_id for capture in islice(source.captures(Event()), 9)]
    assert ids[4:8] == ids[:4]
    assert ids[8] == ids[0]


def test_fps_is_kept(folder):
    """With 20 pictures a second the fourth comes 150 ms after the first."""
    captures = read(folder, fps=20)[1]
    took_ns = captures[-1].captured_ns - captures[0].captured_ns
    assert took_ns >= 0.149e9


def test_stop_ends_a_long_wait(folder):
    """A stop is obeyed while the source waits for its next picture."""
    stop = Event()
    captures = open_source(FolderCamera(path=str(folder), fps=0.01)).captures(stop)
    next(captures)
    Timer(0.1, stop.set).start()
    began_s = time.monotonic()
    assert list(captures) == []
    assert time.monotonic() - began_s < 10


@pytest.mark.parametrize("make", [lambda path: None, lambda path: path.mkdir()])
def test_an_empty_or_missing_folder_is_refused_with_a_remedy(tmp_path, make):
    """The message names the folder and what to do."""
    path = tmp_path / "nothing"
    make(path)
    with pytest.raises(CameraError, match=r"nothing: no .*: (name one|add some)"):
        open_source(FolderCamera(path=str(path)))


def test_a_file_name_that_is_not_utf8_still_makes_a_part_id(tmp_path):
    """A part id is always text that a payload can carry."""
    raw = bytes(tmp_path) + b"/bad\xff.png"
    Pillow.new("RGB", (4, 4)).save(tmp_path / "good.png")
    with open(raw, "wb") as file:  # noqa: PTH123 - a name that Path would hide behind surrogates
        file.write((tmp_path / "good.png").read_bytes())
    ids = [capture.part_id for capture in read(tmp_path)[1]]
    assert ids == ["bad\N{REPLACEMENT CHARACTER}.png", "good.png"]
    "".join(ids).encode("utf-8")
