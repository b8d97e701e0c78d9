"""Where frames wait: the newest wins, or the source waits; nobody starves, nobody hangs."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime
from threading import Event, Thread

import pytest

from camera.core.frame import Frame, Quality
from camera.feed.mailbox import Mailbox


def frame(station: str, number: int, trigger: str | None = None) -> Frame:
    now = datetime.now(UTC), time.monotonic_ns()
    return Frame(station, number, *now, None, None, Quality(), trigger=trigger)


def opened(*stations: str) -> Mailbox:
    mailbox = Mailbox()
    for station in stations:
        mailbox.open(station)
    return mailbox


def numbers(frames: list[Frame]) -> list[tuple[str, int]]:
    return [(frame.station, frame.number) for frame in frames]


def test_the_newest_frame_wins_and_the_loss_is_counted():
    """Of five live frames the last is taken and four are counted as dropped."""
    mailbox = opened("top")
    for number in range(1, 6):
        mailbox.put(frame("top", number))
    assert numbers(mailbox.take(8, 1)) == [("top", 5)]
    assert mailbox.dropped("top") == 4
    assert mailbox.take(8, 0.01) == []


def test_a_waiting_source_loses_nothing():
    """A source that can wait gets every frame through, in order, however slow the inspector is."""
    mailbox, stop, taken = opened("folder"), Event(), []

    def feed() -> None:
        for number in range(1, 101):
            assert mailbox.put_waiting(frame("folder", number), stop)
        mailbox.end("folder")

    thread = Thread(target=feed, daemon=True)
    thread.start()
    while not mailbox.ended:
        taken += numbers(mailbox.take(8, 5))
    thread.join(5)
    assert taken == [("folder", number) for number in range(1, 101)]
    assert mailbox.dropped("folder") == 0


def test_a_fast_station_cannot_starve_the_others():
    """With one frame taken at a time, a station that refills at once still waits its turn."""
    mailbox = opened("fast", "a", "b")
    mailbox.put(frame("fast", 1))
    mailbox.put(frame("a", 1))
    mailbox.put(frame("b", 1))
    order = []
    for number in range(2, 8):
        taken = mailbox.take(1, 1)[0].station
        order.append(taken)
        mailbox.put(frame("fast", number))  # faster than everybody else
        if taken != "fast":
            mailbox.put(frame(taken, number))
    assert order == ["fast", "a", "b", "fast", "a", "b"]


def test_a_batch_holds_one_frame_of_each_station():
    """`take` returns up to the limit, the longest waiting first."""
    mailbox = opened("a", "b", "c")
    for station in ("b", "c", "a"):
        mailbox.put(frame(station, 1))
    assert numbers(mailbox.take(2, 1)) == [("b", 1), ("c", 1)]
    assert numbers(mailbox.take(2, 1)) == [("a", 1)]


def test_take_waits_for_the_first_frame():
    """A frame that comes later ends the wait at once."""
    mailbox = opened("top")
    timer = threading.Timer(0.1, mailbox.put, [frame("top", 1)])
    timer.start()
    began_s = time.monotonic()
    assert len(mailbox.take(8, 30)) == 1
    assert time.monotonic() - began_s < 10
    timer.join()


def test_take_gives_up_after_its_limit():
    """Without frames the list is empty after the time-out, and the mailbox has not ended."""
    mailbox = opened("top")
    assert mailbox.take(8, 0.05) == []
    assert not mailbox.ended


def test_the_end_of_all_stations_is_known_after_the_last_frame():
    """What lies in a slot is still taken; only then everything has ended, and `take` waits no more."""
    mailbox = opened("a", "b")
    mailbox.put(frame("a", 1))
    mailbox.end("a")
    assert not mailbox.ended
    mailbox.end("b")
    assert not mailbox.ended
    assert len(mailbox.take(8, 1)) == 1
    assert mailbox.ended
    began_s = time.monotonic()
    assert mailbox.take(8, 30) == []
    assert time.monotonic() - began_s < 10


def test_a_mailbox_that_nobody_opened_has_not_ended():
    """Before the first camera starts there is nothing to end."""
    assert not Mailbox().ended


def test_a_station_can_be_opened_again():
    """A camera that is restarted is expected again."""
    mailbox = opened("a")
    mailbox.end("a")
    assert mailbox.ended
    mailbox.open("a")
    assert not mailbox.ended


@pytest.mark.parametrize("how", ["stop", "close"])
def test_a_source_that_waits_is_let_go(how):
    """A stop or a close ends the wait of a source whose frame nobody takes."""
    mailbox, stop, results = opened("folder"), Event(), []
    mailbox.put(frame("folder", 1))
    thread = Thread(target=lambda: results.append(mailbox.put_waiting(frame("folder", 2), stop)), daemon=True)
    thread.start()
    stop.set() if how == "stop" else mailbox.close()
    thread.join(5)
    assert results == [False]


def test_close_wakes_the_inspector():
    """Somebody who takes from an empty mailbox returns when it is closed; late frames count as dropped."""
    mailbox, results = opened("top"), []
    thread = Thread(target=lambda: results.append(mailbox.take(8, 60)), daemon=True)
    thread.start()
    mailbox.close()
    thread.join(5)
    assert results == [[]]
    mailbox.put(frame("top", 1))
    assert mailbox.dropped("top") == 1
    assert mailbox.ended


def test_the_picture_of_a_trigger_is_pushed_out_by_nothing():
    """Not by newer pictures of a station that has just become continuous; these are counted."""
    mailbox = opened("top")
    mailbox.put(frame("top", 1, "t1"))
    mailbox.put(frame("top", 2))
    mailbox.put(frame("top", 3, "t3"))
    assert numbers(mailbox.take(8, 1)) == [("top", 1)]
    assert mailbox.dropped("top") == 2


def test_who_was_told_to_stop_puts_nothing_more():
    """However it puts: the station is another one's by then, whose frame stays."""
    mailbox, stop = opened("top"), Event()
    stop.set()
    mailbox.put(frame("top", 7))
    mailbox.put(frame("top", 1), stop)
    assert not mailbox.put_waiting(frame("top", 2), stop)
    assert numbers(mailbox.take(8, 1)) == [("top", 7)]
    assert mailbox.dropped("top") == 0
