"""A running station whose pictures or product change: nothing is judged or learned by what was of another."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from agent.config.loader import Loaded, load
from agent.config.recipes import find_recipe, shipped
from agent.versions.commissioned import commissioning_file
from agent.versions.station_plans import failing
from tests.support.learner_children import children
from tests.support.learning_site import clean, site
from tests.support.learning_steps import promote
from tests.support.mqtt_peers import Mosquitto, Subscriber, mosquitto, wait_until
from tests.support.running_agent import at, running

pytestmark = pytest.mark.broker
PATIENCE_S = 60.0
LID = 2.5
"""Offset of the second product."""


def plant(folder: Path, broker: Mosquitto) -> Loaded:
    """Return a station with two commissioned products; of the first, a version answers at offset -4."""
    lid = shipped("line").model_dump(mode="json")
    lid["classes"]["ok"]["phrases"] = ["a flawless lid"]
    lid["classes"]["chipped"] = {"verdict": "fail", "phrases": ["a chipped lid"]}
    camera = {"kind": "simulated", "seed": 5, "fps": 10}
    mqtt = {**at(broker), "commands": {"allow": ["*"]}}
    loaded = site(folder, camera=camera, mqtt=mqtt, recipes={"lid": lid}, adaptation={"mode": "frozen"})
    promote(loaded, -4.0)
    file = commissioning_file(loaded.config, "line", "lid")
    file.parent.mkdir(parents=True)
    recipe = find_recipe("lid", loaded.config.recipes)
    replace(
        clean(), recipe=recipe.words, offset=LID, labels=(*clean().labels, "chipped"),
        fails=failing(recipe),
    ).save(file)  # fmt: skip
    return loaded


def edit(loaded: Loaded, change: Callable[[dict[str, Any]], Any]) -> None:
    """Save the file with another station."""
    config = yaml.safe_load(loaded.path.read_text())
    change(config["stations"]["line"])
    loaded.path.write_text(yaml.safe_dump(config, sort_keys=False))


def judged(subscriber: Subscriber) -> tuple[str, int, float] | None:
    """Return by which recipe, version and offset the last result was judged."""
    found = subscriber.results("line")
    if not found:
        return None
    made = found[-1]["provenance"]
    return found[-1]["recipe"], made["adapter"], made["offset"]


def answers(subscriber: Subscriber, number: int) -> bool:
    """Whether the learner says that this version answers."""
    return (subscriber.last("line/adapter") or {}).get("number") == number


def conditions(subscriber: Subscriber) -> list[str]:
    return [one["code"] for one in (subscriber.last("agent/health") or {}).get("conditions", [])]


FIRST, SECOND = ("line", 1, -4.0), ("lid", 0, LID)


def test_another_crop_is_not_learned_and_the_old_one_brings_the_baseline_back(tmp_path: Path) -> None:
    """Live: offset 0, no learner, a condition that says what to do; and back without a restart."""
    (tmp_path / "broker").mkdir()
    with mosquitto(tmp_path / "broker") as broker:
        loaded = plant(tmp_path, broker)
        subscriber = Subscriber(broker.port)
        with running(loaded):
            wait_until(lambda: judged(subscriber) == FIRST, PATIENCE_S)
            assert "commissioning_unusable" not in conditions(subscriber)
            edit(loaded, lambda station: station.update(roi={"crop": [0.0, 0.0, 0.5, 1.0]}))
            wait_until(lambda: judged(subscriber) == ("line", 0, 0.0), PATIENCE_S)
            wait_until(lambda: "commissioning_unusable" in conditions(subscriber), PATIENCE_S)
            (told,) = [
                one["message"]
                for one in subscriber.last("agent/health")["conditions"]
                if one["code"] == "commissioning_unusable"
            ]
            assert "region of interest: was [0, 0, 1, 1], is [0, 0, 0.5, 1]" in told
            assert "mekiki commission --station line --replace" in told
            wait_until(lambda: subscriber.last("line/adapter")["commissioning"] is None, PATIENCE_S)
            shown = subscriber.last("line/adapter")
            assert (shown["phase"], shown["number"]) == ("off", 0)
            wait_until(lambda: children(os.getpid()) == [], PATIENCE_S)  # nobody is left to learn on it
            edit(loaded, lambda station: station.pop("roi"))
            wait_until(lambda: judged(subscriber) == FIRST, PATIENCE_S)
            wait_until(lambda: "commissioning_unusable" not in conditions(subscriber), PATIENCE_S)
            wait_until(lambda: answers(subscriber, 1), PATIENCE_S)
        assert subscriber.invalid == []
        subscriber.close()


def test_each_product_keeps_threshold_and_versions_over_change_over_and_restart(tmp_path: Path) -> None:
    """By MQTT and by config; a label reaches the learner of the product that was judged, and no other."""
    (tmp_path / "broker").mkdir()
    with mosquitto(tmp_path / "broker") as broker:
        loaded = plant(tmp_path, broker)
        subscriber = Subscriber(broker.port)
        with running(loaded):
            wait_until(lambda: judged(subscriber) == FIRST, PATIENCE_S)
            wait_until(lambda: answers(subscriber, 1), PATIENCE_S)
            housing = subscriber.results("line")[-1]["event_id"]
            subscriber.send("plant/agent/line/recipe/set", b"lid")
            wait_until(lambda: judged(subscriber) == SECOND, PATIENCE_S)
            wait_until(lambda: answers(subscriber, 0), PATIENCE_S)
            lid = subscriber.results("line")[-1]["event_id"]
            made = len(subscriber.results("line"))
            wait_until(lambda: len(subscriber.results("line")) > made + 60, PATIENCE_S)
            # Words of the recipe that the part was judged by count, whatever is in force now.
            for event, label, status in ((housing, "chipped", "refused"), (lid, "chipped", "done")):
                subscriber.send(
                    "plant/agent/line/label", {"event_id": event, "label": label, "transaction": event}
                )
                wait_until(lambda event=event: subscriber.answer(event) is not None, PATIENCE_S)
                assert subscriber.answer(event)["status"] == status
        # Its learner counts the parts that were made of it, and not those of the other product before.
        active = tmp_path / "data" / "stations" / "line" / "recipes" / "lid" / "adapters" / "active.json"
        made = sum(one["recipe"] == "lid" for one in subscriber.results("line"))
        assert json.loads(active.read_text())["learner"]["frame"] <= made + 2
        with running(load(loaded.path)):
            count = len(subscriber.results("line"))
            wait_until(lambda: len(subscriber.results("line")) > count + 3, PATIENCE_S)
            assert judged(subscriber) == SECOND
            subscriber.send("plant/agent/line/recipe/set", b"line")
            wait_until(lambda: judged(subscriber) == FIRST, PATIENCE_S)
            edit(loaded, lambda station: station.update(recipe="lid"))
            wait_until(lambda: judged(subscriber) == SECOND, PATIENCE_S)
            edit(loaded, lambda station: station.update(recipe="line"))
            wait_until(lambda: judged(subscriber) == FIRST, PATIENCE_S)
        rows = (tmp_path / "data" / "audit.jsonl").read_text()
        assert '"lid"' in rows
        subscriber.close()
