"""The plant: a broker, a cable, a camera, an agent that learns, and a subscriber that misses nothing."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import psutil
import yaml

from tests.faults.camera import Camera
from tests.faults.growth import Sample, sample
from tests.faults.wire import Wire
from tests.support.learning_site import clean
from tests.support.mqtt_peers import Mosquitto, free_port, wait_until
from tests.support.places import ROOT

PATIENCE_S = 600.0
"""The machine may be busy with other things."""
_ANSWER_S = 3.0
PREFIX = "plant/agent"


class Subscriber:
    """Notes every result, comes back when the broker does, and asks for what it has missed."""

    def __init__(self, port: int) -> None:
        self.seen: dict[str, dict[int, str]] = {}
        self.repeated = 0
        self.wrong: list[str] = []
        self.newest_s = 0.0
        self.health: list[str] | None = None
        self.answers: dict[str, dict[str, Any]] = {}
        self._client = paho.Client(paho.CallbackAPIVersion.VERSION2, client_id="witness", clean_session=False)
        self._client.reconnect_delay_set(1, 1)
        self._client.on_connect = lambda client, *_: client.subscribe(f"{PREFIX}/#", 1)
        self._client.on_message = self._take
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()

    def ask(self, verb: str, transaction: str, **body: Any) -> None:
        body |= {"transaction": transaction, "user": "plant"}
        self._client.publish(f"{PREFIX}/cmd/request/{verb}", json.dumps(body), 1)

    def send(self, topic: str, payload: bytes) -> None:
        self._client.publish(topic, payload, 1)

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def _take(self, _client: Any, _userdata: Any, message: Any) -> None:
        if message.topic.endswith("/result"):
            result = json.loads(message.payload)
            seen = self.seen.setdefault(result["station"], {})
            known = seen.setdefault(result["seq"], result["event_id"])
            if known != result["event_id"]:
                self.wrong.append(f"{result['station']} {result['seq']}: {known} and {result['event_id']}")
            if not result["replayed"]:
                at = datetime.fromisoformat(result["decided_at"]).timestamp()
                self.newest_s = max(self.newest_s, at)
        elif message.topic == f"{PREFIX}/health":
            self.health = [one["code"] for one in json.loads(message.payload)["conditions"]]
        elif message.topic.startswith(f"{PREFIX}/cmd/response/"):
            answer = json.loads(message.payload)
            if answer.get("transaction"):
                self.answers[answer["transaction"]] = answer


@dataclass
class Plant:
    """Everything that can break. Made by `plant`."""

    folder: Path
    data: Path
    broker: Mosquitto
    wire: Wire
    camera: Camera
    subscriber: Subscriber
    config: Path
    lives: list[list[Sample]] = field(default_factory=list)
    _process: subprocess.Popen[bytes] | None = None
    _over: threading.Event = field(default_factory=threading.Event)

    def start(self) -> None:
        journal = (self.folder / "journal").open("ab")
        program = "tests.faults.probed" if "PROBE" in os.environ else "agent"
        self._process = subprocess.Popen(
            [sys.executable, "-m", program, "run", "-c", str(self.config)], stdout=journal, stderr=journal
        )
        journal.close()
        self.lives.append([])

    @property
    def pid(self) -> int:
        assert self._process is not None
        assert self._process.poll() is None, f"the agent ended with {self._process.returncode}"
        return self._process.pid

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        assert self._process is not None
        self._process.wait()

    def stop(self) -> int:
        """Stop in order and return the exit code."""
        os.kill(self.pid, signal.SIGTERM)
        assert self._process is not None
        return self._process.wait(PATIENCE_S)

    def end(self) -> None:
        """Watch no more, and stop the agent where it runs; one that does not stop is killed."""
        self._over.set()
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(30)
            except subprocess.TimeoutExpired:
                self._process.kill()

    def learners(self) -> list[int]:
        return [
            child.pid
            for child in psutil.Process(self.pid).children()
            if "learner" in " ".join(child.cmdline())
        ]

    def recovered(self, since_s: float, patience_s: float = PATIENCE_S) -> None:
        """Wait for a result that was decided after `since_s` and has arrived."""
        wait_until(lambda: self.subscriber.newest_s > since_s, patience_s)

    def save(self, **changes: Any) -> None:
        settings = yaml.safe_load(self.config.read_text())
        for key, value in changes.items():
            settings["recipes"]["line"][key] = value
        self.config.write_text(yaml.safe_dump(settings, sort_keys=False))

    def stored(self) -> dict[str, dict[int, str]]:
        with contextlib.closing(sqlite3.connect(self.data / "mekiki.db", timeout=10)) as db:
            found: dict[str, dict[int, str]] = {}
            for station, seq, event in db.execute("SELECT station, seq, event_id FROM verdict"):
                found.setdefault(station, {})[seq] = event
            return found

    def missing(self) -> dict[str, list[int]]:
        """Return the numbers that were stored, here or until retention took them, and never arrived."""
        return {
            station: sorted(set(range(1, max(rows) + 1)) - self.subscriber.seen.get(station, {}).keys())
            for station, rows in self.stored().items()
        }

    def ask_for_missing(self) -> int:
        """Have sent again what a broker forgot although it had acknowledged it; returns how many."""
        wait_until(self._quiet, PATIENCE_S)
        missing = self.missing()
        for station, numbers in missing.items():
            if numbers:
                wait_until(lambda station=station: self._asked(station, missing[station]), PATIENCE_S)
        wait_until(lambda: not self._still(missing), PATIENCE_S)
        return sum(map(len, missing.values()))

    def watch(self) -> None:
        """Sample what the agent holds, every two seconds until the end; a thread of its own."""
        while not self._over.wait(2.0):
            with contextlib.suppress(psutil.Error, OSError, AssertionError):
                self.lives[-1].append(sample(self.pid, time.monotonic()))

    def _asked(self, station: str, numbers: list[int]) -> bool:
        """Ask for a range; False where there was too much to do just now."""
        name = f"{station}-{time.monotonic_ns()}"
        self.subscriber.ask("replay", name, station=station, from_seq=numbers[0], to_seq=numbers[-1])
        until = time.monotonic() + _ANSWER_S
        while name not in self.subscriber.answers:
            if time.monotonic() > until:  # who asks while the agent is away asks again
                return False
            time.sleep(0.05)
        return bool(self.subscriber.answers[name]["status"] == "accepted")

    def _quiet(self) -> bool:
        """Whether the outbox is nearly empty: what is missing now is missing for good."""
        with contextlib.closing(sqlite3.connect(self.data / "mekiki.db", timeout=10)) as db:
            return int(db.execute("SELECT count(*) FROM outbox").fetchone()[0]) < 50

    def _still(self, asked: dict[str, list[int]]) -> bool:
        return any(
            number not in self.subscriber.seen.get(station, {})
            for station, numbers in asked.items()
            for number in numbers
        )


@contextlib.contextmanager
def plant(folder: Path, data: Path | None = None) -> Iterator[Plant]:
    """Build it, start it, and wait for its first result."""
    data = data or folder / "data"
    (folder / "broker").mkdir()
    broker = Mosquitto(folder / "broker")
    broker.start()
    wire, camera = Wire(broker.port), Camera()
    config = _write_config(folder, data, wire.port, camera)
    place = data / "stations" / "line"
    place.mkdir(parents=True)
    clean().save(place / "commissioning.safetensors")
    one = Plant(folder, data, broker, wire, camera, Subscriber(broker.port), config)
    one.start()
    threading.Thread(target=one.watch, daemon=True).start()
    try:
        one.recovered(0.0)
        yield one
    finally:
        one.end()
        one.subscriber.close()
        wire.close()
        camera.unplug()
        broker.kill()


def _write_config(folder: Path, data: Path, port: int, camera: Camera) -> Path:
    recipe = yaml.safe_load((ROOT / "agent" / "config" / "shipped" / "line.yaml").read_text())
    quick = {"initial_s": 0.2, "max_s": 1.0}
    settings = {
        "version": 1,
        "agent": {"id": "agent", "data_dir": str(data)},
        "mqtt": {
            "host": "127.0.0.1",
            "port": port,
            "topic_prefix": "plant",
            "keepalive_s": 2,
            "reconnect": quick,
            "drain_per_s": 2000.0,
            "stats_interval_s": 1.0,
            "commands": {"allow": ["*"]},
        },
        "recipes": {"line": recipe},
        "stations": {
            "line": {
                "recipe": "line",
                "camera": {"kind": "simulated", "seed": 5, "fps": 15},
                "adaptation": {"duty": 0.1},
            },
            "gate": {
                "recipe": "line",
                "camera": {
                    "kind": "opencv",
                    "source": camera.url,
                    "open_timeout_s": 1.0,
                    "read_timeout_s": 1.0,
                    "reconnect": quick,
                },
            },
        },
        "storage": {"min_free_mb": 4, "max_mb": 16, "ballast_mb": 4},
        "metrics": {"enabled": True, "port": free_port()},
    }
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(settings, sort_keys=False))  # their order is the classes' order
    return path
