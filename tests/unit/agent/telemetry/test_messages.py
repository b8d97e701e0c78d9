"""What the command line says of wrong numbers, and what health says while things only begin."""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from agent.cli.main import main
from agent.domain.publisher_stats import NOT_YET, PublisherStats
from agent.telemetry.counters import Counters
from agent.telemetry.status_topics import StatusTopics
from camera.core.frame import Fault
from camera.feed.stats import FeedStats
from tests.support.configs import MINIMAL, load_text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("run --frames x", "argument --frames: x is not a positive number"),
        ("run --frames 0", "argument --frames: 0 is not a positive number"),
        ("record top --out d --seconds soon", "argument --seconds: soon is not a duration in seconds"),
        ("record top --out d --seconds nan", "argument --seconds: nan is not a duration in seconds"),
        ("demo --fps fast", "argument --fps: fast is not a rate"),
        ("commission -s top --parts many", "argument --parts: many is not a number of parts that is enough"),
        ("commission -s top --false-rejects 1%", "argument --false-rejects: 1% is not a share"),
        ("adapter show x", "argument N: x is not the number of a version"),
        ("adapter rollback -- -1", "argument N: -1 is not the number of a version"),
        ("store purge --keep-days x", "argument --keep-days: x is no number of days"),
        ("store export --out f --from x", "argument --from: x is no date"),
    ],
)
def test_a_wrong_number_is_told_in_words(capsys, arguments, message):
    """No name of a function of ours."""
    with pytest.raises(SystemExit) as ended:
        main(arguments.split())
    assert ended.value.code == 64
    said = capsys.readouterr().err
    assert message in said
    assert "value" not in said
    assert " _" not in said


WELL = PublisherStats(0, 0, 0, 0, 0, None, None)
CAMERA = FeedStats("top", True, False, 5.0, 9, 0, 0, 0, None, 90.0, 9.0)
OPENING = replace(CAMERA, connected=False, fps=0.0, frames=0, luma=None, sharpness=None)


class _Site:
    """A status over a feed whose stats the test sets."""

    def __init__(self, config: Any) -> None:
        self.feed = OPENING
        feed = SimpleNamespace(snapshot=lambda: self.feed)
        self._status = StatusTopics(config, None, lambda: [feed], Counters())  # type: ignore[arg-type, list-item]

    def health(self, now: float, publisher: PublisherStats = WELL) -> tuple[str, list[str]] | None:
        """Return level and codes where health is published, None where it has not changed."""
        for message in self._status.look(publisher, now):
            if message.topic.endswith("/health"):
                said = json.loads(message.payload)
                return said["health"], [one["code"] for one in said["conditions"]]
        return None


@pytest.fixture
def site(tmp_path) -> _Site:
    return _Site(load_text(tmp_path, MINIMAL).config)


def test_health_does_not_flip_at_a_start(site, caplog):
    """A camera that is being opened and a broker that is being called are no trouble."""
    caplog.set_level("INFO")
    calling = replace(WELL, link_problem=NOT_YET)
    assert site.health(100.0, calling) == ("ok", [])
    assert site.health(102.0, calling) is None
    site.feed = CAMERA
    assert site.health(103.0) is None
    assert "health" not in caplog.text


def test_what_does_not_come_is_told_after_a_while(site):
    """Patience ends: then it is wrong, for the camera and for the broker."""
    calling = replace(WELL, link_problem=NOT_YET)
    site.health(100.0, calling)
    assert site.health(105.0, calling) == ("down", ["camera_offline"])
    site.feed = CAMERA
    assert site.health(106.0) == ("ok", [])


@pytest.mark.parametrize(
    "feed",
    [
        replace(OPENING, problem="no such folder"),
        replace(OPENING, frames=1),
        replace(OPENING, last_fault=Fault.CAMERA_OFFLINE),
    ],
)
def test_what_is_known_to_be_wrong_is_told_at_once(site, feed):
    """Nobody waits for a camera that cannot be opened, or that was there before."""
    site.feed = feed
    assert site.health(100.0) == ("down", ["camera_offline"])


def test_a_broker_that_refuses_is_told_in_the_journal_at_once(site, caplog):
    """As is one whose name is wrong."""
    site.feed = CAMERA
    site.health(100.0, replace(WELL, link_problem="plc:1883: refused"))
    assert "health: broker: mqtt: plc:1883: refused" in caplog.text
