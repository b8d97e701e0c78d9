"""The demo's config: demo.yaml with what only this machine knows."""

from __future__ import annotations

import json
import socket
from importlib import resources
from pathlib import Path
from typing import Final

from agent.config.loader import Loaded, load
from agent.mqtt.embedded_broker import HOST

STATION: Final = "line"


def demo_config(folder: Path, fps: float | None) -> Loaded:
    """Write demo.yaml into a folder and load it.

    Args:
        folder: for the config and the agent's data.
        fps: parts a second; None as fast as they are inspected.
    """
    text = (resources.files("agent.demo") / "demo.yaml").read_text(encoding="utf-8")
    values = {
        "data_dir": json.dumps(str(folder / "data"), allow_nan=False),
        "port": str(_free_port()),
        "fps": "null" if fps is None else str(float(fps)),
    }
    for name, value in values.items():
        text = text.replace(f"<{name}>", value)
    path = folder / "demo.yaml"
    path.write_text(text, encoding="utf-8")
    return load(path)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])
