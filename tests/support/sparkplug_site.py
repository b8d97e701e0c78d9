"""An agent that is an edge node, and what a host does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from agent.config.models import Config
from agent.sparkplug.payload import DataType, Metric, Payload, encode
from tests.support.configs import MINIMAL, load_text
from tests.support.sparkplug_peers import GROUP, NODE

HOST_ID = "scada"

SPARKPLUG = f"sparkplug: {{enabled: true, group_id: {GROUP}}}\n"


def a_config(folder: Path, port: int, protocol: int = 5, **sparkplug: Any) -> Config:
    text = (
        MINIMAL
        + f"""\
agent: {{id: {NODE}, data_dir: {folder / "data"}}}
mqtt:
  host: 127.0.0.1
  port: {port}
  protocol: {protocol}
  reconnect: {{initial_s: 0.1, max_s: 0.3}}
"""
    )
    (folder / "data").mkdir(exist_ok=True)
    extra = "".join(f", {key}: {value}" for key, value in sparkplug.items())
    return load_text(folder, text + SPARKPLUG.replace("}", f"{extra}}}")).config


def rebirth(**said: Any) -> bytes:
    usual = {"value": True, "name": "Node Control/Rebirth", "datatype": DataType.BOOLEAN}
    return encode(Payload(1, (Metric(**{**usual, **said}),)))


def by_name(payload: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {metric["name"]: metric for metric in payload["metrics"]}
