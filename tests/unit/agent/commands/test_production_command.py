"""The command `production`: free texts from anybody, and one clear message about what is none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from agent.audit.agent_log import Trail
from agent.commands.bodies import ProductionBody
from agent.commands.production_handlers import ProductionHandlers
from agent.commands.schema import Command, Refusal, read
from agent.config.models import Config
from agent.domain.production import Production
from agent.mqtt.messages import Inbound
from agent.mqtt.retained_topics import RetainedTopics
from agent.reload.production_book import ProductionBook
from tests.support.mqtt_peers import SCHEMAS

OWN = "plant/agent"


def asked(payload: Any) -> Command | Refusal:
    body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    return read(Inbound(f"{OWN}/cmd/request/production", body), OWN, "plant", 16 * 1024)


@pytest.mark.parametrize("name", ["order", "lot", "shift"])
@pytest.mark.parametrize(
    ("value", "why"),
    [
        (b'"a\\nb"', "holds U+000A LINE FEED as character 2: remove it"),
        (b'"a\\u0000b"', "holds U+0000 NULL as character 2: remove it"),
        (b'"\\u001b[31mred"', "holds U+001B ESCAPE as character 1: remove it"),
        (b'"\\u202eabc"', "holds U+202E RIGHT-TO-LEFT OVERRIDE as character 1: remove it"),
        (b'"\\ud800"', ""),
        (b'""', "should not be empty"),
        (b'"   "', "holds nothing that can be seen"),
        (b'"' + b"x" * 101 + b'"', "should have at most 100 characters"),
        (b'"' + b"x" * 10_000 + b'"', "should have at most 100 characters"),
        (b"NaN", "should be text"),
        (b"Infinity", "should be text"),
        (b"4711", "should be text"),
        (b"true", "should be text"),
        (b'{"a": 1}', "should be text"),
        (b"[]", "should be text"),
    ],
)
def test_what_is_no_text_is_refused_in_one_sentence(name: str, value: bytes, why: str) -> None:
    """The field is named, what was sent is not repeated, and nothing is set."""
    found = asked(b'{"' + name.encode() + b'": ' + value + b', "transaction": "t"}')
    assert isinstance(found, Refusal)
    assert found.why == f"{name}: {why}" if why else found.why
    assert "\n" not in found.why
    assert len(found.why) < 200


@pytest.mark.parametrize(
    "value", ["4711-A", '"quoted" \\ back', "früh 早 🏭", "x" * 100, "{{ jinja }}", "=1+1"]
)
def test_what_people_write_is_taken_as_it_is(value: str) -> None:
    """JSON escapes, other scripts and emoji are texts like any other."""
    found = asked({"order": value})
    assert isinstance(found, Command)
    assert isinstance(found.body, ProductionBody)
    assert found.body.values() == {"order": value}


@pytest.mark.parametrize("payload", [{}, {"station": "top"}, {"why": "x"}, b""])
def test_a_command_that_sets_nothing_says_what_can_be(payload: Any) -> None:
    """Left out is not null."""
    found = asked(payload)
    assert isinstance(found, Refusal)
    assert found.why == "nothing to set: name order, lot or shift"
    unknown = asked({"order": "A", "ordre": "B"})
    assert isinstance(unknown, Refusal)
    assert unknown.why == "ordre: is not known here"


def test_it_is_set_answered_and_shown(tmp_path: Path) -> None:
    """All stations without `station`, else one; null clears; a station that is none is named."""
    station = {"camera": {"kind": "simulated"}, "recipe": "line"}
    config = Config.model_validate(
        {
            "version": 1,
            "agent": {"id": "agent", "data_dir": str(tmp_path)},
            "mqtt": {"topic_prefix": "plant"},
            "stations": {"top": station, "side": station},
        }
    )
    book, retained = (
        ProductionBook(config, Trail(tmp_path)),
        RetainedTopics(lambda name: f"{OWN}/{name}/state"),
    )
    handlers = ProductionHandlers(book, retained)
    book.on_change = lambda: handlers.show(config)

    def told(payload: dict[str, Any]) -> Any:
        command = asked(payload)
        assert isinstance(command, Command)
        return handlers.handlers()["production"](command)

    assert told({"order": "A", "lot": "L"}).status == "done"
    answer = told({"station": "top", "lot": "L1", "user": "mes"})
    assert answer.data == {"stations": {"top": {"order": "A", "lot": "L1", "shift": None}}}
    assert told({"order": None}).after["side"]["order"] is None
    assert told({"station": "nowhere", "order": "B"}).reason == (
        "there is no station 'nowhere': name one of top, side"
    )
    assert (book.of("top"), book.of("side")) == (Production(None, "L1"), Production(None, "L"))
    shown = {message.topic: json.loads(message.payload) for message in retained.take()}
    for payload in shown.values():
        SCHEMAS[payload["schema"]].validate(payload)
    assert shown[f"{OWN}/top/production"]["lot"] == "L1"
    handlers.show(config.model_copy(update={"stations": {"top": config.stations["top"]}}))
    gone = [message for message in retained.take() if not message.payload]
    assert [(message.topic, message.retain) for message in gone] == [(f"{OWN}/side/production", True)]
