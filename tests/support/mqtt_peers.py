"""Real peers on loopback: a mosquitto of the test's own, and a subscriber that checks what it gets."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jsonschema
import paho.mqtt.client as paho
import pytest

from tests.support.insides import close_sockets
from tests.support.places import ROOT

SCHEMAS = {
    path.name.removesuffix(".schema.json"): jsonschema.Draft202012Validator(json.loads(path.read_text()))
    for path in (ROOT / "docs" / "schemas").glob("*.schema.json")
}


_TO_AGENTS = re.compile(r"/cmd/request/|/(set|label|trigger)$|^(homeassistant|ha)/")
"""Topics whose payloads have no schema of ours."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until(condition: Any, timeout_s: float = 15.0) -> None:
    """Wait for a condition, not for a time."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        time.sleep(0.01)


def answers(port: int) -> bool:
    """Whether somebody listens there."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


class Mosquitto:
    """A mosquitto on a port of its own that can be killed and started again."""

    def __init__(
        self, folder: Path, extra: str = "allow_anonymous true\n", *, port: int | None = None
    ) -> None:
        self.port = free_port() if port is None else port
        self._config = folder / "mosquitto.conf"
        # Run as whoever runs the tests; as root mosquitto would change to a user who cannot read tmp_path.
        self._config.write_text(f"listener {self.port} 127.0.0.1\nuser root\nmax_queued_messages 0\n{extra}")
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        binary = shutil.which("mosquitto") or "/usr/sbin/mosquitto"
        self._process = subprocess.Popen(
            [binary, "-c", str(self._config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        wait_until(lambda: answers(self.port))

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)
            self._process = None

    def signal(self, number: int) -> None:
        """Send a signal to the process that runs."""
        assert self._process is not None
        self._process.send_signal(number)


@contextmanager
def mosquitto(folder: Path, extra: str = "allow_anonymous true\n") -> Iterator[Mosquitto]:
    if shutil.which("mosquitto") is None and not Path("/usr/sbin/mosquitto").exists():
        pytest.skip("mosquitto is not installed: run tests/setup-services.sh as root")
    broker = Mosquitto(folder, extra)
    broker.start()
    try:
        yield broker
    finally:
        broker.kill()


class Subscriber:
    """Collects every message, validates it against its schema, and comes back when the broker does."""

    def __init__(self, port: int, topics: str = "#", **login: str) -> None:
        self.messages: list[tuple[str, bytes, bool]] = []
        self.invalid: list[str] = []
        self._subscribed = threading.Event()
        self._client = paho.Client(
            paho.CallbackAPIVersion.VERSION2, client_id=f"sub-{port}-{topics}", clean_session=False
        )
        if login:
            self._client.username_pw_set(login["username"], login["password"])
        self._client.reconnect_delay_set(1, 1)
        self._client.on_connect = lambda client, *_: client.subscribe(topics, 1)
        self._client.on_subscribe = lambda *_: self._subscribed.set()
        self._client.on_message = self._on_message
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        assert self._subscribed.wait(10)

    def _on_message(self, _client: Any, _userdata: Any, message: Any) -> None:
        self.messages.append((message.topic, message.payload, message.retain))
        if message.payload.startswith(b"{") and not _TO_AGENTS.search(message.topic):
            payload = json.loads(message.payload)
            for error in SCHEMAS[payload["schema"]].iter_errors(payload):
                self.invalid.append(f"{message.topic}: {error.json_path}: {error.message}")

    def subscribe_again(self) -> None:
        """Wait until a broker that forgot the subscription is back, and tell it."""
        wait_until(self._client.is_connected)
        self._client.subscribe("#", 1)

    def results(self, station: str | None = None) -> list[dict[str, Any]]:
        found = [json.loads(p) for t, p, _ in list(self.messages) if t.endswith("/result")]
        return [r for r in found if station in (None, r["station"])]

    def last(self, name: str) -> Any:
        """Return the newest payload of a topic that ends with `name`, or None."""
        for topic, payload, _ in reversed(list(self.messages)):
            if topic.endswith(f"/{name}"):
                return json.loads(payload) if payload.startswith(b"{") else payload.decode()
        return None

    def send(self, topic: str, payload: Any = b"", *, retain: bool = False) -> None:
        """Publish what a client of the plant would."""
        body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        self._client.publish(topic, body, 1, retain).wait_for_publish(10)

    def ask(self, verb: str, payload: Any = None, own: str = "plant/agent") -> dict[str, Any]:
        """Send a command and return its answer."""
        transaction = f"t{time.monotonic_ns()}"
        self.send(f"{own}/cmd/request/{verb}", {**(payload or {}), "transaction": transaction})
        wait_until(lambda: self.answer(transaction) is not None)
        found = self.answer(transaction)
        assert found is not None
        return found

    def answer(self, transaction: str) -> dict[str, Any] | None:
        """Return the answer to a transaction that has come, or None."""
        return next((a for a in self.answers() if a["transaction"] == transaction), None)

    def answers(self) -> list[dict[str, Any]]:
        return [json.loads(p) for t, p, _ in list(self.messages) if "/cmd/response/" in t]

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()
        close_sockets(self._client)


def check_complete(results: list[dict[str, Any]], last_seq: int) -> list[int]:
    """Assert that one station's results are all there, in order, and repeats say so; return these."""
    first_seen: dict[int, dict[str, Any]] = {}
    repeats = []
    for result in results:
        seq = result["seq"]
        if seq in first_seen:
            assert result["replayed"], f"{seq} came twice and does not say so"
            assert result["event_id"] == first_seen[seq]["event_id"]
            repeats.append(seq)
        else:
            assert seq == len(first_seen) + 1, f"{seq} came after {len(first_seen)}"
            first_seen[seq] = result
    assert len(first_seen) == last_seq
    return repeats
