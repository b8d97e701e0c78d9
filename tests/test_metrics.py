"""Stats for Prometheus: the numbers of `P/stats`, for those who may ask."""

from __future__ import annotations

import json
import logging
import os
import socket
import sqlite3
import subprocess
import sys
import urllib.error
import urllib.request
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mqtt_peers import Subscriber, free_port, mosquitto, wait_until
from prometheus_client.parser import text_string_to_metric_families
from pydantic import SecretStr, ValidationError
from test_daemon import at, running, write_config
from verdicts import a_verdict

from agent.config import MetricsSettings
from agent.configfile import load
from agent.daemon import Daemon
from agent.errors import ConfigError
from agent.metrics import metrics_server
from agent.payloads import JSON
from agent.tally import BOUNDS_MS, Tally

TOKEN = "a token that is long enough"
NOW: JSON = {
    "health": "degraded",
    "results": {"stored": 3, "published": 2, "waiting": 1, "lost": 0, "given_up": 0},
    "storage": {
        "database_bytes": 9, "images": 2, "image_bytes": 5, "images_dropped": 1, "oldest_at": None,
        "purging": True, "purged": 7, "purged_images": 0,
    },
    "stations": {},
}  # fmt: skip


def get(port: int, path: str = "/metrics", **headers: str) -> tuple[int, str]:
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
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


def test_a_client_that_says_nothing_does_not_keep_others_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.metrics._Handler.timeout", 0.3)
    with metrics_server(MetricsSettings(port=0), lambda: NOW) as port, socket.socket() as silent:
        silent.connect(("127.0.0.1", port))
        silent.send(b"GET /metr")
        assert get(port)[0] == 200


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
    tally = Tally()
    for ms in latencies_ms:
        tally.add([replace(a_verdict("line"), infer_ms=ms)])
    shown = tally.shown("line")["latency"]["infer"]
    assert shown["count"] == len(latencies_ms)
    for bound in BOUNDS_MS:
        assert shown["within_ms"][f"{bound:g}"] == sum(ms <= bound for ms in latencies_ms)


def test_the_dashboard_asks_for_what_there_is() -> None:
    """Every metric that a panel names is one that the agent serves."""
    dashboard = json.loads((Path(__file__).parent.parent / "deploy" / "grafana" / "mekiki.json").read_text())
    station = {
        "connected": True, "fps": 1.0, "frames": 1, "dropped": 0, "reconnects": 0, "stalls": 0,
        **Tally().shown("line"),
    }  # fmt: skip
    station["verdicts"] = {"line": {"pass": 1}}
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
        "import logging\nfrom agent import logs\nlogs.set_up('info', 'text')\n"
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
