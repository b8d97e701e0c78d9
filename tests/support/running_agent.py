"""A whole agent for a test: its config, pictures, and a run of it in a thread."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image

from agent.app.daemon import Daemon
from agent.app.run_summary import Summary
from agent.config.loader import Loaded
from tests.support.mqtt_peers import Mosquitto

RECIPE = {
    "templates": ["a photo of {}"],
    "classes": {
        "ok": {"verdict": "pass", "phrases": ["a good part"]},
        "bad": {"verdict": "fail", "phrases": ["a bad part"]},
    },
}


def write_config(folder: Path, bundle: Path, stations: dict[str, Any], **sections: Any) -> Path:
    config = {
        "version": 1,
        "agent": {"id": "agent", "data_dir": "data"},
        "model": {"bundle": str(bundle)},
        "mqtt": {"enabled": False},
        "recipes": {"tiny": RECIPE},
        "stations": {name: {"recipe": "tiny", **station} for name, station in stations.items()},
        "storage": {"min_free_mb": 0},
        **sections,
    }
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(config, sort_keys=False))
    return path


def at(broker: Mosquitto) -> dict[str, Any]:
    return {
        "host": "127.0.0.1",
        "port": broker.port,
        "topic_prefix": "plant",
        "reconnect": {"initial_s": 0.1, "max_s": 0.5},
    }


def write_pictures(folder: Path, count: int) -> Path:
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(count):
        Image.fromarray(rng.integers(0, 255, (40, 50, 3), dtype=np.uint8)).save(folder / f"{number:04}.png")
    return folder


@contextmanager
def running(loaded: Loaded, frames: int | None = None) -> Iterator[tuple[Daemon, list[Summary]]]:
    daemon, summaries = Daemon(loaded, frames=frames), []
    thread = threading.Thread(target=lambda: summaries.append(daemon.run()))
    thread.start()
    try:
        yield daemon, summaries
    finally:
        daemon.stop()
        thread.join(20)
        assert not thread.is_alive()
