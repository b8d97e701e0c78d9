"""A whole agent for benchmarks: pictures in a folder, a mosquitto of its own, somebody who listens."""

from __future__ import annotations

import json
import multiprocessing
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import yaml
from paho.mqtt.enums import CallbackAPIVersion
from PIL import Image

from adapters.core.protocol import Engine
from agent.app.daemon import Daemon
from agent.config.loader import load
from camera.core.settings import SimulatedCamera
from camera.simulation.source import SimulatedLine

PICTURES = 64


def run(
    engine: Engine,
    folder: Path,
    port: int,
    frames: int,
    stations: int,
    fps: float | None = None,
    batch: int = 1,
) -> None:
    """Let an agent inspect so many frames; the arguments are those of `config`."""
    name = f"data-{time.monotonic_ns()}"
    loaded = load(config(folder, port, stations, data=name, fps=fps, batch=batch))
    Daemon(loaded, frames=frames, engine=engine).run()
    shutil.rmtree(folder / name)


def config(
    folder: Path, port: int, stations: int, *, data: str, fps: float | None = None, batch: int = 1
) -> Path:
    """Write the config of an agent.

    Args:
        folder: for it; ``folder/pictures`` is what the cameras show.
        port: of the broker.
        stations: how many.
        data: name of the agent's folder in `folder`.
        fps: pictures a second of each station; None as fast as they are inspected.
        batch: pictures that may go through the model together.
    """
    camera: dict[str, Any] = {"kind": "folder", "path": "pictures", "loop": True}
    if fps is not None:
        camera["fps"] = fps
    settings = {
        "version": 1,
        "agent": {"id": "bench", "data_dir": data},
        "mqtt": {"host": "127.0.0.1", "port": port},
        "inspector": {"batch": batch},
        "storage": {"min_free_mb": 0},
        "log": {"level": "warning"},
        "stations": {f"station{n}": {"recipe": "line", "camera": camera} for n in range(stations)},
    }
    path = folder / f"{data}.yaml"
    path.write_text(yaml.safe_dump(settings), encoding="utf-8")
    return path


def write_pictures(folder: Path) -> None:
    """Write pictures of the simulated line."""
    folder.mkdir()
    line = SimulatedLine(SimulatedCamera(seed=3, defect_rate=0.2))
    for number in range(1, PICTURES + 1):
        Image.fromarray(line.picture(number)).save(folder / f"{number:04}.jpg", quality=90)


@contextmanager
def mosquitto(folder: Path) -> Iterator[int]:
    """Serve on a free port of the loopback while the context lasts; yields the port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    config = folder / "mosquitto.conf"
    config.write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\nmax_queued_messages 0\nuser root\n")
    binary = shutil.which("mosquitto") or "/usr/sbin/mosquitto"
    broker = subprocess.Popen([binary, "-c", str(config)], stderr=subprocess.DEVNULL)
    try:
        time.sleep(0.5)
        yield port
    finally:
        broker.terminate()
        broker.wait(10)


@contextmanager
def subscriber(port: int) -> Iterator[Any]:
    """Collect results in a process of its own; yields a function that waits for n of them."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_listen, args=(port, theirs), daemon=True)
    process.start()
    assert ours.poll(30), "the subscriber did not start"
    ours.recv()

    def seen(count: int, timeout_s: float = 300.0) -> list[dict[str, float]]:
        ours.send(count)
        if not ours.poll(timeout_s):
            raise TimeoutError(f"{count} results did not arrive within {timeout_s:.0f} s")
        rows: list[dict[str, float]] = ours.recv()
        return rows

    try:
        yield seen
    finally:
        process.terminate()
        process.join(10)


def _listen(port: int, pipe: Any) -> None:
    arrived: list[tuple[float, bytes]] = []
    changed = threading.Condition()

    def on_message(_client: Any, _userdata: Any, message: Any) -> None:
        with changed:
            arrived.append((time.time(), message.payload))
            changed.notify_all()

    client = paho.Client(CallbackAPIVersion.VERSION2)
    client.on_message = on_message
    client.on_connect = lambda c, *_: c.subscribe("mekiki/+/+/result", 1)
    client.on_subscribe = lambda *_: pipe.send("ready")
    client.connect("127.0.0.1", port)
    client.loop_start()
    while True:
        count = pipe.recv()
        with changed:
            changed.wait_for(lambda count=count: len(arrived) >= count)
            rows = list(arrived)
        pipe.send([_row(at, json.loads(payload)) for at, payload in rows])


def _row(at: float, result: dict[str, Any]) -> dict[str, float]:
    return {
        "arrived": at,
        "captured": _seconds(result["captured_at"]),
        "decided": _seconds(result["decided_at"]),
        "wait": result["latency_ms"]["wait"],
        "infer": result["latency_ms"]["infer"],
    }


def _seconds(stamp: str) -> float:
    return datetime.fromisoformat(stamp).astimezone(UTC).timestamp()
