"""A line that knows good parts and no words: no model is loaded, and samples may come while it runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.mqtt_peers import Subscriber, mosquitto, wait_until
from tests.support.reference_line import HEIGHT, SPOT, WIDTH, WORDS, edit, give_reference, line
from tests.support.running_agent import at, running

pytestmark = pytest.mark.broker
PATIENCE_S = 120.0
KEPT = {"min_free_mb": 0, "images": {"enabled": True, "sampled_passes": 1.0}}


def conditions(subscriber: Subscriber) -> dict[str, str]:
    health = subscriber.last("health") or {"conditions": []}
    return {one["code"]: one["message"] for one in health["conditions"]}


def test_a_line_without_words_inspects_by_its_reference(tmp_path: Path) -> None:
    """The model that the config names is nowhere: nobody asks for it.

    Nothing passes before there is a reference; from then on good parts do, and those with a spot fail, with
    box, map and a row in the trail.
    """
    (tmp_path / "broker").mkdir()
    with mosquitto(tmp_path / "broker") as broker:
        loaded = line(tmp_path, mqtt=at(broker), storage=KEPT)
        subscriber = Subscriber(broker.port)
        with running(loaded):
            wait_until(lambda: len(subscriber.results("top")) > 1, PATIENCE_S)
            early = subscriber.results("top")[0]
            assert (early["verdict"], early["reason"]) == ("not_inspected", "no_reference")
            assert early["reference"] is None
            wait_until(lambda: "reference_unusable" in conditions(subscriber), PATIENCE_S)
            assert "run mekiki golden add" in conditions(subscriber)["reference_unusable"]
            assert subscriber.last("health")["health"] == "down"

            reference = give_reference(loaded)
            wait_until(lambda: subscriber.results("top")[-1]["reference"] is not None, PATIENCE_S)
            seen = len(subscriber.results("top"))
            wait_until(lambda: len(subscriber.results("top")) >= seen + 8, PATIENCE_S)
            wait_until(lambda: not conditions(subscriber), PATIENCE_S)
            assert subscriber.last("info")["model"]["name"] == "efficientnet-lite0"
            shown = subscriber.last("top/adapter")
            assert shown["why_off"] == "recipe own has no words: its reference judges, and nothing is learned"
            another = give_reference(loaded, seed=3)
            wait_until(
                lambda: (subscriber.results("top")[-1]["reference"] or {}).get("digest") == another.digest,
                PATIENCE_S,
            )
        results = subscriber.results("top")  # each was held against its schema
        subscriber.close()
    compared = [one for one in results if one["reference"] is not None]
    by_kind = {
        kind: [one for one in compared if one["trigger"]["part_id"].startswith(kind)]
        for kind in ("good", "spot")
    }
    assert {(one["verdict"], one["reason"], one["label"]) for one in by_kind["good"]} == {
        ("pass", "normal", None)
    }
    assert {(one["verdict"], one["reason"], one["label"], one["severity"]) for one in by_kind["spot"]} == {
        ("fail", "anomaly", "unknown", "critical")
    }
    made = by_kind["spot"][0]
    assert made["provenance"]["model"] == "efficientnet-lite0"
    assert made["reference"]["digest"] == reference.digest
    left, top, right, bottom = made["reference"]["box"]
    across, down = (SPOT[0] + 5) / WIDTH, (SPOT[1] + 5) / HEIGHT
    assert left < across < right
    assert top < down < bottom
    rows = [json.loads(row) for row in (tmp_path / "data" / "audit.jsonl").read_text().splitlines()]
    told = [row for row in rows if row["event"] == "reference"]
    assert [row["after"]["digest"] for row in told] == [reference.digest, another.digest]
    assert told[1]["before"]["digest"] == reference.digest
    maps = {path.name.removesuffix(".map.png") for path in (tmp_path / "data").rglob("*.map.png")}
    pictures = {path.stem for path in (tmp_path / "data" / "evidence").glob("top/*/*.jpg")}
    judged = {one["event_id"] for one in compared}
    assert maps
    assert maps <= pictures & judged


def test_version_1_says_all_of_it_in_its_own_words(tmp_path: Path) -> None:
    """What it has no word for it says as it always did; a closed schema holds."""
    (tmp_path / "broker").mkdir()
    with mosquitto(tmp_path / "broker") as broker:
        loaded = line(tmp_path, mqtt=at(broker) | {"result_version": 1})
        give_reference(loaded)
        subscriber = Subscriber(broker.port)
        with running(loaded, frames=8) as (_, summaries):
            wait_until(lambda: summaries, PATIENCE_S)
        wait_until(lambda: len(subscriber.results("top")) >= 4, PATIENCE_S)
        results = subscriber.results("top")
        subscriber.close()
    said = {(one["verdict"], one["reason"], one["label"], one["score"]) for one in results}
    assert said == {("pass", "class", None, None), ("fail", "class", "unknown", None)}
    assert {one["schema"] for one in results} == {"mekiki.result.v1"}


def test_words_may_not_come_where_no_model_is_loaded(tmp_path: Path) -> None:
    """The edit is refused with its place and what to do; the line goes on by its reference."""
    (tmp_path / "broker").mkdir()
    with mosquitto(tmp_path / "broker") as broker:
        loaded = line(tmp_path, mqtt=at(broker))
        give_reference(loaded)
        subscriber = Subscriber(broker.port)
        with running(loaded):
            wait_until(lambda: len(subscriber.results("top")) > 1, PATIENCE_S)
            edit(loaded, lambda config: config["recipes"]["own"].update(WORDS))
            wait_until(lambda: "config_refused" in conditions(subscriber), PATIENCE_S)
            told = conditions(subscriber)["config_refused"]
            assert "recipes.own: no station asked the model by words when this was started" in told
            assert "start it again" in told
            seen = len(subscriber.results("top"))
            wait_until(lambda: len(subscriber.results("top")) > seen + 2, PATIENCE_S)
        assert subscriber.results("top")[-1]["reference"] is not None
        subscriber.close()


def test_a_reference_comes_beside_the_words_while_the_line_runs(tmp_path: Path) -> None:
    """By an edit of the recipe, then by samples: from then on both are asked of each picture."""
    (tmp_path / "broker").mkdir()
    with mosquitto(tmp_path / "broker") as broker:
        loaded = line(tmp_path, mqtt=at(broker))
        loaded = edit(loaded, lambda config: (config.pop("model"), config["recipes"].update(own=WORDS)))
        subscriber = Subscriber(broker.port)
        with running(loaded):
            wait_until(lambda: len(subscriber.results("top")) > 1, PATIENCE_S)
            loaded = edit(loaded, lambda config: config["recipes"]["own"].update(reference={}))
            wait_until(lambda: "reference_unusable" in conditions(subscriber), PATIENCE_S)
            assert "are judged by words alone" in conditions(subscriber)["reference_unusable"]
            assert subscriber.last("health")["health"] == "degraded"
            give_reference(loaded)
            wait_until(lambda: subscriber.results("top")[-1]["reference"] is not None, PATIENCE_S)
            wait_until(lambda: not conditions(subscriber), PATIENCE_S)
            seen = len(subscriber.results("top"))
            wait_until(lambda: len(subscriber.results("top")) > seen + 5, PATIENCE_S)
        results = subscriber.results("top")
        subscriber.close()
    before = [one for one in results if one["reference"] is None and one["verdict"] != "not_inspected"]
    assert {(one["verdict"], one["reason"], one["label"]) for one in before} == {("pass", "class", "ok")}
    both = [one for one in results if one["reference"] is not None]
    said = {
        (one["trigger"]["part_id"][:4], one["verdict"], one["reason"], one["label"], one["source"]["label"])
        for one in both
    }
    assert said == {("good", "pass", "class", "ok", "ok"), ("spot", "fail", "anomaly", "unknown", "ok")}
    assert {one["provenance"]["model"] for one in results} == {"mekiki-line"}
    assert {one["reason"] for one in results if one["verdict"] == "not_inspected"} <= {"reload"}
