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


def shown(board: RetainedTopics) -> dict[str, bytes]:
    return {message.topic: message.payload for message in board.take() if message.retain}


def say_everything(board: RetainedTopics, station: str = "top") -> None:
    """What other threads may still have to say of a station: the publisher, a learner, the inspector."""
    board.count([a_verdict(station)], lambda name: 7)
    board.set(Message(ADAPTER, b"{}", 1, True))
    board.set_later(IMAGE, lambda largest: Message(IMAGE, b"jpeg", 0, True))


def test_a_station_that_was_cleared_stays_cleared_whoever_comes_late() -> None:
    """Counts, settings and pictures, before and behind the message by which the broker forgets."""
    board = a_board()
    say_everything(board)
    assert shown(board).keys() == {*TOPICS}
    board.clear("top", TOPICS)
    say_everything(board)
    assert shown(board) == dict.fromkeys(TOPICS, b"")
    say_everything(board)
    assert shown(board) == {}
    board.again(ADAPTER)
    board.republish()
    assert shown(board) == dict.fromkeys(TOPICS, b"")


def test_a_picture_that_is_being_composed_does_not_outlive_its_station() -> None:
    board = a_board()

    def compose(largest: int) -> Message:
        board.clear("top", TOPICS)
        return Message(IMAGE, b"jpeg", 0, True)

    board.set_later(IMAGE, compose)
    assert shown(board) == dict.fromkeys(TOPICS, b"")


def test_a_station_that_is_expected_again_is_shown_again() -> None:
    """Its counts begin with nothing; others were never touched."""
    board = a_board()
    board.count([a_verdict("side")], lambda name: 1)
    say_everything(board)
    board.clear("top", TOPICS)
    board.expect(TOPICS)
    say_everything(board)
    found = shown(board)
    assert found[ADAPTER] == b"{}"
    assert found[IMAGE] == b"jpeg"
    assert b'"pass":1' in found[STATE]
    assert f"{PREFIX}/side/state" in found


def test_another_connection_is_told_again_what_was_cleared() -> None:
    """The one before may have been lost with it on the way; then the broker would keep it for ever."""
    board = a_board()
    say_everything(board)
    board.clear("top", TOPICS)
    assert shown(board) == dict.fromkeys(TOPICS, b"")
    board.republish()
    assert shown(board) == dict.fromkeys(TOPICS, b"")
    board.expect(TOPICS)
    board.republish()
    assert shown(board) == {}


def test_what_is_known_to_be_cleared_is_bounded() -> None:
    board = a_board()
    for number in range(MAX_CLEARED + 5):
        board.clear(f"s{number}", [f"{PREFIX}/s{number}/state"])
    board.take()
    board.republish()
    assert len(shown(board)) == MAX_CLEARED


def test_threads_that_speak_while_a_station_comes_and_goes_bring_nothing_back() -> None:
    """A hundred times gone and there again; at the last end the broker is left with nothing."""
    board, stop = a_board(), threading.Event()
    kept: dict[str, bytes] = {}

    def speak() -> None:
        while not stop.is_set():
            say_everything(board)

    speakers: list[Any] = [threading.Thread(target=speak) for _ in range(2)]
    for speaker in speakers:
        speaker.start()
    for _ in range(100):
        board.expect(TOPICS)
        kept |= shown(board)
        board.clear("top", TOPICS)
        kept |= shown(board)
        kept |= shown(board)
        assert {*kept.values()} == {b""}
    stop.set()
    for speaker in speakers:
        speaker.join(20)
    kept |= shown(board)
    assert {*kept.values()} == {b""}
