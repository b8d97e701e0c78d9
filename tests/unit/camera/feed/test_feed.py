"""The thread of one camera: capture in, frame out, nothing lost quietly."""

from __future__ import annotations

import contextlib
import logging
import queue
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from threading import Event

import numpy as np
import pytest
from PIL import Image as Pillow

from agent.domain.publisher_stats import PublisherStats
from agent.inspection.triggers import Awaited, Triggers
from agent.telemetry.health import conditions
from camera.core.frame import Capture, Fault, Frame
from camera.core.presence_settings import PresenceTrigger
from camera.core.settings import FolderCamera, QualityLimits, RegionOfInterest, SimulatedCamera
from camera.core.source import Source, SourceStats, stamp
from camera.feed.mailbox import Mailbox
from camera.feed.stats import Past
from camera.feed.thread import Feed
from camera.feed.view import FeedSettings
from camera.pictures.framing import Framing
from camera.pictures.preprocess import InputSpec
from camera.sources.factory import open_source
from tests.support.mqtt_peers import wait_until
from tests.support.places import ROOT

SPEC = InputSpec(32, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
WELL = PublisherStats(0, 0, 0, 0, 0, None, None)
NOBODY = Past()


class Pictures:
    """A source that yields what it is given, as a camera or as a folder does."""

    def __init__(self, *captures: Capture | BaseException, live: bool = False) -> None:
        self.live = live
        self.stats = SourceStats(connected=True, reconnects=3, stalls=2, dropped=1)
        self._captures = captures

    def captures(self, stop: Event) -> Iterator[Capture]:
        for capture in self._captures:
            if isinstance(capture, BaseException):
                raise capture
            if stop.is_set():
                return
            yield capture


def texture(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (48, 64, 3), dtype=np.uint8)


def run(source: Source, **settings: object) -> tuple[list[Frame], Feed, list[BaseException]]:
    """Run a feed to its end and take every frame."""
    mailbox, crashes, frames = Mailbox(), [], []
    feed = Feed("top", source, mailbox, SPEC, FeedSettings(**settings), on_crash=crashes.append)
    feed.start()
    until_s = time.monotonic() + 30
    while not mailbox.ended and time.monotonic() < until_s:
        frames += mailbox.take(8, 1)
    assert feed.join(5)
    return frames, feed, crashes


def test_a_picture_becomes_a_frame_complete_at_birth():
    """Station, running number, picture, model input, quality and part id are all there, read-only."""
    captures = [stamp(texture(seed), part_id=f"P{seed}") for seed in range(3)]
    frames, _, crashes = run(Pictures(*captures))
    assert crashes == []
    assert [(frame.station, frame.number, frame.part_id) for frame in frames] == [
        ("top", 1, "P0"),
        ("top", 2, "P1"),
        ("top", 3, "P2"),
    ]
    for frame, capture in zip(frames, captures, strict=True):
        assert np.array_equal(frame.pixels, Framing(SPEC).inputs(capture.image).pixels)
        assert (frame.view, frame.tiles) == (
            "fit",
            (),
        )  # they are not square, which the model's cut would lose
        assert frame.captured_ns == capture.captured_ns
        assert frame.quality.fault is None
        assert frame.quality.luma == pytest.approx(127, abs=5)
        assert not frame.pixels.flags.writeable
        assert not frame.image.flags.writeable


def test_a_picture_that_cannot_be_judged_has_no_pixels():
    """Black, saturated and missing pictures become frames with their reason, never model input."""
    black, white = np.zeros((48, 64, 3), np.uint8), np.full((48, 64, 3), 255, np.uint8)
    frames, feed, _ = run(
        Pictures(
            stamp(black),
            stamp(white),
            stamp(fault=Fault.UNREADABLE, part_id="bad.png", detail="bad.png: broken"),
            stamp(fault=Fault.CAMERA_OFFLINE, detail="gone"),
        )
    )
    assert [frame.quality.fault for frame in frames] == [
        Fault.BLACK,
        Fault.SATURATED,
        Fault.UNREADABLE,
        Fault.CAMERA_OFFLINE,
    ]
    assert all(frame.pixels is None for frame in frames)
    assert [frame.image is None for frame in frames] == [False, False, True, True]
    assert frames[2].part_id == "bad.png"
    assert feed.snapshot().last_fault is Fault.CAMERA_OFFLINE


def test_pictures_that_are_too_small_are_told_once(caplog):
    """A camera that gives them does so as fast as others: the journal is for people."""
    small = [stamp(np.full((48, 8, 3), seed, np.uint8), part_id=f"P{seed}") for seed in range(60, 90)]
    frames, _, _ = run(Pictures(*small, stamp(texture()), stamp(np.full((9, 48, 3), 90, np.uint8))))
    faults = [frame.quality.fault for frame in frames]
    assert faults == [*[Fault.UNREADABLE] * 30, None, Fault.UNREADABLE]
    assert len([one for one in caplog.records if "unreadable" in one.getMessage()]) == 2


def test_only_a_live_camera_can_be_frozen():
    """A camera that sends one picture for ever is frozen; a folder may hold the same picture twice."""
    limits = QualityLimits(frozen_s=1.0)

    def same(live: bool) -> Pictures:
        first = stamp(texture())
        second = Capture(texture(), first.captured_at, first.captured_ns + 10**9)
        return Pictures(first, second, live=live)

    assert [frame.quality.fault for frame in run(same(live=False), limits=limits)[0]] == [None, None]
    last = run(same(live=True), limits=limits)[0][-1]
    assert last.quality.fault is Fault.FROZEN
    assert last.pixels is None


def test_nobody_sees_behind_a_mask():
    """The frame's picture and the model's input are both made from the masked crop."""
    roi = RegionOfInterest(
        crop=(0.5, 0.0, 1.0, 1.0), masks={"label": ((0.5, 0.0), (1.0, 0.0), (1.0, 0.5), (0.5, 0.5))}
    )
    frame = run(Pictures(stamp(texture())), roi=roi)[0][0]
    assert frame.image.shape == (48, 32, 3)
    assert (frame.image[:24] == 0).all()
    assert np.array_equal(frame.pixels, Framing(SPEC).inputs(frame.image).pixels)


def test_tiles_come_with_their_boxes_in_the_whole_picture(caplog):
    """Masks are burnt in before a tile is cut; the journal says once what is seen of such pictures."""
    roi = RegionOfInterest(
        crop=(0.5, 0.0, 1.0, 1.0), masks={"label": ((0.5, 0.0), (1.0, 0.0), (1.0, 0.5), (0.5, 0.5))}
    )
    pictures = [stamp(texture(seed)) for seed in range(3)]
    with caplog.at_level(logging.INFO, "camera.feed.thread"):
        frames, _, _ = run(Pictures(*pictures), roi=roi, tiles=(1, 2), smallest_defect_px=1.5)
    assert [frame.pixels.shape for frame in frames] == [(2, 3, 32, 32)] * 3
    assert frames[0].view == "fit"
    assert frames[0].tiles == ((0.5, 0.0, 1.0, 26 / 48), (0.5, 22 / 48, 1.0, 1.0))
    black = Framing(SPEC, tiles=(1, 2)).inputs(frames[0].image).pixels[0]
    assert np.array_equal(frames[0].pixels[0], black)
    assert (frames[0].image[:24] == 0).all()
    said = [record.getMessage() for record in caplog.records]
    assert said == [
        "station top: 64x48, region 32x48, 1x2 tiles of 32x26, each fit into 32x32: all of it is seen,"
        " 1.0 picture pixels per model pixel",
        "station top: a defect of 1.5 picture pixels, the recipe's smallest_defect_px, is 1.5 model pixels,"
        " 2 are needed: set tiles: 2x3, or a smaller roi.crop",
    ]


def test_tiles_that_are_too_small_are_no_pictures(caplog):
    """The message names them and the remedy."""
    frames, _, _ = run(Pictures(stamp(texture())), tiles=(8, 1))
    assert (frames[0].pixels, frames[0].quality.fault) == (None, Fault.UNREADABLE)
    assert "tiles of 9 x 48 pixels of 64 x 48: at least 16 on each side are needed" in caplog.text
    assert "set fewer tiles" in caplog.text


@pytest.mark.parametrize(
    ("settings", "cropped"),
    [
        ({"measured": "crop"}, 0.25),
        ({"measured": "crop", "view": "crop"}, None),
        ({"view": "crop"}, None),
        ({"measured": "auto"}, None),
        ({}, None),
    ],
)
def test_a_cut_that_nobody_chose_is_a_condition(settings, cropped):
    """A station that was commissioned with one goes on, and health says which share nobody sees."""
    frames, feed, _ = run(Pictures(stamp(texture()), live=True), **settings)
    assert frames[0].view == ("fit" if settings in ({}, {"measured": "auto"}) else "crop")
    stats = feed.snapshot()
    assert stats.cropped == cropped
    told = [one for one in conditions(WELL, [replace(stats, ended=False)]) if one.code == "picture_cropped"]
    assert len(told) == (cropped is not None)
    if told:
        assert told[0].subject == "top"
        assert told[0].message.startswith("25% of the region is seen by nobody")
        assert "mekiki commission --station top --replace" in told[0].message
        assert "view: crop" in told[0].message


def test_a_folder_goes_through_without_a_loss(tmp_path):
    """Thirty pictures of a folder are thirty frames, the broken one among them."""
    for number in range(30):
        Pillow.fromarray(texture(number)).save(tmp_path / f"{number:02}.png")
    (tmp_path / "17.png").write_bytes(b"broken")
    frames, feed, _ = run(open_source(FolderCamera(path=str(tmp_path))))
    assert [frame.number for frame in frames] == list(range(1, 31))
    assert [frame.number for frame in frames if frame.pixels is None] == [18]
    stats = feed.snapshot()
    assert (stats.frames, stats.dropped) == (30, 0)


def test_a_live_camera_drops_what_nobody_takes():
    """Live frames that nobody took are counted; the numbers of those that were taken show the gap."""
    mailbox, crashes = Mailbox(), []
    source = Pictures(*(stamp(texture(seed)) for seed in range(5)), live=True)
    feed = Feed("top", source, mailbox, SPEC, on_crash=crashes.append)
    feed.start()
    assert feed.join(10)
    assert [frame.number for frame in mailbox.take(8, 1)] == [5]
    assert feed.snapshot().dropped == 4 + 1  # in the mailbox, and in the source itself
    assert mailbox.ended


def test_the_snapshot_tells_how_the_camera_is_doing():
    """Rate, counters of the source and the last quality are in one frozen value."""
    stats = run(Pictures(*(stamp(texture(seed)) for seed in range(4))))[1].snapshot()
    assert (stats.station, stats.connected, stats.reconnects, stats.stalls) == ("top", True, 3, 2)
    assert stats.frames == 4
    assert 4 / 10 <= stats.fps <= 4.0  # four of them, in at least one second and at most ten
    assert stats.luma == pytest.approx(127, abs=5)
    assert stats.last_fault is None


def test_an_unexpected_error_is_handed_over_and_ends_the_station():
    """A thread never dies alone: the error goes to `on_crash`, and nobody waits for more frames."""
    error = RuntimeError("bug")
    frames, _, crashes = run(Pictures(stamp(texture()), error))
    assert crashes == [error]
    assert len(frames) == 1


def test_stop_ends_a_feed_that_waits_for_the_inspector():
    """A feed whose frame nobody takes ends when it is asked to."""
    mailbox = Mailbox()
    feed = Feed(
        "line",
        open_source(SimulatedCamera()),
        mailbox,
        SPEC,
        on_crash=lambda error: pytest.fail(str(error)),
    )
    feed.start()
    assert mailbox.take(1, 20)
    feed.stop()
    assert feed.join(10)
    mailbox.take(1, 0)
    assert mailbox.ended


class Hand:
    """A source that yields what a test hands it, when it does; it lets go when the test says so."""

    def __init__(self, live: bool = True) -> None:
        self.live = live
        self.stats = SourceStats(connected=True)
        self.let_go = Event()
        self._given: queue.Queue[Capture | None] = queue.Queue()

    def give(self, *captures: Capture | None) -> None:
        for capture in captures:
            self._given.put(capture)

    def captures(self, stop: Event) -> Iterator[Capture]:
        while not (stop.is_set() and self.let_go.is_set()):
            with contextlib.suppress(queue.Empty):
                capture = self._given.get(timeout=0.01)
                if capture is None:
                    return
                yield capture


class Site:
    """A station with triggers, its mailbox, and the results that have no picture."""

    def __init__(self) -> None:
        self.mailbox, self.crashes = Mailbox(), list[BaseException]()
        self.ended: list[tuple[str, str]] = []
        self.triggers = Triggers(lambda verdicts: None)
        self.use()

    def use(self, *anew: str) -> None:
        awaited = Awaited(60_000, lambda reason, trigger: self.ended.append((trigger.id, reason)))
        self.triggers.use({"top": awaited}, anew)

    def feed(self, source: Source, before: Feed | Past = NOBODY) -> Feed:
        settings = FeedSettings(gate=self.triggers.gate("top"))
        feed = Feed("top", source, self.mailbox, SPEC, settings, on_crash=self.crashes.append, before=before)
        feed.start()
        return feed

    def ask(self, name: str) -> None:
        assert self.triggers.receive("top", f'{{"trigger_id": "{name}"}}'.encode())
        self.use()  # which tells of what has ended

    def taken(self) -> str | None:
        """Return the trigger of the next frame that has one."""
        until_s = time.monotonic() + 30
        while time.monotonic() < until_s:
            for frame in self.mailbox.take(8, 0.5):
                if frame.trigger is not None:
                    return frame.trigger
        return None


def picture(seed: int) -> Capture:
    return stamp(texture(seed))


def test_a_claimed_picture_is_inspected_though_the_camera_goes_right_behind_it():
    """That the camera is gone is told behind it, not in its place."""
    site, source = Site(), Hand()
    feed = site.feed(source)
    site.ask("t")
    source.give(picture(1), stamp(fault=Fault.CAMERA_OFFLINE, detail="unplugged"))
    wait_until(lambda: feed.snapshot().frames == 2)
    frames = []
    while len(frames) < 2:
        frames += site.mailbox.take(8, 5)
    assert [(frame.trigger, frame.quality.fault) for frame in frames] == [
        ("t", None),
        (None, Fault.CAMERA_OFFLINE),
    ]
    assert site.ended == []
    source.let_go.set()
    feed.stop()
    assert feed.join(10)
    assert site.crashes == []


@pytest.mark.parametrize("live", [True, False], ids=["camera", "folder"])
@pytest.mark.parametrize("late", [True, False], ids=["late", "in time"])
def test_an_old_feed_has_no_say_at_a_station_that_has_another(live, late, monkeypatch):
    """However late it ends, and whether it was offline then: triggers go to the new camera."""
    monkeypatch.setattr("camera.feed.thread.LEAVE_S", 0.2)
    site, first, second = Site(), Hand(), Hand(live)
    old = site.feed(first)
    first.give(picture(1), stamp(fault=Fault.CAMERA_OFFLINE, detail="unplugged"))
    wait_until(lambda: old.snapshot().frames == 2)
    site.mailbox.take(8, 5)
    site.ask("gone")
    assert site.ended == [("gone", "camera_offline")]

    site.use("top")
    old.stop()
    if not late:
        first.let_go.set()
    new = site.feed(second, before=old)
    if live:
        second.give(picture(2))
        wait_until(lambda: new.snapshot().frames == 3)
    if late:
        first.give(picture(3), stamp(fault=Fault.CAMERA_OFFLINE, detail="unplugged"))
        first.let_go.set()
    assert old.join(10)

    for number in range(3):
        site.ask(f"t{number}")
        second.give(picture(10 + number))
        assert site.taken() == f"t{number}"
    assert site.ended == [("gone", "camera_offline")]
    assert new.snapshot().last_fault is None
    second.let_go.set()
    new.stop()
    assert new.join(10)
    assert site.crashes == []


def test_counters_and_numbers_go_on_behind_another_camera():
    """Also while the old one is waited for, and at a station that was away for a while."""
    mailbox, crashes = Mailbox(), []
    first, second, third = Hand(), Hand(), Hand()
    first.stats = SourceStats(connected=True, dropped=2, reconnects=3, stalls=4)

    def made(source: Hand, before: Feed | Past = NOBODY) -> Feed:
        feed = Feed("top", source, mailbox, SPEC, on_crash=crashes.append, before=before)
        feed.start()
        return feed

    def counted(feed: Feed) -> tuple[int, ...]:
        stats = feed.snapshot()
        return stats.frames, stats.dropped, stats.reconnects, stats.stalls

    old = made(first)
    first.give(picture(1))
    assert mailbox.take(1, 20)[0].number == 1
    old.stop()
    new = made(second, old)
    assert counted(new) == (1, 2, 3, 4)
    first.let_go.set()
    second.give(picture(2))
    assert mailbox.take(1, 20)[0].number == 2
    assert counted(new) == (2, 2, 3, 4)
    second.let_go.set()
    new.stop()
    assert new.join(10)
    back = made(third, new.past())
    third.give(picture(3))
    assert mailbox.take(1, 20)[0].number == 3
    assert counted(back) == (3, 2, 3, 4)
    third.let_go.set()
    back.stop()
    assert back.join(10)
    assert crashes == []


def test_captures_are_counted_whether_anybody_wants_them_or_not():
    """Numbers of frames stay those of what was let through: what learns knows parts by them."""
    site, source = Site(), Hand()
    feed = site.feed(source)
    source.give(*map(picture, range(3)))
    wait_until(lambda: feed.snapshot().frames == 3)
    assert site.mailbox.take(8, 0) == []
    site.ask("t")
    source.give(picture(4))
    (frame,) = site.mailbox.take(8, 20)
    assert (frame.number, frame.trigger, feed.snapshot().frames) == (1, "t", 4)
    assert feed.snapshot().fps > 0.3
    source.let_go.set()
    feed.stop()
    assert feed.join(10)


def test_a_camera_that_is_back_is_well_though_nobody_wants_a_picture():
    site, source = Site(), Hand()
    feed = site.feed(source)
    source.give(stamp(fault=Fault.CAMERA_OFFLINE, detail="unplugged"))
    wait_until(lambda: feed.snapshot().last_fault is Fault.CAMERA_OFFLINE)
    source.give(picture(1))
    wait_until(lambda: feed.snapshot().last_fault is None)
    source.let_go.set()
    feed.stop()
    assert feed.join(10)


def test_a_gate_that_is_new_hears_of_a_camera_that_is_gone():
    """Triggers are answered at once, not at their deadlines, where a reload makes a dead station wait."""
    site, source = Site(), Hand()
    feed = Feed("top", source, site.mailbox, SPEC, on_crash=site.crashes.append)
    feed.start()
    source.give(stamp(fault=Fault.CAMERA_OFFLINE, detail="unplugged"))
    assert site.mailbox.take(8, 20)
    source.stats = SourceStats()
    feed.use(FeedSettings(gate=site.triggers.gate("top")))
    site.ask("t")
    assert site.ended == [("t", "camera_offline")]
    source.stats = SourceStats(connected=True)
    source.give(picture(1))
    wait_until(lambda: feed.snapshot().frames == 2)
    site.ask("u")
    source.give(picture(2))
    assert site.taken() == "u"
    source.let_go.set()
    feed.stop()
    assert feed.join(10)


def test_a_shorter_interval_is_in_force_from_the_next_picture_on():
    """Not only once the longer one is over."""
    mailbox, source, crashes = Mailbox(), Hand(), []
    feed = Feed("top", source, mailbox, SPEC, FeedSettings(every_s=3600.0), on_crash=crashes.append)
    feed.start()
    source.give(picture(1), picture(2))
    wait_until(lambda: feed.snapshot().frames == 2)
    assert [frame.number for frame in mailbox.take(8, 5)] == [1]
    feed.use(FeedSettings(every_s=0.001))
    source.give(picture(3))
    assert [frame.number for frame in mailbox.take(8, 20)] == [2]
    source.let_go.set()
    feed.stop()
    assert feed.join(10)
    assert crashes == []


LEAVING = """
import sys, time
from camera.feed.thread import Feed
from camera.feed.mailbox import Mailbox
from camera.pictures.preprocess import InputSpec
from camera.core.settings import OpenCVCamera
from camera.sources.factory import open_source

camera = OpenCVCamera(source=sys.argv[1], open_timeout_s=0.5, read_timeout_s=0.5)
feed = Feed("top", open_source(camera), Mailbox(), InputSpec(32, (0.5,) * 3, (0.5,) * 3),
            on_crash=print)
feed.start()
time.sleep(float(sys.argv[2]))
sys.exit(70)
"""


@pytest.mark.parametrize("exit_s", [0.0, 0.5])
def test_the_process_can_leave_while_a_camera_does_not_answer(exit_s):
    """An exit that nobody prepared keeps its exit code and takes no longer than the time-outs."""
    with socket.create_server(("127.0.0.1", 0)) as mute:
        url = f"http://127.0.0.1:{mute.getsockname()[1]}/"
        left = subprocess.run(
            [sys.executable, "-c", LEAVING, url, str(exit_s)],
            cwd=ROOT,
            stderr=subprocess.DEVNULL,
            timeout=60,
            check=False,
        )
    assert left.returncode == 70


def seen_by(settings: FeedSettings, image: np.ndarray) -> Frame:
    """Return the frame that a feed makes of one picture."""
    mailbox, crashes = Mailbox(), list[BaseException]()
    feed = Feed("top", Pictures(stamp(image)), mailbox, SPEC, settings, on_crash=crashes.append)
    feed.start()
    (frame,) = mailbox.take(1, 10)
    feed.stop()
    assert feed.join(10)
    assert crashes == []
    return frame


def test_a_backbone_gets_the_same_region_in_its_own_size() -> None:
    """Region, tiles and view are those of the station; model and backbone have an input each."""
    image = np.random.default_rng(3).integers(40, 200, (64, 96, 3), dtype=np.uint8)
    spec = InputSpec(48, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), "bilinear", "squash")
    settings = FeedSettings(
        roi=RegionOfInterest(crop=(0.25, 0.0, 1.0, 1.0)), tiles=(2, 1), references={"own": spec}
    )
    frame = seen_by(settings, image)
    assert frame.pixels is not None
    assert frame.pixels.shape == (2, 3, 32, 32)
    (name,), (shown,) = frame.references.keys(), frame.references.values()
    wanted = Framing(spec, "auto", (2, 1)).inputs(image[:, 24:])
    assert (name, shown.view, frame.view) == ("own", "fill", "fit")
    assert (shown.pixels == wanted.pixels).all()


def test_where_nobody_asks_the_model_its_input_is_not_made() -> None:
    """The backbone judges alone: view and tiles are what it sees."""
    image = np.random.default_rng(4).integers(40, 200, (64, 96, 3), dtype=np.uint8)
    spec = InputSpec(48, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), "bilinear", "squash")
    frame = seen_by(FeedSettings(model=False, references={"own": spec}, tiles=(2, 1)), image)
    assert frame.pixels is None
    assert frame.quality.fault is None
    assert frame.view == "fill"
    assert len(frame.tiles) == 2
    assert frame.references["own"].pixels.shape == (2, 3, 48, 48)


def test_of_a_picture_that_is_unfit_there_is_no_input_at_all() -> None:
    black = np.zeros((64, 96, 3), np.uint8)
    spec = InputSpec(48, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    frame = seen_by(FeedSettings(references={"own": spec}), black)
    assert frame.quality.fault is Fault.BLACK
    assert (frame.pixels, frame.references) == (None, {})


def passing_part(pictures: int = 45) -> list[Capture]:
    """A bright square that crosses a grey belt of 240 x 120 px, with ten empty pictures around it."""
    made = []
    for number in range(-10, pictures + 10):
        image = np.random.default_rng(number + 10).normal(60, 1.5, (120, 240, 3))
        left = -40 + 7 * number
        image[40:75, max(left, 0) : max(left + 35, 0)] += 100
        capture = stamp(image.clip(0, 255).astype(np.uint8))
        made.append(replace(capture, captured_ns=capture.captured_ns + number * 33_000_000))
    return made


@pytest.mark.parametrize("live", [True, False])
def test_where_parts_are_found_only_their_pictures_are_handed_on(live: bool) -> None:
    captures = passing_part()
    frames, feed, crashes = run(Pictures(*captures, live=live), presence=PresenceTrigger(pictures=2))
    assert crashes == []
    assert [(frame.part.number, frame.part.place, frame.part.of) for frame in frames if frame.part] == [
        (1, 1, 2),
        (1, 2, 2),
    ]
    assert len(frames) == 2
    counted = feed.snapshot()
    assert (counted.frames, counted.presence.parts) == (len(captures), 1)
    assert 20 <= counted.presence.no_part < len(captures)
    assert all(frame.known_ns > frame.captured_ns for frame in frames)


def test_where_parts_are_found_a_black_picture_is_told_once() -> None:
    """A lamp that is out hides every part: nobody would hear of it where only parts are judged."""
    black = [
        replace(stamp(np.zeros((120, 240, 3), np.uint8)), captured_ns=number * 33_000_000)
        for number in range(100)
    ]
    frames, feed, _ = run(Pictures(*black), presence=PresenceTrigger())
    assert [(frame.quality.fault, frame.part) for frame in frames] == [(Fault.BLACK, None)]
    assert feed.snapshot().last_fault is Fault.BLACK


def test_parts_are_numbered_on_when_the_camera_is_opened_anew() -> None:
    mailbox, frames = Mailbox(), []
    before: Feed | Past = NOBODY
    for _ in range(2):
        settings = FeedSettings(presence=PresenceTrigger())
        feed = Feed(
            "top", Pictures(*passing_part()), mailbox, SPEC, settings, on_crash=pytest.fail, before=before
        )
        feed.start()
        until_s = time.monotonic() + 30
        while not mailbox.ended and time.monotonic() < until_s:
            frames += mailbox.take(8, 1)
        before = feed
    assert [frame.part.number for frame in frames if frame.part] == [1, 2]
    assert feed.snapshot().presence.parts == 2
