"""Parts of two products that alternate: each is judged by its own, and one of them learns."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from agent.config.loader import load
from tests.support.mqtt_peers import Subscriber, mosquitto, wait_until
from tests.support.running_agent import running
from tests.support.two_products import LID, edit, plant

pytestmark = pytest.mark.broker
PATIENCE_S = 60.0
BY_ID = [{"recipe": "lid", "part_id": "L-*"}]
LINE_OFFSET = -4.0


def triggered(station: dict[str, Any]) -> None:
    station.update(products=BY_ID, trigger={"mode": "mqtt", "deadline_ms": 20_000})


def asked(subscriber: Subscriber, *parts: str | None) -> list[dict[str, Any]]:
    """Announce parts one after the other; return their results."""
    found = []
    for part in parts:
        before = len(subscriber.results("line"))
        body = {"trigger_id": f"t{before}", **({} if part is None else {"part_id": part})}

        def answered(before: int = before, body: dict[str, Any] = body) -> bool:
            # A trigger that is repeated has its result once; one that came before the agent listens is lost.
            subscriber.send("plant/agent/line/trigger", body)
            return len(subscriber.results("line")) > before

        wait_until(answered, PATIENCE_S)
        found.append(subscriber.results("line")[-1])
    return found


def judged(result: dict[str, Any]) -> tuple[str, int, float]:
    made = result["provenance"]
    return result["recipe"], made["adapter"], made["offset"]


FIRST, SECOND = ("line", 1, LINE_OFFSET), ("lid", 0, LID)


def test_parts_that_alternate_are_judged_by_their_own_products(tmp_path: Path) -> None:
    """Recipe, threshold, version, baseline and labels; after a restart, a live edit and a change over too."""
    (tmp_path / "broker").mkdir()
    with mosquitto(tmp_path / "broker") as broker:
        loaded = plant(tmp_path, broker)
        edit(loaded, triggered)
        loaded = load(loaded.path)
        subscriber = Subscriber(broker.port)
        with running(loaded):
            wait_until(lambda: (subscriber.last("line/adapter") or {}).get("number") == 1, PATIENCE_S)
            found = asked(subscriber, "H-1", "L-1", "H-2", "L-2", None, "xL-3", "l-4")
            assert [judged(one) for one in found] == [FIRST, SECOND, FIRST, SECOND, FIRST, FIRST, FIRST]
            assert [one["trigger"]["part_id"] for one in found][:4] == ["H-1", "L-1", "H-2", "L-2"]
            of_line, of_lid = (one["provenance"] for one in found[:2])
            assert of_line["commissioning"] != of_lid["commissioning"]
            assert of_line["recipe"] != of_lid["recipe"]
            for one in found:
                assert ("chipped" in one["scores"]) == (one["recipe"] == "lid")
            # A label is read by the recipe that the part was judged by.
            for one, status in ((found[0], "refused"), (found[1], "done")):
                event = one["event_id"]
                subscriber.send(
                    "plant/agent/line/label", {"event_id": event, "label": "chipped", "transaction": event}
                )
                wait_until(lambda event=event: subscriber.answer(event) is not None, PATIENCE_S)
                assert subscriber.answer(event)["status"] == status
            edit(loaded, lambda station: station.update(products=[{"recipe": "lid", "part_id": "H-*"}]))
            wait_until(lambda: judged(asked(subscriber, "H-3")[0]) == SECOND, PATIENCE_S)
            assert judged(asked(subscriber, "L-3")[0]) == FIRST
            edit(loaded, triggered)
            wait_until(lambda: judged(asked(subscriber, "L-4")[0]) == SECOND, PATIENCE_S)
            assert judged(asked(subscriber, "H-4")[0]) == FIRST
        made = sum(one["recipe"] == "line" for one in subscriber.results("line"))
        active = tmp_path / "data" / "stations" / "line" / "adapters" / "active.json"
        # 500 stood there; the lids in between are not among the frames of the product in force.
        assert json.loads(active.read_text())["learner"]["frame"] <= 500 + made
        with running(load(loaded.path)):
            found = asked(subscriber, "L-5", "H-5", "L-6", "H-6")
            assert [judged(one) for one in found] == [SECOND, FIRST, SECOND, FIRST]
            # The other one in force: what no pattern names is a lid too, and nothing is a part of `line`.
            subscriber.send("plant/agent/line/recipe/set", b"lid")
            wait_until(lambda: judged(asked(subscriber, "H-7")[0]) == SECOND, PATIENCE_S)
            assert judged(asked(subscriber, "L-7")[0]) == SECOND
        assert subscriber.invalid == []
        subscriber.close()
