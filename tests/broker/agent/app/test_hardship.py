"""What a line PC lives through: a clock that jumps, a stop at any moment, cameras that are dead."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from agent.base.errors import EXIT_OK
from tests.faults.camera import Camera
from tests.support.mqtt_peers import Subscriber, check_complete, mosquitto, wait_until
from tests.support.running_agent import at, write_config

PATIENCE_S = 60.0
FAKETIME = next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"), None)


@pytest.mark.broker
@pytest.mark.skipif(
    FAKETIME is None, reason="libfaketime is not installed: run tests/setup-services.sh as root"
)
def test_a_clock_that_jumps_is_no_standstill_and_loses_nothing(tiny_bundle: Path, tmp_path: Path) -> None:
    """An hour forth, two back, a day forth, and a leap of a second again and again."""
    (tmp_path / "broker").mkdir()
    clock = tmp_path / "clock"
    clock.write_text("+0\n")
    faked = {
        "LD_PRELOAD": str(FAKETIME),
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }
    camera = {"kind": "simulated", "seed": 5, "fps": 25}
    with mosquitto(tmp_path / "broker") as broker:
        subscriber = Subscriber(broker.port)
        path = write_config(tmp_path, tiny_bundle, {"line": {"camera": camera}}, mqtt=at(broker))
        agent = subprocess.Popen(
            [sys.executable, "-m", "agent", "run", "-c", str(path)], env=os.environ | faked
        )
        try:
            wait_until(lambda: len(subscriber.results()) > 10, PATIENCE_S)
            before = subscriber.results()[-1]["decided_at"]
            for jump in ("+3600", "-3600", "+86400", *(f"+{n % 2}" for n in range(10))):
                count = len(subscriber.results())
                clock.write_text(f"{jump}\n")
                wait_until(lambda count=count: len(subscriber.results()) > count + 8, PATIENCE_S)
            stamps = [result["decided_at"] for result in subscriber.results()]
            assert min(stamps) < before, "the clock did not jump back"
            assert max(stamps)[:10] > before[:10], "the clock did not jump a day forth"
        finally:
            # Under libfaketime Python's sleep does not work, which an orderly end would need.
            agent.kill()
            agent.wait()
        # By its own clock, behind results that say to be of tomorrow.
        with subprocess.Popen([sys.executable, "-m", "agent", "run", "-c", str(path)]) as agent:
            count = len(subscriber.results())
            wait_until(lambda: len(subscriber.results()) > count + 5, PATIENCE_S)
            agent.terminate()
        assert agent.returncode == EXIT_OK
        results = subscriber.results()
        subscriber.close()
    check_complete(results, results[-1]["seq"])  # what was on its way at the kill came twice
    assert {result["verdict"] for result in results} <= {"pass", "fail", "unsure"}
    latencies = [result["latency_ms"]["total"] for result in results]
    assert min(latencies) >= 0
    assert max(latencies) < 60_000


@pytest.mark.slow
def test_a_stop_at_any_stage_of_the_start_is_a_stop(tiny_bundle: Path, tmp_path: Path) -> None:
    """Whatever was begun is ended, nothing is damaged, and the next start finds a store that is whole."""
    path = write_config(tmp_path, tiny_bundle, {"line": {"camera": {"kind": "simulated", "fps": 50}}})
    command = [sys.executable, "-m", "agent", "run", "-c", str(path)]
    began = time.monotonic()
    whole = subprocess.run([*command, "--frames", "1"], capture_output=True, text=True, timeout=PATIENCE_S)
    assert whole.returncode == EXIT_OK, whole.stderr
    start_s = time.monotonic() - began
    codes = []
    for step in range(20):
        agent = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        time.sleep(1.2 * start_s * step / 20)
        agent.send_signal(signal.SIGTERM)
        said = agent.communicate(timeout=20)[1]
        # Before Python has taken over the signal, the system's own answer to it.
        assert agent.returncode in (EXIT_OK, -signal.SIGTERM), said
        assert "Traceback" not in said
        codes.append(agent.returncode)
        with contextlib.closing(sqlite3.connect(tmp_path / "data" / "mekiki.db")) as db:
            assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            first, last, count = db.execute("SELECT min(seq), max(seq), count(*) FROM verdict").fetchone()
        assert last - first + 1 == count
    assert EXIT_OK in codes


@pytest.mark.broker
def test_three_dead_cameras_of_eight_cost_the_others_nothing(tiny_bundle: Path, tmp_path: Path) -> None:
    """One refuses, one is silent, one has no machine behind it; each is told once, the five inspect."""
    (tmp_path / "broker").mkdir()
    cameras = [Camera() for _ in range(7)]
    cameras[5].unplug()
    cameras[6].mood = "stalls"
    urls = [camera.url for camera in cameras] + ["http://192.0.2.1/stream"]
    stations = {
        f"cam{number}": {
            "camera": {
                "kind": "opencv",
                "source": url,
                "open_timeout_s": 1.0,
                "read_timeout_s": 1.0,
                "reconnect": {"initial_s": 0.2, "max_s": 1.0},
            }
        }
        for number, url in enumerate(urls)
    }
    dead, well = ["cam5", "cam6", "cam7"], [f"cam{number}" for number in range(5)]
    try:
        with mosquitto(tmp_path / "broker") as broker:
            subscriber = Subscriber(broker.port)
            path = write_config(tmp_path, tiny_bundle, stations, mqtt=at(broker))
            agent = subprocess.Popen([sys.executable, "-m", "agent", "run", "-c", str(path)])
            try:
                wait_until(lambda: all(len(subscriber.results(name)) > 40 for name in well), PATIENCE_S)
                wait_until(lambda: offline(subscriber) == dead, PATIENCE_S)
            finally:
                agent.terminate()
                assert agent.wait(PATIENCE_S) == EXIT_OK
            for name in well:
                assert {result["verdict"] for result in subscriber.results(name)} <= {
                    "pass",
                    "fail",
                    "unsure",
                }
            for name in dead:
                assert {result["reason"] for result in subscriber.results(name)} == {"camera_offline"}
                assert len(subscriber.results(name)) <= 2
            subscriber.close()
    finally:
        for camera in cameras[:5] + cameras[6:]:
            camera.unplug()


def offline(subscriber: Subscriber) -> list[str]:
    health = subscriber.last("health") or {"conditions": []}
    return sorted(one["subject"] for one in health["conditions"] if one["code"] == "camera_offline")
