"""A shift-start check of a line that runs: over MQTT, from the command line, and across a restart."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.base.errors import EXIT_CHECK_FAILED, EXIT_OK, EXIT_TRY_AGAIN
from agent.cli.main import main
from agent.config.loader import load
from tests.support.mqtt_peers import Mosquitto, Subscriber, mosquitto, wait_until
from tests.support.running_agent import at, running, write_config, write_pictures

pytestmark = pytest.mark.broker


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    folder = tmp_path / "broker"
    folder.mkdir()
    with mosquitto(folder) as running_broker:
        yield running_broker


@pytest.fixture
def config(tiny_bundle: Path, broker: Mosquitto, tmp_path: Path) -> Path:
    """A line whose pictures all have the same verdict, again and again."""
    pictures = write_pictures(tmp_path / "pictures", 1)
    camera = {"kind": "folder", "path": str(pictures), "loop": True, "fps": 20}
    line = {"line": {"camera": camera, "quality": {"frozen_s": None}}}
    mqtt = {**at(broker), "commands": {"allow": ["*"]}}
    return write_config(tmp_path, tiny_bundle, line, mqtt=mqtt)


def codes(subscriber: Subscriber) -> list[str]:
    health = subscriber.last("health")
    return [] if health is None else [one["code"] for one in health["conditions"]]


def test_a_miss_alarms_over_a_restart_until_the_same_passes(
    config: Path, broker: Mosquitto, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever the tiny model says of the picture: the other expectation is missed."""
    subscriber = Subscriber(broker.port)
    with running(load(config)):
        wait_until(lambda: subscriber.results("line"))
        says = subscriber.results("line")[-1]["verdict"]
        other = {"pass": "fail", "fail": "pass"}[says]
        asked = {"expect": says, "parts": 3, "kind": "the one there is", "user": "scada"}
        good = subscriber.ask("challenge", asked)
        assert (good["status"], good["data"]["state"], good["data"]["met"]) == ("done", "passed", 3)
        assert len(good["data"]["results"]) == 3
        assert "challenge_missed" not in codes(subscriber)
        bad = subscriber.ask("challenge", {"expect": other, "parts": 2})
        assert (bad["data"]["state"], bad["data"]["missed"]) == ("missed", 2)
        wait_until(lambda: "challenge_missed" in codes(subscriber))

    def shown() -> str:
        capsys.readouterr()
        main(["status", "-c", str(config)])
        return capsys.readouterr().out

    with running(load(config)):  # asked itself: what the broker has retained is of the last run
        wait_until(lambda: "challenge_missed: line" in shown())
        command = ["challenge", "-c", str(config), "--json", "--expect"]
        assert main([*command, other]) == EXIT_CHECK_FAILED
        told = capsys.readouterr()
        assert json.loads(told.out)["state"] == "missed"
        assert f"): {says}, " in told.err  # the part by its name, and what was said of it
        assert f"until mekiki challenge --station line --expect {other} passes" in told.err
        assert "challenge_missed" in codes(subscriber)
        assert main([*command, says, "--parts", "2"]) == EXIT_OK
        assert "challenge_missed" in codes(subscriber)  # it was the other one that was missed
    capsys.readouterr()
    assert main([*command, says]) == EXIT_TRY_AGAIN
    assert "no agent runs" in capsys.readouterr().err
    lines = [json.loads(line) for line in (config.parent / "data" / "audit.jsonl").read_text().splitlines()]
    outcomes = [(one["actor"], one["after"]["state"]) for one in lines if one["event"] == "challenge"]
    assert [state for _, state in outcomes] == ["passed", "missed", "missed", "passed"]
    assert outcomes[0][0] == "mqtt:scada"
    assert subscriber.invalid == []
    subscriber.close()


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        ({}, "expect"),
        ({"expect": "unsure"}, "expect"),
        ({"expect": "fail", "parts": 0}, "parts"),
        ({"expect": "fail", "within_s": 1e9}, "within_s"),
        ({"expect": "fail", "station": "nowhere"}, "no station is called 'nowhere'"),
    ],
)
def test_what_cannot_be_a_challenge_is_refused(
    config: Path, broker: Mosquitto, asked: dict[str, Any], why: str
) -> None:
    subscriber = Subscriber(broker.port)
    with running(load(config)):
        wait_until(lambda: subscriber.results("line"))
        no = subscriber.ask("challenge", asked)
        assert no["status"] == "refused"
        assert why in no["reason"]
    subscriber.close()
