"""Stats for Prometheus: the numbers of `P/stats`, for those who may ask."""

from __future__ import annotations

import http.client
import json
import logging
import os
import socket
import sqlite3
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from itertools import count as counting
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families
from pydantic import SecretStr, ValidationError

from agent.app.daemon import Daemon
from agent.base.codec import JSON
from agent.base.errors import ConfigError
from agent.commands.dispatcher import Dispatcher
from agent.config.loader import load
from agent.config.models import MetricsSettings
from agent.config.models_mqtt import MqttSettings
from agent.domain.publisher_stats import PublisherStats
from agent.mqtt.retained_topics import RetainedTopics
from agent.payloads.agent_payload import stats
from agent.telemetry.counters import BOUNDS_MS, Counters
from agent.telemetry.http_server import MAX_CLIENTS
from agent.telemetry.prometheus import metrics_server
from camera.feed.stats import FeedStats
from tests.support.insides import limit
from tests.support.mqtt_peers import SCHEMAS, Subscriber, free_port, mosquitto, wait_until
from tests.support.places import ROOT
from tests.support.running_agent import at, running, write_config
from tests.support.verdicts import a_verdict

TOKEN = "a token that is long enough"
NOW: JSON = {
    "health": "degraded",
    "results": {"stored": 3, "published": 2, "waiting": 1, "lost": 0, "given_up": 0, "too_large": 0},
    "storage": {
        "database_bytes": 9, "images": 2, "image_bytes": 5, "images_dropped": 1, "oldest_at": None,
        "purging": True, "purged": 7, "purged_images": 0,
    },
    "stations": {},
}  # fmt: skip


STATION: JSON = {
    "connected": True, "fps": 1.0, "frames": 1, "dropped": 0, "reconnects": 0, "stalls": 0, "fault": None,
    "parts": 0, "no_part": 0, "disturbances": 0,
    "luma": 1.0, "sharpness": None, **Counters().shown("line"),
}  # fmt: skip
LARGE = NOW | {"stations": {"line": STATION | {"verdicts": {"long" * 750_000: {"pass": 1}}}}}
"""More than the buffers of a connection take."""


def get(port: int, path: str = "/metrics", **headers: str) -> tuple[int, str]:
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def samples(text: str) -> dict[tuple[str, tuple[str, ...]], float]:
    """Return every sample by its name and the values of its labels, in the order of these."""
    families = text_string_to_metric_families(text)
    return {
        (s.name, tuple(s.labels[label] for label in sorted(s.labels))): s.value
        for family in families
        for s in family.samples
    }


@pytest.mark.broker
def test_metrics_say_what_the_stats_say(tiny_bundle: Path, tmp_path: Path) -> None:
    """After the last part both count every verdict that is in the store, by recipe and outcome."""
    (tmp_path / "broker").mkdir()
    stations = {name: {"camera": {"kind": "simulated", "parts": 40}} for name in ("top", "side")}
    stations["late"] = {"camera": {"kind": "opencv", "source": f"rtsp://127.0.0.1:{free_port()}/none"}}
    port = free_port()
    with mosquitto(tmp_path / "broker") as broker:
        mqtt = at(broker) | {"stats_interval_s": 0.2}
        loaded = load(
            write_config(tmp_path, tiny_bundle, stations, mqtt=mqtt, metrics={"enabled": True, "port": port})
        )
        subscriber = Subscriber(broker.port)
        with running(loaded):
            wait_until(
                lambda: (subscriber.last("stats") or {"results": {}})["results"].get("stored", 0) >= 80
            )
            status, text = get(port)
            told = subscriber.last("stats")
        subscriber.close()
    assert (status, subscriber.invalid) == (200, [])
    found = samples(text)
    with sqlite3.connect(tmp_path / "data" / "mekiki.db") as db:
        rows = [json.loads(row[0]) for row in db.execute("SELECT payload FROM verdict")]
    truth = Counter(
        (row["recipe"], row["station"], row["verdict"]) for row in rows if row["station"] != "late"
    )
    for labels, count in truth.items():
        assert found["mekiki_verdicts_total", labels] == count
        assert told["stations"][labels[1]]["verdicts"][labels[0]][labels[2]] == count
    for station in ("top", "side"):
        slow = [row["latency_ms"]["infer"] for row in rows if row["station"] == station]
        assert found["mekiki_latency_seconds_count", ("infer", station)] == len(slow) == 40
        assert found["mekiki_latency_seconds_sum", ("infer", station)] == pytest.approx(
            sum(slow) / 1e3, abs=1e-3
        )
    assert (told["health"], found["mekiki_health", ()]) == ("down", 2.0)  # the only one that has not ended
    assert found["mekiki_camera_connected", ("late",)] == 0.0
    labels = {
        name for family in text_string_to_metric_families(text) for s in family.samples for name in s.labels
    }
    assert labels <= {"station", "recipe", "verdict", "stage", "le"}


def test_only_who_may_ask_is_answered() -> None:
    """By the token where there is one; else only under the loopback's own name."""
    for token, headers, status in (
        (TOKEN, {"Authorization": f"Bearer {TOKEN}"}, 200),
        (TOKEN, {"Authorization": f"Bearer {TOKEN}x"}, 401),
        (TOKEN, {"Authorization": "Bearer \xe9"}, 401),
        (TOKEN, {}, 401),
        (None, {}, 200),
        (None, {"Host": "evil.example:9464"}, 403),
        (None, {"Host": ""}, 403),
    ):
        settings = MetricsSettings(port=0, token=None if token is None else SecretStr(token))
        with metrics_server(settings, lambda: NOW) as port:
            found, text = get(port, **headers)
            assert found == status, headers
            assert ("mekiki_results_stored_total 3.0" in text) == (status == 200)
            assert get(port, "/", **headers)[0] == (404 if status == 200 else status)
            assert TOKEN not in text


def test_an_open_address_needs_a_token() -> None:
    with pytest.raises(ValidationError, match="needs a token"):
        MetricsSettings(host="0.0.0.0")
    assert MetricsSettings(host="0.0.0.0", token=SecretStr(TOKEN)).token is not None


def numbers(value: Any, path: tuple[str, ...] = ()) -> dict[tuple[str, ...], Any]:
    """Return every number of the stats by its path."""
    if isinstance(value, dict):
        return {p: n for key, one in value.items() for p, n in numbers(one, (*path, key)).items()}
    return {path: value} if isinstance(value, int | float) and not isinstance(value, bool) else {}


def marked(value: Any, next_number: Iterator[int]) -> Any:
    """Return the same stats with another number in each place."""
    if isinstance(value, dict):
        return {key: marked(one, next_number) for key, one in value.items()}
    return next(next_number) if isinstance(value, int | float) and not isinstance(value, bool) else value


def test_every_number_of_the_stats_is_a_metric() -> None:
    """The stats of an agent with everything in them: none of their numbers is on one surface only."""
    feed = FeedStats("line", True, False, 1.0, 1, 1, 1, 1, None, 1.0, 1.0)
    tally = Counters()
    tally.add([a_verdict("line")])
    told = PublisherStats(1, 1, 1, 1, 1, None, None, too_large=1)
    now = stats("agent", datetime.now(UTC), "ok", told, [feed], tally.shown)
    commands = Dispatcher(MqttSettings(), "agent", {}, RetainedTopics(str)).shown() | {"triggers_lost": 1}
    full = marked({**now, "commands": commands}, counting(1001))
    SCHEMAS[full["schema"]].validate(full)
    with metrics_server(MetricsSettings(port=0), lambda: full) as port:
        served = {*samples(get(port)[1]).values()}
    missing = {
        ".".join(path)
        for path, number in numbers(full).items()
        if not {number, number / 1e3} & served  # milliseconds are seconds there
    }
    assert missing == set()


def test_the_stats_schema_names_no_counter_that_is_not_told() -> None:
    """What readers are promised is what the test above walks through."""
    schema = SCHEMAS["mekiki.stats.v1"].schema["properties"]
    with metrics_server(MetricsSettings(port=0), lambda: NOW | {"commands": COMMANDS}) as port:
        names = {name for name, _ in samples(get(port)[1])}
    for section in ("results", "commands"):
        for counter in schema[section]["properties"]:
            assert any(name.endswith((f"_{counter}_total", f"_{counter}")) for name in names), counter


COMMANDS = dict.fromkeys(("received", "obeyed", "refused", "unanswered", "retained", "triggers_lost"), 0)


def connections(port: int, many: int, first: bytes = b"") -> list[socket.socket]:
    found = []
    for _ in range(many):
        found.append(socket.create_connection(("127.0.0.1", port), timeout=10))
        found[-1].sendall(first)
    return found


@pytest.mark.parametrize(
    "first",
    [b"", b"GET /metr", b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nX-Slow: ", b"\r\n"],
    ids=["silent", "half a line", "half a header", "an empty line"],
)
def test_clients_that_never_ask_keep_nobody_out(first: bytes) -> None:
    """However many hold their connection: the oldest of them are ended, and a scrape is answered."""
    with metrics_server(MetricsSettings(port=0), lambda: NOW) as port:
        idle = connections(port, 3 * MAX_CLIENTS, first)
        try:
            for _ in range(3):  # while the threads of those that were ended leave, it may be turned away once
                wait_until(lambda: answers(port), 60)
            assert threads() <= 2 * MAX_CLIENTS + 1
        finally:
            for one in idle:
                one.close()


def answers(port: int) -> bool:
    try:
        return get(port)[0] == 200
    except (OSError, http.client.HTTPException):
        return False


def threads() -> int:
    return sum("process_request_thread" in thread.name for thread in threading.enumerate())


def test_a_client_that_drips_its_request_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """A byte now and then is no reason to wait on: the whole request has its time."""
    limit(monkeypatch, "a scrape may take to ask", 0.5)
    with metrics_server(MetricsSettings(port=0), lambda: NOW) as port:
        (slow,) = connections(port, 1, b"GET /metrics HTTP/1.1\r\n")
        with slow:
            wait_until(lambda: not takes(slow, b"X"), 60)
        assert get(port)[0] == 200


def takes(client: socket.socket, byte: bytes) -> bool:
    """Whether a connection still takes what is dripped into it."""
    try:
        client.sendall(byte)
    except ConnectionError:
        return False
    return True


def test_a_client_that_does_not_read_its_answer_keeps_nobody_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor one that keeps the connection open behind it, for another request that never comes."""
    limit(monkeypatch, "a scrape may take to read", 600.0)  # they are pushed out, not waited for
    asked = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: keep-alive\r\n\r\n"
    with metrics_server(MetricsSettings(port=0), lambda: LARGE) as port:
        deaf = connections(port, 2 * MAX_CLIENTS, asked)
        try:
            for _ in range(3):
                status, text = get(port)
                assert (status, len(text) > 3_000_000) == (200, True)
        finally:
            for one in deaf:
                one.close()


def test_a_fault_of_ours_is_told_and_the_next_scrape_is_answered(caplog: pytest.LogCaptureFixture) -> None:
    answers = iter([KeyError("bug"), NOW])

    def told() -> JSON:
        found = next(answers)
        if isinstance(found, Exception):
            raise found
        return found

    with metrics_server(MetricsSettings(port=0), lambda: NOW) as port:
        assert get(port)[0] == 200
    with metrics_server(MetricsSettings(port=0), told) as port:
        assert get(port)[0] == 500
        assert get(port)[0] == 200
    assert "could not be answered" in caplog.text
    assert "KeyError" in caplog.text


def test_inspection_goes_on_where_the_port_is_taken(tiny_bundle: Path, tmp_path: Path) -> None:
    """Who opens the server hears which address it was; see `test_spared.py` for how it is tried again."""
    stations = {"line": {"camera": {"kind": "simulated", "parts": 3}}}
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        metrics = {"enabled": True, "port": other.getsockname()[1]}
        loaded = load(write_config(tmp_path, tiny_bundle, stations, metrics=metrics))
        with (
            pytest.raises(ConfigError, match=r"cannot be served.*metrics\.port"),
            metrics_server(loaded.config.metrics, lambda: NOW),
        ):
            pass
        assert Daemon(loaded).run().inspected == 3


@given(st.lists(st.floats(0, 1e5), max_size=50))
def test_the_steps_of_latency_add_up(latencies_ms: list[float]) -> None:
    tally = Counters()
    for ms in latencies_ms:
        tally.add([replace(a_verdict("line"), infer_ms=ms)])
    shown = tally.shown("line")["latency"]["infer"]
    assert shown["count"] == len(latencies_ms)
    for bound in BOUNDS_MS:
        assert shown["within_ms"][f"{bound:g}"] == sum(ms <= bound for ms in latencies_ms)


def test_the_dashboard_asks_for_what_there_is() -> None:
    """Every metric that a panel names is one that the agent serves."""
    dashboard = json.loads((ROOT / "deploy" / "grafana" / "mekiki.json").read_text())
    station = STATION | {"verdicts": {"line": {"pass": 1}}}
    with metrics_server(MetricsSettings(port=0), lambda: NOW | {"stations": {"line": station}}) as port:
        names = {name for name, _ in samples(get(port)[1])}
    asked = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    assert len(asked) >= 6
    for expression in asked:
        words = expression.replace("(", " ").replace("{", " ").replace("[", " ").replace(")", " ").split()
        used = {word for word in words if word.startswith("mekiki_")}
        assert used, expression
        assert used <= names, expression


def test_in_the_journal_a_line_has_its_priority(tmp_path: Path) -> None:
    """`journalctl -p warning` finds warnings, tracebacks included; nothing else changes."""
    code = (
        "import logging\nfrom agent.base import logs\nlogs.set_up('info', 'text')\n"
        "log = logging.getLogger('agent.test')\nlog.info('all is well')\n"
        "logging.getLogger('some.library').info('for its makers only')\n"
        "try:\n    1 / 0\nexcept ZeroDivisionError:\n    log.exception('it is not')\n"
    )
    file = tmp_path / "journal"
    with file.open("wb") as stream:
        name = f"{os.fstat(stream.fileno()).st_dev}:{os.fstat(stream.fileno()).st_ino}"
        for journal in (name, "1:2"):
            environment = os.environ | {"JOURNAL_STREAM": journal}
            subprocess.run(
                [sys.executable, "-c", code], stderr=stream, env=environment, check=True, timeout=60
            )
    lines = file.read_text().splitlines()
    half = len(lines) // 2
    assert lines[0] == "<6>all is well"
    assert all(line.startswith("<3>") for line in lines[1:half])
    assert lines[half].endswith("INFO    all is well")


@pytest.fixture(autouse=True)
def _logging() -> Any:
    before = logging.getLogger().handlers[:]
    yield
    logging.getLogger().handlers[:] = before
