"""Samples for Node-RED and Telegraf: what they listen to and what they take is what the agent says."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tomllib
from typing import Any

import pytest

from agent.commands.schema import Command, matches, read
from agent.mqtt.messages import Inbound
from tests.support.mqtt_peers import SCHEMAS
from tests.support.places import ROOT

DEPLOY = ROOT / "deploy"
TOPICS = {
    "mekiki/line-1/line/result": "mekiki.result.v2",
    "mekiki/line-1/line/camera": "mekiki.camera.v1",
    "mekiki/line-1/line/drift": "mekiki.drift.v1",
    "mekiki/line-1/stats": "mekiki.stats.v1",
    "mekiki/line-1/health": "mekiki.health.v1",
    "mekiki/line-1/cmd/response/ping": "mekiki.answer.v1",
}


def schema_of(wanted: str) -> dict[str, Any]:
    found = [schema for topic, schema in TOPICS.items() if matches(wanted, topic)]
    assert len(found) == 1, wanted
    return dict(SCHEMAS[found[0]].schema)


def described(schema: dict[str, Any], path: str) -> dict[str, Any]:
    for name in path.split("."):
        assert name in schema["properties"], path
        schema = schema["properties"][name]
    return schema


def test_telegraf_takes_fields_that_are_there() -> None:
    """Every path is in the schema of its topic, required ones always, of the type it says."""
    config = tomllib.loads((DEPLOY / "telegraf" / "mekiki.conf").read_text())
    types = {"int": "integer", "float": "number", "bool": "boolean", "string": "string"}
    inputs = config["inputs"]["mqtt_consumer"]
    assert len(inputs) == 4
    for one in inputs:
        (topic,), (parse,) = one["topics"], one["json_v2"]
        schema = schema_of(topic)
        for tag in parse["tag"]:
            described(schema, tag["path"])
        if "timestamp_path" in parse:
            assert described(schema, parse["timestamp_path"])["format"] == "date-time"
        for field in parse["field"]:
            found = described(schema, field["path"])
            choices = [choice.get("type") for choice in found.get("anyOf", [found])]
            assert types[field["type"]] in choices or "enum" in found, field
            assert ("null" in choices) <= field.get("optional", False), field


def test_the_node_red_flow_is_whole() -> None:
    """Wires lead to nodes, every broker is the one, what is listened to is published, and fields exist."""
    flow = {node["id"]: node for node in json.loads((DEPLOY / "node-red" / "flow.json").read_text())}
    for node in flow.values():
        for wires in node.get("wires", []):
            assert set(wires) <= flow.keys()
        if node["type"].startswith("mqtt "):
            assert flow[node["broker"]]["type"] == "mqtt-broker"
        if node["type"] == "mqtt in":
            schema_of(node["topic"])
    order = next(node for node in flow.values() if node.get("name", "").startswith("in order"))
    schema = SCHEMAS["mekiki.result.v2"].schema
    for path in set(re.findall(r"\br\.([a-z_.]+)", order["func"])):
        described(schema, path)


@pytest.mark.skipif(shutil.which("node") is None, reason="needs node")
@pytest.mark.parametrize(
    ("name", "payload", "verb"),
    [
        ("say what it was", {"agent": "a", "station": "s", "event_id": "0" * 26, "label": "good"}, "label"),
        ("go back", {"agent": "a", "station": "s", "number": 0}, "adapter/rollback"),
        ("in order, gaps named", {"agent": "a", "station": "s", "seq": 9, "replayed": False,
                                  "trigger": {"part_id": None}}, "replay"),
    ],
)  # fmt: skip
def test_what_node_red_sends_is_a_command(name: str, payload: dict[str, Any], verb: str) -> None:
    """The functions run, and the agent reads what they make."""
    nodes = json.loads((DEPLOY / "node-red" / "flow.json").read_text())
    function = next(node["func"] for node in nodes if node.get("name") == name)
    script = f"""
        const store = {{'a/s': 5}}, node = {{warn: () => null}};
        const context = {{get: k => store[k], set: (k, v) => {{ store[k] = v; }}}};
        const made = (function (msg) {{ {function} }})({{payload: {json.dumps(payload)}}});
        console.log(JSON.stringify(Array.isArray(made) ? made[1] : made));
    """
    told = subprocess.run(["node", "-e", script], capture_output=True, text=True, timeout=60, check=True)
    message = json.loads(told.stdout)
    found = read(
        Inbound(message["topic"], json.dumps(message["payload"]).encode()), "mekiki/a", "mekiki", 1 << 14
    )
    assert isinstance(found, Command), found
    assert (found.verb, found.actor) == (verb, "mqtt:node-red")
