"""A running station whose pictures or product change: nothing is judged or learned by what was of another."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from agent.config.loader import load
from tests.support.learner_children import children
from tests.support.mqtt_peers import Subscriber, mosquitto, wait_until
from tests.support.running_agent import running
from tests.support.two_products import LID, edit, plant

pytestmark = pytest.mark.broker
PATIENCE_S = 60.0


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
