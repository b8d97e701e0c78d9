"""Cameras and clips that OpenCV reads: real files, real sockets, a cable that can be unplugged."""

from __future__ import annotations

import contextlib
import io
import math
import os
import socket
import struct
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import islice
from pathlib import Path
from threading import Event, Thread

import cv2
import numpy as np
import pytest
from PIL import Image as Pillow

from camera.core.frame import CameraError, Capture, Fault
from camera.core.settings import OpenCVCamera, Reconnect
from camera.sources import device as opencv
from camera.sources.clip_time import ClipTime
from camera.sources.device import Camera, backoff
from camera.sources.factory import open_source
from tests.support.places import SHARED

CLIPS = SHARED / "video-open"
QUICK = Reconnect(initial_s=0.05, max_s=0.2)


def clip(file: Path, **settings: object):
    return open_source(OpenCVCamera(source=str(file), **settings))


def write_clip(file: Path, frames: int = 20, fps: float = 25.0, code: str = "MJPG") -> Path:
    """Write a clip whose n-th picture is grey n * 10, red channel 0."""
    video = cv2.VideoWriter(str(file), cv2.CAP_FFMPEG, cv2.VideoWriter_fourcc(*code), fps, (64, 48))
    for number in range(frames):
        picture = np.full((48, 64, 3), number * 10 % 256, dtype=np.uint8)
        picture[..., 2] = 0
        video.write(picture)
    video.release()
    return file


# Clips


def test_a_clip_is_read_in_order_and_in_colour(tmp_path):
    """Every picture comes once, RGB, read-only, with file name and index as its part id."""
    source = clip(write_clip(tmp_path / "a.avi"), pace="full")
    captures = list(source.captures(Event()))
    assert [capture.part_id for capture in captures] == [f"a.avi#{index}" for index in range(20)]
    red, green, _ = captures[15].image.mean(axis=(0, 1))
    assert red == pytest.approx(0, abs=8)
    assert green == pytest.approx(150, abs=8)
    assert not captures[0].image.flags.writeable
    assert not source.live
    assert source.stats.frames == 20


@pytest.mark.parametrize("claimed", [0, 5, 100_000])
@pytest.mark.parametrize("code", ["MJPG", "mp4v"])
def test_a_clip_whose_header_lies_ends_at_its_real_end(tmp_path, claimed, code):
    """A header that claims fewer or many more pictures changes nothing of those that are there."""
    file = write_clip(tmp_path / ("lie.avi" if code == "MJPG" else "lie.mp4"), code=code)
    content = bytearray(file.read_bytes())
    if code == "MJPG":
        struct.pack_into("<I", content, content.index(b"avih") + 8 + 16, claimed)
        struct.pack_into("<I", content, content.index(b"strh") + 8 + 32, claimed)
    else:
        for atom, offset in ((b"mvhd", 20), (b"tkhd", 24), (b"mdhd", 20)):
            struct.pack_into(">I", content, content.index(atom) + offset, claimed * 512)
    file.write_bytes(content)
    captures = list(clip(file, pace="full").captures(Event()))
    assert [capture.fault for capture in captures[:20]] == [None] * 20
    assert len(captures) == (21 if (code, claimed) == ("MJPG", 100_000) else 20)


def test_a_clip_cut_in_the_middle_ends_there(tmp_path):
    """The pictures before the cut come, then one capture that says what is missing: no waiting."""
    *captures, last = clip(write_cut_clip(tmp_path / "cut.avi"), pace="full").captures(Event())
    assert 8 <= len(captures) <= 11
    assert all(capture.fault is None for capture in captures)
    assert (last.part_id, last.fault) == ("cut.avi", Fault.UNREADABLE)
    assert f"ends after {len(captures)} of 20 pictures" in last.detail


def test_a_cut_clip_in_a_loop_says_so_once(tmp_path):
    """What is missing is missing each time; it is told the first time."""
    captures = clip(write_cut_clip(tmp_path / "cut.avi"), pace="full", loop=True).captures(Event())
    assert [capture.fault for capture in islice(captures, 60)].count(Fault.UNREADABLE) == 1


def write_cut_clip(file: Path) -> Path:
    """Write a clip of 20 pictures of which about half are there."""
    content = write_clip(file).read_bytes()
    file.write_bytes(content[: (content.index(b"movi") + content.index(b"idx1")) // 2])
    return file


def write_noise(file: Path, frames: int = 60) -> Path:
    """Write an MPEG-4 clip of noise that moves, with a key picture among 12."""
    video = cv2.VideoWriter(str(file), cv2.CAP_FFMPEG, cv2.VideoWriter_fourcc(*"mp4v"), 25.0, (128, 96))
    for number in range(frames):
        noise = np.random.default_rng(0).integers(0, 255, (24, 32, 3), dtype=np.uint8)
        video.write(np.roll(cv2.resize(noise, (128, 96)), number, axis=1))
    video.release()
    return file


@pytest.mark.parametrize("loop", [False, True])
def test_damaged_pictures_of_a_clip_are_unreadable(tmp_path, loop):
    """From a decode error to the next key picture that is surely sound; in a loop each time the same."""
    content = bytearray(write_noise(tmp_path / "a.mp4").read_bytes())
    middle = content.index(b"mdat") + (len(content) - content.index(b"mdat")) // 2
    content[middle : middle + 100] = bytes(100)
    (tmp_path / "a.mp4").write_bytes(content)
    captures = clip(tmp_path / "a.mp4", pace="full", loop=loop).captures(Event())
    first = list(islice(captures, 59))  # the broken packet itself is passed over
    faults = [capture.fault is not None for capture in first]
    assert not any(faults[:20])
    assert 2 <= sum(faults) <= 24
    assert not any(faults[50:])
    assert all("decode error" in capture.detail for capture in first if capture.fault)
    assert [capture.fault is not None for capture in islice(captures, 59)] == (faults if loop else [])


@pytest.mark.parametrize("code", ["MJPG", "mp4v"])
def test_a_sound_clip_has_no_damaged_picture(tmp_path, code):
    """Nothing is refused where there is nothing to refuse."""
    file = write_clip(tmp_path / ("a.avi" if code == "MJPG" else "a.mp4"), frames=30, code=code)
    assert not [capture.detail for capture in clip(file, pace="full").captures(Event()) if capture.fault]


def test_a_clip_is_played_where_decode_errors_cannot_be_known(tmp_path, monkeypatch, caplog):
    """The other process that does not come up is told once and costs no picture."""
    monkeypatch.setattr("camera.sources.decode_errors.sys.executable", "/bin/false")
    captures = list(clip(write_clip(tmp_path / "a.avi"), pace="full").captures(Event()))
    assert [capture.fault for capture in captures] == [None] * 20
    assert caplog.text.count("damaged pictures are not noticed") == 1


def stamped(stamps_s: list[float]):
    """Return OpenCV's reader, but with these time stamps."""
    real = cv2.VideoCapture

    class Stamped:
        def __init__(self, *arguments: object) -> None:
            self.video, self.count = real(*arguments), -1

        def __getattr__(self, name: str) -> object:
            return getattr(self.video, name)

        def grab(self) -> bool:
            grabbed = self.video.grab()
            self.count += grabbed
            return grabbed

        def get(self, what: int) -> float:
            return stamps_s[self.count] * 1000 if what == cv2.CAP_PROP_POS_MSEC else self.video.get(what)

    return Stamped


def test_fps_limits_a_clip_with_a_variable_rate(tmp_path, monkeypatch):
    """What a slow part does not use is not made up for in a fast one."""
    file = write_clip(tmp_path / "a.avi", frames=40)
    monkeypatch.setattr(cv2, "VideoCapture", stamped([*range(10), *(10 + n / 25 for n in range(31))]))
    captures = clip(file, pace="full", fps=2.0).captures(Event())
    ids = [int(capture.part_id.split("#")[1]) for capture in captures]
    assert ids[:11] == list(range(11))
    assert len(ids[11:]) == 2


def test_a_jump_in_the_time_stamps_is_waited_for_with_a_limit(tmp_path, monkeypatch, caplog):
    """Ten seconds, not two minutes; the log says so, and where pictures may be missing."""
    file, stop = write_clip(tmp_path / "a.avi"), Event()
    monkeypatch.setattr(cv2, "VideoCapture", stamped([n / 25 + (120 if n >= 15 else 0) for n in range(21)]))
    monkeypatch.setattr("camera.sources.clip_time.MAX_WAIT_S", 0.1)
    began_s = time.monotonic()
    assert len(list(clip(file).captures(stop))) == 20
    assert time.monotonic() - began_s < 60
    assert "its time stamps jump by 120.0 s before picture 15: it waits 0.1 s" in caplog.text


@pytest.mark.parametrize(
    "stamps_s",
    [
        [0.0] * 20,
        [*(n / 25 for n in range(10)), *(n / 25 for n in range(10))],
        [*(3600 + n / 25 for n in range(10)), *(n / 25 for n in range(10))],
        [-5.0 + n / 25 for n in range(20)],
        [math.nan] * 20,
        [-9.2e15] * 20,
    ],
)
def test_time_stamps_that_stand_still_or_go_back_count_at_the_nominal_rate(stamps_s):
    """Time goes on evenly whatever they say, and what follows a step back counts again."""
    clip_time, times = ClipTime(25.0), []
    for stamp_s in stamps_s:
        clip_time.next(stamp_s)
        times.append(clip_time.at_s)
    assert times == pytest.approx([n / 25 for n in range(20)])
    assert clip_time.missing(20) == clip_time.missing(0) == clip_time.missing(math.nan) == ""
    assert clip_time.missing(40).startswith("ends after 20 of 40 pictures")


def test_a_variable_rate_is_not_taken_for_missing_pictures():
    """The duration times the rate is no number of pictures; an even clip with a hole has lost some."""
    variable, even = ClipTime(30.0), ClipTime(30.0)
    for n in range(60):
        variable.next(n if n < 10 else 9 + n / 30)
        even.next(n / 30 + (1 / 3 if n >= 30 else 0))
    assert variable.missing(320) == variable.gaps() == ""
    assert "jump by 0.4 s before picture 30" in even.gaps()


@pytest.mark.parametrize("content", [b"", b"no clip at all", bytes(100_000)])
@pytest.mark.parametrize("loop", [False, True])
def test_a_broken_clip_is_unreadable_once(tmp_path, content, loop):
    """A file without a picture gives one capture that says so, and ends, even in a loop."""
    file = tmp_path / "broken.mp4"
    file.write_bytes(content)
    captures = list(clip(file, loop=loop).captures(Event()))
    assert [capture.fault for capture in captures] == [Fault.UNREADABLE]
    assert captures[0].part_id == "broken.mp4"


def test_a_clip_plays_at_its_recorded_pace(tmp_path):
    """Ten pictures at 25 a second take 360 ms from the first to the last, and such a clip is live."""
    source = clip(write_clip(tmp_path / "a.avi", frames=10))
    captures = list(source.captures(Event()))
    assert source.live
    assert (
        captures[-1].captured_ns - captures[0].captured_ns >= 0.25e9
    )  # a machine that is busy takes the first one late


@pytest.mark.parametrize(
    ("fps", "indices"), [(12.5, range(0, 20, 2)), (5.0, range(0, 20, 5)), (60.0, range(20))]
)
def test_fewer_pictures_of_a_clip(tmp_path, fps, indices):
    """`fps` picks pictures by the clip's own time, evenly, and never more than there are."""
    captures = clip(write_clip(tmp_path / "a.avi"), pace="full", fps=fps).captures(Event())
    assert [capture.part_id for capture in captures] == [f"a.avi#{index}" for index in indices]


def test_a_clip_in_a_loop_starts_again(tmp_path):
    """With `loop` the first picture follows the last."""
    captures = clip(write_clip(tmp_path / "a.avi", frames=4), pace="full", loop=True).captures(Event())
    ids = [capture.part_id for capture in islice(captures, 9)]
    assert ids == [f"a.avi#{index % 4}" for index in range(9)]


def test_stop_ends_a_slow_clip(tmp_path):
    """A stop is obeyed between two pictures that lie seconds apart."""
    stop = Event()
    captures = clip(write_clip(tmp_path / "slow.avi", fps=0.1)).captures(stop)
    next(captures)
    threading.Timer(0.1, stop.set).start()
    began_s = time.monotonic()
    assert list(captures) == []
    assert time.monotonic() - began_s < 5


def test_a_missing_clip_is_refused_without_its_password(tmp_path):
    """The message names the file, but nothing that may be an address whose beginning was forgotten."""
    with pytest.raises(CameraError, match="no such video file: name one"):
        clip(tmp_path / "gone.mp4")
    for source in ("user@geheim/1", "./user:geheim@camera/1", "10.0.0.1/geheim", "camera/1?pw=geheim"):
        with pytest.raises(CameraError) as refused:
            open_source(OpenCVCamera(source=source))
        assert str(refused.value) == "***: no such video file: name one, or a camera"


def test_a_clip_may_be_named_after_the_time(tmp_path):
    """A colon in the name is no protocol, also where the path is relative."""
    file = write_clip(tmp_path / "2026-11-29T12:30:05.avi", frames=3)
    with contextlib.chdir(tmp_path):
        captures = list(clip(Path(file.name), pace="full").captures(Event()))
    assert [capture.part_id for capture in captures] == [f"{file.name}#{index}" for index in range(3)]


def test_a_clip_whose_name_is_no_text_is_refused(tmp_path):
    """OpenCV would end the process."""
    file = tmp_path / os.fsdecode(b"\xff.avi")
    write_clip(tmp_path / "a.avi").rename(file)
    with pytest.raises(CameraError, match="its name is not UTF-8: give it another"):
        clip(file)


@pytest.mark.parametrize(
    "error", [cv2.error("bad stream"), MemoryError("no room"), RecursionError(), KeyError("x")]
)
@pytest.mark.parametrize("loop", [False, True])
def test_a_clip_at_which_the_decoder_fails_ends_with_the_reason(tmp_path, monkeypatch, error, loop):
    """The pictures before stay; the failure is one unreadable capture, not the end of the agent."""
    file = write_clip(tmp_path / "a.avi")
    monkeypatch.setattr(cv2, "VideoCapture", broken_at(5, error))
    captures = list(clip(file, pace="full", loop=loop).captures(Event()))
    assert [capture.fault for capture in captures] == [None] * 5 + [Fault.UNREADABLE]
    assert "OpenCV failed: " in captures[-1].detail


def broken_at(number: int, error: Exception):
    """Return OpenCV's reader, but that the picture of this number raises `error`."""
    real = cv2.VideoCapture

    class Broken:
        def __init__(self, *arguments: object) -> None:
            self.video, self.count = real(*arguments), 0

        def __getattr__(self, name: str) -> object:
            return getattr(self.video, name)

        def retrieve(self) -> object:
            self.count += 1
            if self.count > number:
                raise error
            return self.video.retrieve()

    return Broken


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "frames", "shape"),
    [
        ("intel-bottle-detection.mp4", 1189, (360, 640, 3)),
        ("intel-fruit-and-vegetable.mp4", 101, (270, 480, 3)),
        ("intel-fruit-and-vegetable-preview.gif", 101, (270, 480, 3)),
        ("intel-bolt-multi-size.mp4", 37, (270, 480, 3)),
        ("delta-robot-conveyor.mp4", 387, (656, 368, 3)),
    ],
)
def test_real_clips_are_read_to_their_end(name, frames, shape):
    """Every picture of a real clip is decoded, portrait stays portrait."""
    if not (CLIPS / name).is_file():
        pytest.skip(f"{CLIPS} is not here")
    captures = clip(CLIPS / name, pace="full").captures(Event())
    shapes = [capture.image.shape for capture in captures]
    assert shapes == [shape] * frames


# Cameras


class Mjpeg:
    """A network camera: JPEG pictures over HTTP, 50 a second, with a cable and a way to freeze."""

    def __init__(self) -> None:
        self.unplugged, self.silent = Event(), Event()
        self.port = 0
        self.plug()

    @property
    def url(self) -> str:
        return f"http://user:geheim@127.0.0.1:{self.port}/stream?token=topsecret"

    def plug(self) -> None:
        camera = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=x")
                self.end_headers()
                number = 0
                while not camera.unplugged.wait(0.02):
                    if camera.silent.is_set():
                        continue
                    number += 1
                    buffer = io.BytesIO()
                    Pillow.new("RGB", (64, 48), (number % 200, 200, 0)).save(buffer, "JPEG")
                    head = f"--x\r\nContent-Type: image/jpeg\r\nContent-Length: {buffer.tell()}\r\n\r\n"
                    try:
                        self.wfile.write(head.encode() + buffer.getvalue() + b"\r\n")
                    except OSError:
                        return

            def log_message(self, *_: object) -> None:
                """Keep the test's output clean."""

        self.unplugged.clear()
        self.silent.clear()
        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        self._thread = Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    def unplug(self) -> None:
        self.unplugged.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)


@pytest.fixture
def mjpeg() -> Iterator[Mjpeg]:
    camera = Mjpeg()
    yield camera
    camera.unplug()


def settings(url: str, **changes: object) -> OpenCVCamera:
    return OpenCVCamera(
        source=url, **({"open_timeout_s": 3.0, "read_timeout_s": 1.0, "reconnect": QUICK} | changes)
    )


def until(captures: Iterator[Capture], fault: Fault | None) -> list[Capture]:
    """Take captures up to and including the first one with this fault."""
    taken = []
    for capture in captures:
        taken.append(capture)
        if capture.fault is fault:
            return taken
    raise AssertionError(f"the camera ended without {fault}")


def test_a_camera_unplugged_in_the_middle_comes_back(mjpeg):
    """One offline capture for one loss, then pictures again; the counters tell the same story."""
    source = open_source(settings(mjpeg.url))
    stop = Event()
    captures = source.captures(stop)
    first = until(captures, None)[-1]
    assert first.image.shape == (48, 64, 3)
    assert first.image[0, 0, 1] > 180  # green, so the colour order is right
    assert first.image[0, 0, 2] < 40
    mjpeg.unplug()
    lost = until(captures, Fault.CAMERA_OFFLINE)[-1]
    assert lost.image is None
    assert lost.detail.startswith(f"http://***@127.0.0.1:{mjpeg.port}/***: ")
    assert not source.stats.connected
    time.sleep(1)  # several attempts fail
    mjpeg.plug()
    after = [next(captures) for _ in range(5)]
    assert [capture.fault for capture in after] == [None] * 5
    stats = source.stats
    assert stats.connected
    assert (stats.reconnects, stats.stalls) == (1, 0)
    stop.set()
    assert list(captures) == []


def test_a_camera_that_falls_silent_is_a_stall(mjpeg):
    """A connection that stays open without pictures is given up after the read time-out."""
    source = open_source(settings(mjpeg.url))
    captures = source.captures(Event())
    until(captures, None)
    mjpeg.silent.set()
    began_s = time.monotonic()
    lost = until(captures, Fault.CAMERA_OFFLINE)[-1]
    assert time.monotonic() - began_s < 4
    assert "no picture for" in lost.detail
    assert source.stats.stalls == 1
    mjpeg.silent.clear()
    assert until(captures, None)[-1].image is not None
    assert source.stats.reconnects == 1
    captures.close()


def test_a_slow_inspector_sees_the_present(mjpeg):
    """Of the pictures that came while nobody looked the newest is left; the others are counted."""
    source = open_source(settings(mjpeg.url))
    captures = source.captures(Event())
    taken = len(until(captures, None))
    until_s = time.monotonic() + 20
    while source.stats.frames < 20 and time.monotonic() < until_s:
        time.sleep(0.05)
    looked_ns = time.monotonic_ns()
    next(captures)
    assert source.stats.dropped >= 20 - taken - 1
    assert next(captures).captured_ns > looked_ns  # nothing older was queued
    captures.close()


def test_fps_of_a_camera_is_limited(mjpeg):
    """Of 50 pictures a second only 10 are looked at."""
    captures = open_source(settings(mjpeg.url, fps=10)).captures(Event())
    until(captures, None)
    stamps = [next(captures).captured_ns for _ in range(8)]
    assert (stamps[-1] - stamps[0]) / 7 >= 0.08e9
    captures.close()


@pytest.fixture
def mute() -> Iterator[int]:
    """A port that accepts connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.mark.parametrize("scheme", ["http", "rtsp"])
def test_a_camera_that_accepts_and_never_answers(mute, scheme, capfd):
    """It is reported offline once, within its time-out, tried again, and stop is obeyed meanwhile."""
    url = f"{scheme}://user:geheim@127.0.0.1:{mute}/1?token=topsecret"
    source = open_source(settings(url, open_timeout_s=0.5, read_timeout_s=0.5))
    stop, captures = Event(), []
    began_s = time.monotonic()
    threading.Timer(2.5, stop.set).start()
    captures = list(source.captures(stop))
    took_s = time.monotonic() - began_s
    assert [capture.fault for capture in captures] == [Fault.CAMERA_OFFLINE]
    assert 2.5 <= took_s < 2.5 + 0.5 + 1.0 + 3.0  # stop, time-out, grace, a busy machine
    assert not source.stats.connected
    output = capfd.readouterr()
    assert "geheim" not in output.out + output.err + captures[0].detail
    assert "topsecret" not in output.out + output.err + captures[0].detail


def test_cameras_do_not_wait_for_each_other(mute):
    """Three cameras that never answer are given up side by side, not one after the other."""
    details = []

    def first_capture() -> None:
        captures = open_source(settings(f"http://127.0.0.1:{mute}/", open_timeout_s=1.0)).captures(Event())
        details.append(next(captures).detail)
        captures.close()

    threads = [Thread(target=first_capture) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    # One that waits for another's time-out would be reported as hanging first.
    why = f"its host answers at port {mute}: check user, password and path"
    assert details == [f"http://127.0.0.1:{mute}/: cannot be opened: {why}"] * 3


def test_a_driver_that_hangs_is_reported_and_left_behind(monkeypatch):
    """Where OpenCV itself does not come back, the camera is offline in time and stop is obeyed."""
    hanging = Event()
    monkeypatch.setattr(cv2, "VideoCapture", lambda *_: hanging.wait(30))
    source = Camera(settings("/dev/video9", open_timeout_s=0.2, read_timeout_s=0.2))
    stop = Event()
    captures = source.captures(stop)
    began_s = time.monotonic()
    assert next(captures).detail == "/dev/video9: hangs in its driver"
    stop.set()
    assert list(captures) == []
    assert time.monotonic() - began_s < 8
    assert source.stats.stalls == 1
    hanging.set()


def test_an_error_of_ours_reaches_the_thread_that_iterates(mjpeg, monkeypatch):
    """What breaks the reader thread is raised where the pictures are awaited: nothing dies alone."""

    def broken(*_: object) -> None:
        raise ZeroDivisionError("a mistake of ours")

    monkeypatch.setattr(opencv, "stamp", broken)
    with pytest.raises(ZeroDivisionError, match="of ours"):
        next(Camera(settings(mjpeg.url)).captures(Event()))


@pytest.mark.parametrize(
    "error", [cv2.error("bad stream"), MemoryError("no room"), RecursionError(), KeyError("x")]
)
def test_a_decoder_that_fails_is_its_own_cameras_trouble(mjpeg, monkeypatch, error):
    """Whatever OpenCV raises, the camera is offline with the reason and opened again."""
    monkeypatch.setattr(cv2, "VideoCapture", broken_at(2, error))
    captures = open_source(settings(mjpeg.url)).captures(Event())
    lost = until(captures, Fault.CAMERA_OFFLINE)[-1]
    assert lost.detail.startswith(f"http://***@127.0.0.1:{mjpeg.port}/***: OpenCV failed: ")
    assert until(captures, None)[-1].image is not None
    captures.close()


def test_a_camera_that_cannot_be_opened_says_why(capfd):
    """FFmpeg says it with pieces of passwords, so it is silent; the host is asked, and its answer told."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    captures = open_source(settings(f"rtsp://user:geheim@127.0.0.1:{port}/1")).captures(Event())
    detail = next(captures).detail
    assert detail == f"rtsp://***@127.0.0.1:{port}/***: cannot be opened: port {port}: Connection refused"
    captures.close()
    captures = open_source(settings("rtsp://user:geheim@no-such-host.invalid/1")).captures(Event())
    detail = next(captures).detail
    captures.close()
    assert detail.endswith(
        "no-such-host.invalid/***: cannot be opened: the name of its host is not known here"
    )
    assert capfd.readouterr() == ("", "")


def test_a_device_that_is_not_there_is_offline():
    """An absent USB camera is no error: it may be plugged in later."""
    captures = open_source(settings("/dev/video87")).captures(Event())
    assert next(captures).detail == "/dev/video87: cannot be opened"
    captures.close()


def test_a_back_end_that_is_missing_is_refused(monkeypatch):
    """A GStreamer pipeline needs an OpenCV with GStreamer, and the message says so, without secrets."""
    monkeypatch.setattr(cv2.videoio_registry, "hasBackend", lambda _: False)
    pipeline = "rtspsrc location=rtsp://user:geheim@camera/1 user-pw=topsecret ! decodebin ! appsink"
    with pytest.raises(CameraError, match="built without gstreamer") as refused:
        open_source(OpenCVCamera(source=pipeline))
    assert "geheim" not in str(refused.value)
    assert "topsecret" not in str(refused.value)


def test_the_waits_between_attempts_double_up_to_the_cap():
    """1, 2, 4, 8, 8, ... seconds, each at most a fifth shorter, never longer."""
    waits = list(islice(backoff(Reconnect(initial_s=1.0, max_s=8.0, jitter=0.2)), 8))
    for wait, full in zip(waits, [1, 2, 4, 8, 8, 8, 8, 8], strict=True):
        assert 0.8 * full <= wait <= full
    assert len({wait / full for wait, full in zip(waits[3:], [8] * 5, strict=True)}) > 1


@pytest.mark.parametrize("source", ["rtsp://u:Geheimnis7@cam/1", "u@10.0.0.1/Geheimnis7", "cam.mp4"])
def test_what_is_no_device_is_refused_by_the_backend_for_devices(source: str) -> None:
    with pytest.raises(ValueError, match="opens devices") as caught:
        OpenCVCamera(source=source, backend="v4l2")
    assert "Geheimnis7" not in str(caught.value)


@pytest.mark.parametrize(
    ("source", "medium", "label"),
    [
        (0, "device", "0"),
        ("/dev/v4l/by-id/usb-cam", "device", "/dev/v4l/by-id/usb-cam"),
        ("/dev/video0?password=Geheimnis7", "device", "***"),
        ("/dev/video0/admin:Geheimnis7@10.0.0.1", "device", "***"),
        (
            "/dev/v4l/by-path/pci-0:2:1.0",
            "device",
            "/dev/v4l/by-path/pci-0:2:1.0",
        ),
        ("rtsp://u:p%40ss%2Fw@cam:554/1", "stream", "rtsp://***@cam:554/***"),
        ("HTTP://cam/mjpg?user=a&pwd=b", "stream", "http://cam/***"),
        ("rtsp://u:p@[fe80::1]:554/1", "stream", "rtsp://***@[fe80::1]:554/***"),
        ("udp://@:1234", "stream", "udp://:1234"),
        ("videotestsrc ! appsink", "pipeline", "videotestsrc ! appsink"),
        ('souphttpsrc user-id=a user-pw="b c" ! x', "pipeline", "souphttpsrc ! x"),
        ("rtspsrc location=rtsp://u:p/q@h/1 ! x", "pipeline", "rtspsrc ! x"),
        ("clips/line 3?.mp4", "clip", "clips/line 3?.mp4"),
    ],
)
def test_a_source_is_recognised_and_never_shows_its_secrets(source, medium, label):
    """Index, path, URL, pipeline and file are told apart; the label is safe to print."""
    camera = OpenCVCamera(source=source)
    assert (camera.medium, camera.label) == (medium, label)
