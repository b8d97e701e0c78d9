"""A recording gives back what the camera gave, to the last bit, however it ended."""

from __future__ import annotations

import json
import logging
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from threading import Event, Thread, Timer
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pillow

from agent.cli.main import main
from camera.core.frame import Capture, Fault
from camera.core.settings import (
    CameraSettings,
    FolderCamera,
    RecordingCamera,
    SimulatedCamera,
)
from camera.core.source import paced
from camera.recording.reader import PlayedRecording, Recording, RecordingError
from camera.recording.writer import Recorder, RecordingLimits
from camera.simulation.source import SimulatedLine
from camera.sources.factory import open_source
from tests.support.configs import load_text
from tests.support.noisy_recording import BEGAN, noise, recorder

STATIONS = """\
version: 1
storage: {min_free_mb: 0}
stations:
  line:
    camera: {kind: simulated, seed: 4, parts: 6}
    recipe: line
    roi: {masks: {left: [[0, 0], [0.5, 0], [0.5, 1], [0, 1]]}}
  endless:
    camera: {kind: simulated}
    recipe: line
"""


@pytest.fixture(autouse=True)
def _process_restored() -> Iterator[None]:
    """`main` sets up the whole process, which here is the tests'."""
    root = logging.getLogger()
    handlers, level, interval = list(root.handlers), root.level, sys.getswitchinterval()
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    sys.setswitchinterval(interval)


def captures(times_s: tuple[float, ...]) -> list[Capture]:
    """Return a picture of noise for each time; the third is one that the camera did not give."""
    given = [
        Capture(noise(n), BEGAN + timedelta(seconds=at_s), 10**15 + round(at_s * 1e9), f"part {n}")
        for n, at_s in enumerate(times_s)
    ]
    lost = given[2]
    given[2] = Capture(
        None, lost.captured_at, lost.captured_ns, fault=Fault.CAMERA_OFFLINE, detail="cam: hung up"
    )
    return given


def write(folder: Path, given: list[Capture], *, finish: bool = True, **roi: Any) -> Recorder:
    writer = recorder(folder, **roi)
    assert [writer.add(capture) for capture in given] == [None] * len(given)
    if finish:
        writer.finish("source")
    else:
        writer.close()
    return writer


def record_all(settings: CameraSettings, folder: Path) -> tuple[list[Capture], Recording]:
    """Record a source to its end; return what it gave and what was recorded."""
    given = list(open_source(settings).captures(Event()))
    write(folder, given)
    return given, Recording(folder)


def assert_same(given: list[Capture], found: list[Capture]) -> None:
    assert len(given) == len(found) > 0
    for expected, capture in zip(given, found, strict=True):
        if expected.image is None:
            assert capture.image is None
        else:
            assert np.array_equal(expected.image, capture.image)
            assert not capture.image.flags.writeable
        assert capture.captured_at == expected.captured_at
        assert capture.captured_ns == expected.captured_ns - given[0].captured_ns
        assert (capture.part_id, capture.fault, capture.detail) == (
            expected.part_id,
            expected.fault,
            expected.detail,
        )


def test_the_simulated_line_comes_back_to_the_last_bit(tmp_path: Path) -> None:
    """Pictures, part ids and both clocks; and the manifest says how much there is."""
    given, recording = record_all(SimulatedCamera(seed=4, parts=5), tmp_path / "new" / "folder")
    assert_same(given, list(recording))
    manifest, folder = recording.manifest, recording.folder
    assert (manifest.complete, manifest.ended) == (True, "source")
    assert (manifest.count, manifest.pictures, manifest.size_px) == (5, 5, (256, 256))
    files = [folder / "frames.jsonl", *(folder / "frames").iterdir()]
    assert manifest.size_bytes == sum(file.stat().st_size for file in files)
    assert manifest.camera == {"kind": "simulated", "seed": 4}
    assert recording.sha256 == manifest.sha256


def test_a_folder_comes_back_to_the_last_bit(tmp_path: Path) -> None:
    """Grey, coloured and odd-sized pictures, and the file that was none, whose name is no text."""
    photos = tmp_path / "photos"
    photos.mkdir()
    Pillow.fromarray(noise(1)).save(photos / "a.png")
    Pillow.fromarray(noise(2)[:7, :3, 0]).save(photos / "b.png")
    Pillow.fromarray(noise(3)).save(photos / "c.jpg")
    (photos / os.fsdecode(b"d\xff.png")).write_bytes(b"not a picture")
    given, recording = record_all(FolderCamera(path=str(photos)), tmp_path / "out")
    assert [capture.fault for capture in given] == [None, None, None, Fault.UNREADABLE]
    assert_same(given[:3], list(islice(recording, 3)))
    broken = list(recording)[3]
    assert (broken.image, broken.fault) == (None, Fault.UNREADABLE)
    assert broken.detail.endswith("d?.png: not a picture")
    assert recording.manifest.pictures == 3


def test_masked_areas_are_never_stored(tmp_path: Path) -> None:
    """What the station masks is black in the file; the rest is whole, outside the crop as well."""
    left = [(0.0, 0.0), (0.5, 0.0), (0.5, 1.0), (0.0, 1.0)]
    given = captures((0.0, 0.1, 0.2, 0.3))
    write(tmp_path / "out", given, crop=(0.6, 0.6, 1.0, 1.0), masks={"left": tuple(left)})
    for number in (1, 2, 4):
        with Pillow.open(tmp_path / "out" / "frames" / f"{number:06d}.png") as picture:
            stored = np.asarray(picture)
        image = given[number - 1].image
        assert image is not None
        assert stored.shape == image.shape
        assert not stored[:, :15].any()  # the outline itself may take one pixel more
        assert np.array_equal(stored[:, 16:], image[:, 16:])
    assert given[0].image is not None
    assert given[0].image[:, :15].any()


def test_a_killed_recorder_leaves_a_readable_recording(tmp_path: Path) -> None:
    """SIGKILL in the middle: every line that is there has its picture, and it is known to be cut off."""
    (tmp_path / "config.yaml").write_text(STATIONS.replace("seed: 4, parts: 6", "seed: 4"))
    out = tmp_path / "out"
    command = [sys.executable, "-m", "agent", "record", "line"]
    command += ["-c", str(tmp_path / "config.yaml"), "--out", str(out)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        until_s = time.monotonic() + 60
        while not (out / "frames" / "000005.png").exists() and time.monotonic() < until_s:
            assert process.poll() is None, process.communicate()
            time.sleep(0.01)
    finally:
        process.kill()
        process.communicate()
    recording = Recording(out)
    assert not recording.manifest.complete
    assert recording.manifest.count is None
    found = list(recording)
    assert len(found) >= 4  # the picture of the fifth stands before its line
    line = SimulatedLine(SimulatedCamera(seed=4))
    for number, capture in enumerate(found, start=1):
        assert capture.image is not None
        assert np.array_equal(capture.image[:, 129:], line.picture(number)[:, 129:])
        assert capture.part_id == line.part_id(number)


@pytest.mark.parametrize("torn", [b'{"number":5,"captured_at":"2026-', b"\0" * 40, b"{"])
def test_a_torn_last_line_is_ignored(tmp_path: Path, torn: bytes) -> None:
    """What was being written when the power went does not keep the rest from being read."""
    given = captures((0.0, 0.1, 0.2, 0.3))
    write(tmp_path / "out", given, finish=False)
    with (tmp_path / "out" / "frames.jsonl").open("ab") as file:
        file.write(torn)
    recording = Recording(tmp_path / "out")
    assert_same(given, list(recording))
    assert not recording.manifest.complete


def test_a_line_follows_its_picture_to_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When a line is written the picture has been flushed: a line never promises what a power cut took."""
    writer = recorder(tmp_path / "out")
    index = tmp_path / "out" / "frames.jsonl"
    seen = []
    flush = os.fsync

    def watched(handle: int) -> None:
        flush(handle)
        seen.append((Path(f"/proc/self/fd/{handle}").resolve().name, index.read_bytes().count(b"\n")))

    monkeypatch.setattr(os, "fsync", watched)
    for capture in captures((0.0, 0.5, 0.6, 1.2)):
        writer.add(capture)
    assert seen == [
        ("000001.png", 0),
        ("000002.png", 1),
        ("000004.png", 3),
        ("frames", 4),
        ("frames.jsonl", 4),
    ]
    writer.close()


@pytest.mark.parametrize("max_bytes", [0, 1500, *range(8000, 10_500, 400)])
def test_a_recording_never_exceeds_its_limit(tmp_path: Path, max_bytes: int) -> None:
    """The whole folder, manifest included; it ends before the capture that would not fit."""
    writer = recorder(tmp_path / "out", limits=RecordingLimits(max_bytes))
    limit = None
    for n in range(100):
        limit = writer.add(Capture(noise(n), BEGAN, n))
        if limit:
            break
    assert limit == "size"
    writer.finish(limit)
    total = sum(file.stat().st_size for file in (tmp_path / "out").rglob("*") if file.is_file())
    recording = Recording(tmp_path / "out")
    assert recording.manifest.ended == "size"
    assert len(list(recording)) == writer.pictures
    if max_bytes >= 8000:
        assert max_bytes - 2500 < total <= max_bytes  # a picture of noise has 1.9 kB
    else:
        assert writer.pictures == 0


def test_the_disk_is_left_to_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Below the floor nothing is begun; reached later, it ends the recording in order."""
    with pytest.raises(RecordingError, match=r"less than 1000000000 MB free .*storage\.min_free_mb"):
        recorder(tmp_path / "out", limits=RecordingLimits(10**9, min_free_bytes=10**15))
    writer = recorder(tmp_path / "out")
    assert writer.add(Capture(noise(0), BEGAN, 0)) is None
    monkeypatch.setattr("shutil.disk_usage", lambda folder: SimpleNamespace(free=1000))
    assert writer.add(Capture(noise(1), BEGAN, 1)) == "disk"
    assert writer.finish("disk").count == 1
    assert len(list(Recording(tmp_path / "out"))) == 1


def test_a_folder_that_holds_something_is_refused(tmp_path: Path) -> None:
    """A recording is never written over another, nor among somebody's files."""
    write(tmp_path / "out", captures((0.0, 0.1, 0.2)))
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(RecordingError, match="out: not empty: name a folder that is, or a new one"):
        recorder(tmp_path / "out")
    (tmp_path / "file").touch()
    with pytest.raises(RecordingError, match=r"file: cannot be written: .*: name another"):
        recorder(tmp_path / "file")
    assert sorted(tmp_path.rglob("*")) == [tmp_path / "file", *before]


def flip(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


def test_a_flipped_byte_is_named(tmp_path: Path) -> None:
    """The damaged picture, what to do, and nothing else: the other captures can still be had."""
    given = captures((0.0, 0.1, 0.2, 0.3))
    write(tmp_path / "out", given)
    recording = Recording(tmp_path / "out")
    flip(tmp_path / "out" / "frames" / "000002.png", 900)
    with pytest.raises(
        RecordingError, match=r"out/frames/000002\.png: damaged: .*: copy the recording again"
    ):
        list(recording)
    whole = [recording.entries[n] for n in (0, 2, 3)]
    assert_same([given[0], *given[2:]], [recording.capture(entry) for entry in whole])
    (tmp_path / "out" / "frames" / "000004.png").unlink()
    with pytest.raises(RecordingError, match=r"000004\.png: cannot be read: No such file"):
        recording.capture(recording.entries[3])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda out: flip(out / "frames.jsonl", 30), r"frames\.jsonl: damaged: its sha256 is not that in"),
        (lambda out: (out / "frames.jsonl").unlink(), r"frames\.jsonl: cannot be read: No such file"),
        (lambda out: (out / "manifest.json").unlink(), r"out: not a recording: no manifest\.json in it"),
        (lambda out: (out / "manifest.json").write_text("{"), r"manifest\.json: not a manifest of mekiki"),
        (
            lambda out: (out / "manifest.json").write_text(
                (out / "manifest.json").read_text().replace("recording.v1", "recording.v9")
            ),
            r"manifest\.json: not a manifest of mekiki\.recording\.v1: format: ",
        ),
        (lambda out: out.rename(out.parent / "elsewhere"), r"out: no such folder"),
    ],
)
def test_a_damaged_folder_is_refused_with_its_file(tmp_path: Path, damage: Any, message: str) -> None:
    """Manifest and index are checked when the recording is opened."""
    write(tmp_path / "out", captures((0.0, 0.1, 0.2, 0.3)))
    damage(tmp_path / "out")
    with pytest.raises(RecordingError, match=message):
        Recording(tmp_path / "out")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda lines: [lines[0], lines[2]], r"frames\.jsonl:2: damaged: here stands 3"),
        (lambda lines: [lines[0], "?", lines[2]], r"frames\.jsonl:2: damaged: "),
        (
            lambda lines: [lines[0].replace("frames/000001", "../../000001")],
            r"frames\.jsonl:1: damaged: file: ",
        ),
        (lambda lines: [lines[0].replace('"sha256"', '"sha"')], r"frames\.jsonl:1: damaged: "),
    ],
)
def test_a_changed_index_of_an_unfinished_recording_is_named(
    tmp_path: Path, change: Any, message: str
) -> None:
    """Without a hash of the whole, each line still has to be right, and can name no file elsewhere."""
    write(tmp_path / "out", captures((0.0, 0.1, 0.2)), finish=False)
    index = tmp_path / "out" / "frames.jsonl"
    index.write_text("".join(f"{line}\n" for line in change(index.read_text().splitlines())))
    with pytest.raises(RecordingError, match=message):
        Recording(tmp_path / "out")


class Hourglass(Event):
    """A stop event whose waits take no time but move its own clock."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 1000.0

    def clock(self) -> float:
        return self.now_s

    def wait(self, timeout: float | None = None) -> bool:
        assert timeout is not None
        self.now_s += max(0.0, timeout)
        return self.is_set()


TIMES_S = (0.0, 0.5, 0.6, 2.0)


def played(
    folder: Path, stop: Hourglass, slow_s: float = 0.0, **settings: Any
) -> Iterator[tuple[float, Capture]]:
    """Yield when each capture came since the start, and the capture; each takes `slow_s` to be used."""
    source = PlayedRecording(RecordingCamera(path=str(folder), **settings), clock=stop.clock)
    for capture in source.captures(stop):
        yield round(stop.now_s - 1000.0, 6), capture
        stop.now_s += slow_s


def test_it_plays_at_its_recorded_pace(tmp_path: Path) -> None:
    """As far apart as they came, with the same parts and the same faults."""
    given = captures(TIMES_S)
    write(tmp_path, given)
    found = list(played(tmp_path, Hourglass()))
    assert [at_s for at_s, _ in found] == list(TIMES_S)
    for expected, (_, capture) in zip(given, found, strict=True):
        assert (capture.image is None) == (expected.image is None)
        assert expected.image is None or np.array_equal(capture.image, expected.image)
        assert (capture.part_id, capture.fault) == (expected.part_id, expected.fault)
        assert capture.captured_at > datetime.now(UTC) - timedelta(minutes=5)  # played today, not back then


def test_a_slow_reader_of_a_recording_does_not_slow_the_line(tmp_path: Path) -> None:
    """Time goes on as it did in front of the camera: what is late comes at once, the rest in time."""
    write(tmp_path, captures(TIMES_S))
    assert [at_s for at_s, _ in played(tmp_path, Hourglass(), slow_s=0.55)] == [0.0, 0.55, 1.1, 2.0]


def test_it_plays_as_fast_as_it_is_taken(tmp_path: Path) -> None:
    """With pace: full nothing is waited for, and the source says that it can wait."""
    write(tmp_path, captures(TIMES_S))
    assert [at_s for at_s, _ in played(tmp_path, Hourglass(), pace="full")] == [0.0] * 4
    assert not open_source(RecordingCamera(path=str(tmp_path), pace="full")).live
    assert open_source(RecordingCamera(path=str(tmp_path))).live


def test_a_loop_starts_again_after_a_usual_gap(tmp_path: Path) -> None:
    """The first follows the last as far apart as two of them are on average."""
    write(tmp_path / "out", captures(TIMES_S))
    found = list(islice(played(tmp_path / "out", Hourglass(), loop=True), 9))
    assert [at_s for at_s, _ in found][4:] == [2.666667, 3.166667, 3.266667, 4.666667, 5.333333]
    writer = recorder(tmp_path / "single")
    writer.add(Capture(noise(0), BEGAN, 0))
    writer.finish("frames")
    assert [at_s for at_s, _ in islice(played(tmp_path / "single", Hourglass(), loop=True), 3)] == [0, 1, 2]


def test_a_stop_ends_a_played_recording(tmp_path: Path) -> None:
    """Also in the middle of a long wait."""
    write(tmp_path, captures((0.0, 3600.0, 3600.0)))
    stop = Event()
    source = open_source(RecordingCamera(path=str(tmp_path))).captures(stop)
    assert next(source).part_id == "part 0"
    Timer(0.05, stop.set).start()
    assert list(source) == []


def test_a_damaged_picture_does_not_end_the_line(tmp_path: Path) -> None:
    """Played as a camera, it is one capture with its reason; the next one follows."""
    write(tmp_path, captures(TIMES_S))
    flip(tmp_path / "frames" / "000002.png", 900)
    source = PlayedRecording(RecordingCamera(path=str(tmp_path), pace="full"))
    connected, faults = [], []
    for capture in source.captures(Event()):
        connected.append(source.stats.connected)
        faults.append(capture.fault)
    assert faults == [None, Fault.UNREADABLE, Fault.CAMERA_OFFLINE, None]
    assert connected == [True, True, False, True]
    assert source.stats.frames == 2


@pytest.mark.parametrize(
    ("slow_s", "catch_up", "came_s"),
    [
        ([0.5, 0.5, 0.5, 0.5, 0.5], False, [0, 1, 2, 3, 4]),
        ([0.5, 1.6, 0.1, 0.1, 0.1], False, [0, 1, 2.6, 3, 4]),
        ([0.5, 3.5, 0.1, 0.1, 0.1], False, [0, 1, 4.5, 4.6, 5.5]),
        ([0.5, 3.5, 0.1, 0.1, 0.1], True, [0, 1, 4.5, 4.6, 4.7]),
    ],
)
def test_the_pace_is_kept_and_delays_are_made_up_for_as_asked(
    slow_s: list[float], catch_up: bool, came_s: list[float]
) -> None:
    """One a second: short delays are made up for; long ones where nobody waits, else they move the rest."""
    stop, found = Hourglass(), []
    due = [(float(n), n) for n in range(5)]
    for n in paced(due, stop, catch_up=catch_up, clock=stop.clock):
        found.append(round(stop.now_s - 1000.0, 6))
        stop.now_s += slow_s[n]
    assert found == came_s


def mekiki_record(folder: Path, *arguments: str, config: str = STATIONS) -> int:
    (folder / "config.yaml").write_text(config)
    return main(["record", *arguments, "-c", str(folder / "config.yaml")])


def test_the_command_records_a_station_to_the_end_of_its_source(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Masks and all, with a manifest that tells where it comes from, and one line as the summary."""
    out = tmp_path / "out"
    assert mekiki_record(tmp_path, "line", "--out", str(out)) == 0
    recording = Recording(out)
    given = [SimulatedLine(SimulatedCamera(seed=4)).picture(n) for n in range(1, 7)]
    for image, capture in zip(given, recording, strict=True):
        assert capture.image is not None
        assert not capture.image[:, :128].any()
        assert np.array_equal(capture.image[:, 129:], image[:, 129:])
    manifest = recording.manifest
    assert (manifest.station, manifest.ended, manifest.dropped) == ("line", "source", 0)
    # The camera's settings are whole: the truth about each part can be asked of the line again.
    assert SimulatedCamera.model_validate_json(json.dumps(manifest.camera)) == SimulatedCamera(
        seed=4, parts=6
    )
    assert list(manifest.roi.masks) == ["left"]
    said, _ = capsys.readouterr()
    assert said.startswith(f"{out}: 6 frames, 0 faults, ")
    assert said.endswith(": the source has come to its end\n")


@pytest.mark.parametrize(
    ("limit", "ended"),
    [(["--frames", "3"], "frames"), (["--seconds", "0.3"], "seconds"), (["--max-mb", "1"], "size")],
)
def test_the_command_ends_at_the_first_limit(tmp_path: Path, limit: list[str], ended: str) -> None:
    """Of a source without end, every limit makes a complete recording."""
    assert mekiki_record(tmp_path, "endless", "--out", str(tmp_path / "out"), *limit) == 0
    recording = Recording(tmp_path / "out")
    assert (recording.manifest.complete, recording.manifest.ended) == (True, ended)
    assert len(list(recording)) == (3 if ended == "frames" else recording.manifest.count)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_ends_a_recording_cleanly(tmp_path: Path, number: int) -> None:
    """Also while a slow source is waited for; and signals do afterwards what they did before."""
    before = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
    index = tmp_path / "out" / "frames.jsonl"

    def press() -> None:
        until_s = time.monotonic() + 60
        while not (index.exists() and index.stat().st_size) and time.monotonic() < until_s:
            time.sleep(0.01)
        os.kill(os.getpid(), number)

    finger = Thread(target=press)
    finger.start()
    slow = STATIONS.replace(
        "endless:\n    camera: {kind: simulated", "endless:\n    camera: {kind: simulated, fps: 0.001"
    )
    assert mekiki_record(tmp_path, "endless", "--out", str(tmp_path / "out"), config=slow) == 0
    finger.join()
    assert [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)] == before
    manifest = Recording(tmp_path / "out").manifest
    assert (manifest.complete, manifest.ended, manifest.count) == (True, "stopped", 1)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["lien", "--out", "out"], 64, "no station is called 'lien': .* has line, endless"),
        (["line"], 64, "--out"),
        (["line", "--out", "."], 64, "not empty"),
        (["line", "--out", "out", "--max-mb", "0"], 64, "--max-mb"),
        (["line", "--out", "out", "--seconds", "nan"], 64, "--seconds"),
        (
            ["empty", "--out", "out"],
            78,
            r"config\.yaml:12: stations\.empty\.camera: .*photos: no picture in it",
        ),
        (
            ["again", "--out", "out"],
            78,
            r"config\.yaml:16: stations\.again\.camera: .*photos: not a recording",
        ),
    ],
)
def test_mistakes_are_told_before_anything_is_written(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    code: int,
    message: str,
) -> None:
    """One clear line, the documented exit code, no traceback and no folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    config = (
        f"{STATIONS}  empty:\n    camera: {{kind: folder, path: photos}}\n    recipe: line\n"
        "  again:\n    recipe: line\n    camera: {kind: recording, path: photos}\n"
    )
    try:
        got = mekiki_record(tmp_path, *arguments, config=config)
    except SystemExit as error:  # argparse leaves this way
        got = error.code
    assert got == code
    out, err = capsys.readouterr()
    assert out == ""
    assert re.search(message, err), err
    assert "Traceback" not in err
    assert not (tmp_path / "out").exists()


def test_a_recording_without_a_picture_is_no_success(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A script that records notices that the camera gave nothing; what it is called holds no password."""
    config = STATIONS.replace(
        "camera: {kind: simulated}",
        "camera: {kind: opencv, source: 'rtsp://127.0.0.1:1/user=a&password=hunter2', open_timeout_s: 1}",
    )
    assert (
        mekiki_record(tmp_path, "endless", "--out", str(tmp_path / "out"), "--seconds", "2", config=config)
        == 1
    )
    [capture] = Recording(tmp_path / "out")
    assert capture.fault is Fault.CAMERA_OFFLINE
    assert capture.detail.endswith(": cannot be opened: port 1: Connection refused")
    assert "no picture: camera_offline" in capsys.readouterr().err
    for name in ("manifest.json", "frames.jsonl"):
        assert "hunter2" not in (tmp_path / "out" / name).read_text()


def test_a_config_may_play_a_recording(tmp_path: Path) -> None:
    """Its path starts at the config's folder, as that of a folder of pictures does."""
    write(tmp_path / "rec", captures(TIMES_S))
    loaded = load_text(
        tmp_path,
        "version: 1\nstations: {a: {camera: {kind: recording, path: rec, pace: full}, recipe: line}}\n",
    )
    source = open_source(loaded.config.stations["a"].camera)
    assert [capture.part_id for capture in source.captures(Event())] == ["part 0", "part 1", None, "part 3"]
