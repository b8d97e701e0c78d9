"""What the agent shows: retained topics, and that a station that is gone stays gone."""

from __future__ import annotations

import threading
from typing import Any

from agent.mqtt.messages import Message
from agent.mqtt.retained_topics import MAX_CLEARED, RetainedTopics
from tests.support.verdicts import PREFIX, a_verdict

STATE = f"{PREFIX}/top/state"
IMAGE = f"{PREFIX}/top/image/last_fail"
ADAPTER = f"{PREFIX}/top/adapter"
TOPICS = [STATE, IMAGE, ADAPTER]


def a_board() -> RetainedTopics:
    return RetainedTopics(lambda station: f"{PREFIX}/{station}/state")


def shown(retained: RetainedTopics) -> dict[str, bytes]:
    return {message.topic: message.payload for message in retained.take() if message.retain}


def say_everything(retained: RetainedTopics, station: str = "top") -> None:
    """What other threads may still have to say of a station: the publisher, a learner, the inspector."""
    retained.count([a_verdict(station)], lambda name: 7)
    retained.set(Message(ADAPTER, b"{}", 1, True))
    retained.defer(IMAGE, lambda largest: Message(IMAGE, b"jpeg", 0, True))


def test_a_station_that_was_cleared_stays_cleared_whoever_comes_late() -> None:
    """Counts, settings and pictures, before and behind the message by which the broker forgets."""
    retained = a_board()
    say_everything(retained)
    assert shown(retained).keys() == {*TOPICS}
    retained.clear("top", TOPICS)
    say_everything(retained)
    assert shown(retained) == dict.fromkeys(TOPICS, b"")
    say_everything(retained)
    assert shown(retained) == {}
    retained.again(ADAPTER)
    retained.republish()
    assert shown(retained) == dict.fromkeys(TOPICS, b"")


def test_a_picture_that_is_being_composed_does_not_outlive_its_station() -> None:
    retained = a_board()

    def compose(largest: int) -> Message:
        retained.clear("top", TOPICS)
        return Message(IMAGE, b"jpeg", 0, True)

    retained.defer(IMAGE, compose)
    assert shown(retained) == dict.fromkeys(TOPICS, b"")


def test_a_station_that_is_expected_again_is_shown_again() -> None:
    """Its counts begin with nothing; others were never touched."""
    retained = a_board()
    retained.count([a_verdict("side")], lambda name: 1)
    say_everything(retained)
    retained.clear("top", TOPICS)
    retained.expect(TOPICS)
    say_everything(retained)
    found = shown(retained)
    assert found[ADAPTER] == b"{}"
    assert found[IMAGE] == b"jpeg"
    assert b'"pass":1' in found[STATE]
    assert f"{PREFIX}/side/state" in found


def test_another_connection_is_told_again_what_was_cleared() -> None:
    """The one before may have been lost with it on the way; then the broker would keep it for ever."""
    retained = a_board()
    say_everything(retained)
    retained.clear("top", TOPICS)
    assert shown(retained) == dict.fromkeys(TOPICS, b"")
    retained.republish()
    assert shown(retained) == dict.fromkeys(TOPICS, b"")
    retained.expect(TOPICS)
    retained.republish()
    assert shown(retained) == {}


def test_what_is_known_to_be_cleared_is_bounded() -> None:
    retained = a_board()
    for number in range(MAX_CLEARED + 5):
        retained.clear(f"s{number}", [f"{PREFIX}/s{number}/state"])
    retained.take()
    retained.republish()
    assert len(shown(retained)) == MAX_CLEARED


def test_threads_that_speak_while_a_station_comes_and_goes_bring_nothing_back() -> None:
    """A hundred times gone and there again; at the last end the broker is left with nothing."""
    retained, stop = a_board(), threading.Event()
    kept: dict[str, bytes] = {}

    def speak() -> None:
        while not stop.is_set():
            say_everything(retained)

    speakers: list[Any] = [threading.Thread(target=speak) for _ in range(2)]
    for speaker in speakers:
        speaker.start()
    for _ in range(100):
        retained.expect(TOPICS)
        kept |= shown(retained)
        retained.clear("top", TOPICS)
        kept |= shown(retained)
        kept |= shown(retained)
        assert {*kept.values()} == {b""}
    stop.set()
    for speaker in speakers:
        speaker.join(20)
    kept |= shown(retained)
    assert {*kept.values()} == {b""}
