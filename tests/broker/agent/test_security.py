"""What an agent gives away, whom it calls, and what it makes of text that somebody else wrote."""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import tomllib
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from agent.base import logs
from tests.support.mqtt_peers import Subscriber, free_port, mosquitto, wait_until
from tests.support.places import ROOT
from tests.support.running_agent import RECIPE

PATIENCE_S = 60.0

PLANTED = {
    "MQTT_USER": "planted-mqtt-user",
    "MQTT_PASSWORD": "planted-mqtt-password",
    "CAMERA_USER": "planted-camera-user",
    "CAMERA_PASSWORD": "planted-camera-password",
    "CAMERA_PATH": "planted-camera-path",
}


def config(folder: Path, bundle: Path, broker: int, metrics: int) -> Path:
    """Write a config with a secret in every place that takes one, by reference and as it is."""
    (folder / "token").write_text("planted-metrics-token\n")
    camera = "${env:CAMERA_USER}:${env:CAMERA_PASSWORD}@127.0.0.1:1/${env:CAMERA_PATH}"
    settings = {
        "version": 1,
        "agent": {"id": "agent", "data_dir": "data"},
        "model": {"bundle": str(bundle)},
        "mqtt": {
            "host": "127.0.0.1",
            "port": broker,
            "username": "${env:MQTT_USER}",
            "password": "${env:MQTT_PASSWORD}",
            "stats_interval_s": 0.5,
            "reconnect": {"initial_s": 0.1, "max_s": 0.5},
        },
        "recipes": {"tiny": RECIPE},
        "stations": {
            "line": {"recipe": "tiny", "camera": {"kind": "simulated", "fps": 20}},
            "rtsp": {
                "recipe": "tiny",
                "camera": {"kind": "opencv", "source": f"rtsp://{camera}", "open_timeout_s": 0.5},
            },
            "http": {
                "recipe": "tiny",
                "camera": {
                    "kind": "opencv",
                    "source": "http://127.0.0.1:1/a?user=x&password=planted-in-the-file",
                    "open_timeout_s": 0.5,
                },
            },
        },
        "storage": {"min_free_mb": 0},
        "metrics": {"enabled": True, "port": metrics, "token": "${file:token}"},
        "log": {"level": "debug"},
    }
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(settings, sort_keys=False))
    return path


@pytest.mark.broker
def test_no_output_of_any_kind_holds_a_secret(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Journal, MQTT, metrics, files, arguments of processes, other commands; also in trouble."""
    for name, secret in PLANTED.items():
        monkeypatch.setenv(name, secret)
    (tmp_path / "broker").mkdir()
    passwords = tmp_path / "broker" / "passwords"
    subprocess.run(
        ["mosquitto_passwd", "-b", "-c", passwords, PLANTED["MQTT_USER"], PLANTED["MQTT_PASSWORD"]],
        check=True,
    )
    subprocess.run(["mosquitto_passwd", "-b", passwords, "reader", "reader"], check=True)
    said: dict[str, str] = {}
    metrics = free_port()
    with mosquitto(tmp_path / "broker", f"allow_anonymous false\npassword_file {passwords}\n") as broker:
        path = config(tmp_path, tiny_bundle, broker.port, metrics)
        subscriber = Subscriber(broker.port, username="reader", password="reader")
        with (tmp_path / "journal").open("wb") as journal:
            agent = subprocess.Popen(
                [sys.executable, "-m", "agent", "run", "-c", str(path)], stdout=journal, stderr=journal
            )
            try:
                wait_until(lambda: len(subscriber.results("line")) > 10, PATIENCE_S)
                wait_until(lambda: subscriber.last("stats") is not None, PATIENCE_S)
                said["metrics"] = scraped(metrics, "planted-metrics-token")
                with pytest.raises(urllib.error.HTTPError) as refused:
                    scraped(metrics, "wrong")
                said["refusal"] = refused.value.read().decode() + str(refused.value.headers)
                said["arguments"] = arguments_of(agent.pid)
                broker.kill()
                wait_until(lambda: "results wait on disk" in (tmp_path / "journal").read_text(), PATIENCE_S)
                broker.start()
                edit(path, lambda c: c["mqtt"].update(password="planted-second-password"))
                wait_until(lambda: "mqtt.password" in (tmp_path / "journal").read_text(), PATIENCE_S)
                wait_until(lambda: "refused" in (tmp_path / "journal").read_text(), PATIENCE_S)
                edit(path, lambda c: c["mqtt"].update(password="${env:MQTT_PASSWORD}", usernam="planted"))
                wait_until(lambda: "usernam" in (tmp_path / "journal").read_text(), PATIENCE_S)
                edit(path, lambda c: c["mqtt"].pop("usernam"))
                wait_until(lambda: "good again" in (tmp_path / "journal").read_text(), PATIENCE_S)
            finally:
                agent.send_signal(signal.SIGABRT if agent.poll() is not None else signal.SIGTERM)
                agent.wait(PATIENCE_S)
        subscriber.close()
    said["mqtt"] = "\n".join(f"{topic} {payload!r}" for topic, payload, _ in subscriber.messages)
    said["journal"] = (tmp_path / "journal").read_text()
    for name in ("check --print", "check --diff", "doctor", "store check", "audit verify"):
        done = subprocess.run(
            [sys.executable, "-m", "agent", *name.split(), "-c", str(path)], capture_output=True, text=True
        )
        said[name] = done.stdout + done.stderr
    for file in (tmp_path / "data").rglob("*"):
        # What was kept of the config file holds what the file holds; its folder is for its owner alone.
        if file.is_file() and file.parent.name != "last_good":
            said[str(file)] = file.read_bytes().decode("latin-1")
    assert (tmp_path / "data" / "last_good").stat().st_mode & 0o077 == 0
    assert len(said) > 10
    assert {name for name, text in said.items() if "planted" in text} == set()


def edit(path: Path, change: Any) -> None:
    settings = yaml.safe_load(path.read_text())
    change(settings)
    path.write_text(yaml.safe_dump(settings, sort_keys=False))


def scraped(port: int, token: str) -> str:
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/metrics", headers={"Authorization": f"Bearer {token}"}
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        return str(answer.read().decode())


def arguments_of(process: int) -> str:
    """Return what `ps` shows of a process and its children."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
            if process in (parent, int(stat.parent.name)):
                found.append((stat.parent / "cmdline").read_bytes().decode("latin-1"))
        except OSError:
            continue
    assert found
    return "\n".join(found)


OFFLINE = """
import os, re, signal, socket, subprocess, sys, time

def unroutable():
    lines = [l.split() for l in open("/proc/net/snmp") if l.startswith("Ip:")]
    return int(dict(zip(*lines))["OutNoRoutes"])

subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
try:
    socket.create_connection(("192.0.2.1", 80), 1)
except OSError:
    pass
assert unroutable() == 1, "a call to the outside is not counted here"
try:
    socket.getaddrinfo("mekiki.example", 443)
except OSError:
    pass
before = unroutable()
code = subprocess.run([sys.executable, "-m", "agent", *sys.argv[1:]]).returncode
print("calls", unroutable() - before)
sys.exit(code)
"""


@pytest.fixture
def offline() -> Iterator[list[str]]:
    """Return what puts a command into a network of its own that leads nowhere and counts who tries."""
    for way in (["unshare", "--net"], ["unshare", "--user", "--map-root-user", "--net"]):
        if shutil.which("ip") and shutil.which("unshare"):
            tried = subprocess.run([*way, "ip", "link", "set", "lo", "up"], capture_output=True)
            if tried.returncode == 0:
                yield way
                return
    pytest.skip("no network namespace can be made here: needs root, or user namespaces, and iproute2")


def test_nobody_outside_is_called(offline: list[str], tmp_path: Path) -> None:
    """Not by the demo with its model, broker, learner and metrics; not at the start either."""
    done = subprocess.run(
        [*offline, sys.executable, "-c", OFFLINE, "demo", "--frames", "150", "--fps", "0", "--json"],
        capture_output=True,
        text=True,
        timeout=150,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "calls 0"


@pytest.mark.parametrize("journal", [False, True])
def test_text_of_others_makes_no_line_of_its_own(
    journal: bool, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """A file name, a reason that a broker gives: no forged entry, no terminal sequence."""
    before = logging.getLogger().handlers[:]
    try:
        if journal:
            stream = os.fstat(sys.stderr.fileno())
            monkeypatch.setenv("JOURNAL_STREAM", f"{stream.st_dev}:{stream.st_ino}")
        logs.set_up("info", "text")
        evil = "part\n<0>2026-01-01 ERROR forged\r\x1b[2Jx\u2028y\u202e"
        logging.getLogger("agent.test").warning("file %s is odd", evil)
        lines = capfd.readouterr().err.splitlines()
        assert len(lines) == 1
        assert lines[0].startswith("<4>") is journal
        assert lines[0].isprintable()
        assert r"part\n<0>" in lines[0]
    finally:
        logging.getLogger().handlers[:] = before


def test_nothing_listens_anywhere_unless_asked(tiny_bundle: Path, tmp_path: Path) -> None:
    """The shipped config opens no port; the embedded broker and metrics are on the loopback."""
    shipped = yaml.safe_load((ROOT / "config.yaml").read_text())
    assert shipped["metrics"]["enabled"] is False
    assert shipped["metrics"]["host"] == "127.0.0.1"
    path = config(tmp_path, tiny_bundle, free_port(), free_port())
    settings = yaml.safe_load(path.read_text())
    settings["mqtt"] = {"enabled": False}
    settings["metrics"] = {"enabled": False}
    settings["stations"] = {"line": settings["stations"]["line"]}
    path.write_text(yaml.safe_dump(settings))
    with subprocess.Popen([sys.executable, "-m", "agent", "run", "-c", str(path)]) as agent:
        try:
            wait_until(lambda: (tmp_path / "data" / "mekiki.db").exists(), PATIENCE_S)
            time.sleep(1)
            assert sockets(agent.pid) == []
        finally:
            agent.terminate()


def sockets(process: int) -> list[str]:
    """Return the Internet sockets of a process."""
    mine = set()
    for name in Path(f"/proc/{process}/fd").iterdir():
        try:
            target = str(name.readlink())
        except OSError:
            continue
        if target.startswith("socket:["):
            mine.add(target[8:-1])
    found = []
    for table in ("tcp", "tcp6", "udp", "udp6"):
        file = Path(f"/proc/{process}/net/{table}")
        if file.exists():
            found += [line for line in file.read_text().splitlines()[1:] if line.split()[9] in mine]
    return found


def test_what_runs_on_the_line_imports_no_unsafe_reader() -> None:
    """`pickle` is torch's error to catch where checkpoints are converted, and the link to our own child."""
    allowed = {"adapters/torch_model/checkpoint.py", "adapters/torch_model/diffclip_convert.py"}
    found = set()
    for package in ("agent", "camera", "adapters"):
        for file in (ROOT / package).rglob("*.py"):
            text = file.read_text()
            # `pickletools` reads opcodes and runs none.
            if re.search(r"import (pickle|marshal|shelve|dill|joblib)\b", text):
                found.add(str(file.relative_to(ROOT)))
            assert "allow_pickle=True" not in text
            assert "weights_only=False" not in text
            assert "shell=True" not in text
    assert found == allowed


def test_the_inventory_names_every_package_that_is_pinned(tmp_path: Path) -> None:
    """`make sbom`: what a line PC runs, by name and version, as CycloneDX."""
    bare = ROOT / ".venv-bare" / "bin" / "python"
    if not bare.exists():
        pytest.skip("no environment as on a line PC: run make test")
    file = tmp_path / "sbom.json"
    subprocess.run(
        [sys.executable, "-m", "cyclonedx_py", "environment", "--of", "JSON", "-o", file, bare], check=True
    )
    sbom = json.loads(file.read_text())
    listed = {one["name"].lower().replace("_", "-"): one.get("version") for one in sbom["components"]}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [text.split(">")[0].split("=")[0].lower() for text in project["dependencies"]]
    assert sbom["bomFormat"] == "CycloneDX"
    assert {name for name in wanted if name not in listed} == set()
    pins = dict(
        line.lower().replace("_", "-").split("==")
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if "==" in line and not line.startswith("#")
    )
    assert {n: v for n, v in listed.items() if n in pins and v.lower() != pins[n]} == {}


def test_the_loopback_is_the_only_host_without_a_token() -> None:
    from pydantic import ValidationError

    from agent.config.models import MetricsSettings
    from agent.config.models_mqtt import MqttSettings

    for host in ("0.0.0.0", "::", "10.0.0.1", socket.gethostname()):
        with pytest.raises(ValidationError, match="needs a token"):
            MetricsSettings(enabled=True, host=host)
        with pytest.raises(ValidationError, match="loopback only"):
            MqttSettings(embedded_broker=True, host=host)
