"""Labels and adapters over MQTT, at a station that learns."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from tests.support.learning_site import site
from tests.support.learning_steps import line_folder, promote
from tests.support.mqtt_peers import Subscriber, mosquitto, wait_until
from tests.support.running_agent import at, running

pytestmark = pytest.mark.broker
PATIENCE_S = 60.0


def events(subscriber: Subscriber, name: str) -> list[dict[str, Any]]:
    found = [json.loads(p) for t, p, _ in list(subscriber.messages) if t.endswith("/adapter/event")]
    return [event for event in found if event["event"] == name]


def test_labels_and_rollbacks_come_over_mqtt(tmp_path: Path) -> None:
    """A label reaches store and learner in the name of who said it; a rollback is done once."""
    (tmp_path / "broker").mkdir()
    with mosquitto(tmp_path / "broker") as broker:
        mqtt = {**at(broker), "commands": {"allow": ["*"]}}
        camera = {"kind": "simulated", "seed": 5, "fps": 10}
        # A version that rejects everything: the model as it was trained disagrees, so labels say something.
        loaded = site(tmp_path, camera=camera, mqtt=mqtt, adaptation={"mode": "frozen"})
        version = promote(loaded, -30.0)
        subscriber = Subscriber(broker.port)
        with running(loaded):
            wait_until(lambda: (subscriber.last("drift") or {}).get("block") == 0, PATIENCE_S)
            wait_until(lambda: len(subscriber.results()) > 20, PATIENCE_S)
            for result in subscriber.results()[:20]:
                say = {"event_id": result["event_id"], "label": "good", "user": "eve"}
                subscriber.send("plant/agent/line/label", say | {"transaction": result["event_id"]})
            wait_until(lambda: events(subscriber, "label"), PATIENCE_S)
            assert events(subscriber, "label")[0]["actor"] == "mqtt:eve"

            first = subscriber.results()[0]
            wait_until(lambda: subscriber.answer(first["event_id"]) is not None)
            answer = subscriber.answer(first["event_id"])
            assert answer is not None
            assert answer["data"] == {"label": "good"} | {k: first[k] for k in ("event_id", "seq", "verdict")}
            for wrong, why in (
                ({"event_id": first["event_id"], "label": "purple"}, "none of good, defective"),
                ({"event_id": "0" * 26, "label": "good"}, "no such result"),
            ):
                subscriber.send("plant/agent/line/label", wrong | {"transaction": why})
                wait_until(lambda why=why: subscriber.answer(why) is not None)
                assert why in subscriber.answer(why)["reason"]

            listed = subscriber.ask("adapter/list")["data"]["versions"]
            assert [(v["number"], v["active"]) for v in listed] == [(0, False), (version.number, True)]
            shown = subscriber.ask("adapter/show", {"number": version.number})["data"]
            assert shown["digest"] == version.digest
            assert "no such version" in subscriber.ask("adapter/show", {"number": 77})["reason"]
            assert "no such version" in subscriber.ask("adapter/rollback", {"number": 77})["reason"]

            back = {"number": 0, "user": "eve", "why": "rejects all", "transaction": "back"}
            for _ in range(2):
                subscriber.send("plant/agent/cmd/request/adapter/rollback", back)
            wait_until(lambda: subscriber.last("line/adapter")["number"] == 0, PATIENCE_S)
            wait_until(lambda: len([a for a in subscriber.answers() if a["transaction"] == "back"]) == 2)
        back_to_source = events(subscriber, "reset")
        assert [(e["actor"], e["why"]) for e in back_to_source] == [("mqtt:eve", "rejects all")]
        assert {a["status"] for a in subscriber.answers() if a["transaction"] == "back"} == {"accepted"}
        assert subscriber.invalid == []
        subscriber.close()
    with sqlite3.connect(tmp_path / "data" / "mekiki.db") as db:
        assert set(db.execute("SELECT DISTINCT user, label FROM label")) == {("mqtt:eve", "good")}
    trail = (line_folder(loaded) / "audit.jsonl").read_text()
    assert '"actor":"mqtt:eve"' in trail


def test_what_cannot_be_read_of_the_versions_is_refused_and_ends_nobody(tmp_path: Path) -> None:
    """A client asks while the disk fails, or where a newer release has written what answers."""
    (tmp_path / "broker").mkdir()
    with mosquitto(tmp_path / "broker") as broker:
        mqtt = {**at(broker), "commands": {"allow": ["*"]}}
        camera = {"kind": "simulated", "seed": 5, "fps": 10}
        loaded = site(tmp_path, camera=camera, mqtt=mqtt, adaptation={"mode": "frozen"})
        version = promote(loaded, -30.0)
        pointer = line_folder(loaded) / "adapters" / "active.json"
        good = pointer.read_bytes()
        asked = {"adapter/list": {}, "adapter/show": {"number": version.number}, "adapter/freeze": {}}
        subscriber = Subscriber(broker.port)
        with running(loaded):
            wait_until(lambda: bool(subscriber.results()), PATIENCE_S)
            for newer, why in ((False, "cannot be used now"), (True, "the agent's journal says why")):
                broken(pointer, good, newer=newer)
                for verb, body in asked.items():
                    answer = subscriber.ask(verb, body)
                    assert answer["status"] == "refused"
                    assert why in answer["reason"]
            count = len(subscriber.results())
            wait_until(lambda: len(subscriber.results()) > count + 5, PATIENCE_S)
            broken(pointer, good)
            assert subscriber.ask("adapter/list")["status"] == "done"
        subscriber.close()


def broken(pointer: Path, good: bytes, *, newer: bool | None = None) -> None:
    """Put in a pointer's place what a newer release writes, or a folder, or the good one where it is None."""
    if pointer.is_dir():
        pointer.rmdir()
    else:
        pointer.unlink(missing_ok=True)
    if newer is None:
        pointer.write_bytes(good)
    elif newer:
        content = {**json.loads(good), "format": "mekiki.active.v9"}
        content.pop("seal")
        seal = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
        pointer.write_text(json.dumps({**content, "seal": seal}))
    else:
        pointer.mkdir()
