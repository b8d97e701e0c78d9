"""What systemd is told, by a socket that plays its part: ready, alive while work is done, stopping."""

from __future__ import annotations

import os
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.engines.factory import ModelSettings, open_engine
from agent.app.daemon import Daemon
from agent.app.run_record import RunRecord
from agent.app.service_notify import notify, watchdog_s
from agent.app.watchdog import stalled
from agent.config.loader import load
from agent.inspection.inspector import Inspector
from tests.support.mqtt_peers import Subscriber, free_port, mosquitto, wait_until
from tests.support.running_agent import at, running, write_config

PATIENCE_S = 60.0


class Systemd:
    """The other end of `NOTIFY_SOCKET`: everything that it was told, in order."""

    def __init__(self, folder: Path) -> None:
        self.address = str(folder / "notify")
        self.told: list[str] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.address)
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        while message := self._socket.recv(4096):
            self.told += message.decode().splitlines()

    def count(self, fact: str) -> int:
        return list(self.told).count(fact)

    def close(self) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
            end.sendto(b"", self.address)
        self._socket.close()


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[Systemd]:
    one = Systemd(tmp_path)
    yield one
    one.close()


def stations(**camera: Any) -> dict[str, Any]:
    return {"line": {"camera": {"kind": "simulated", "fps": 50, **camera}}}


def environment(systemd: Systemd, watchdog: float) -> dict[str, str]:
    return {"NOTIFY_SOCKET": systemd.address, "WATCHDOG_USEC": str(int(watchdog * 1e6))}


def test_a_service_is_ready_alive_and_stopping(tiny_bundle: Path, tmp_path: Path, systemd: Systemd) -> None:
    """As systemd starts it: in a process of its own, ended by SIGTERM, with everything stored."""
    path = write_config(tmp_path, tiny_bundle, stations())
    command = [sys.executable, "-m", "agent", "run", "-c", str(path)]
    with subprocess.Popen(command, env=os.environ | environment(systemd, 2.0)) as agent:
        wait_until(lambda: systemd.count("WATCHDOG=1") >= 3, PATIENCE_S)
        began = time.monotonic()
        agent.send_signal(signal.SIGTERM)
        assert agent.wait(PATIENCE_S) == 0
        assert time.monotonic() - began < 10  # what the unit's TimeoutStopSec relies on
    assert systemd.told[0] == "READY=1"
    assert systemd.told[-1] == "STOPPING=1"
    assert systemd.count("READY=1") == systemd.count("STOPPING=1") == 1
    with sqlite3.connect(tmp_path / "data" / "mekiki.db") as db:
        assert db.execute("SELECT count(*) FROM verdict").fetchone()[0] > 0


def test_ready_comes_after_a_real_inference(
    tiny_bundle: Path, tmp_path: Path, systemd: Systemd, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model that cannot answer never says that it is ready."""
    monkeypatch.setenv("NOTIFY_SOCKET", systemd.address)

    class Broken:
        def __init__(self) -> None:
            self._engine = open_engine(ModelSettings(bundle=str(tiny_bundle)))

        def __getattr__(self, name: str) -> Any:
            return getattr(self._engine, name)

        def encode_image(self, *_: Any) -> Any:
            raise RuntimeError("the card fell off the bus")

    loaded = load(write_config(tmp_path, tiny_bundle, stations()))
    with pytest.raises(RuntimeError, match="fell off"):
        Daemon(loaded, engine=Broken()).run()
    assert "READY=1" not in systemd.told


def test_the_watchdog_is_not_fed_while_inspection_stands_still(
    tiny_bundle: Path, tmp_path: Path, systemd: Systemd, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A driver that hangs: the agent looks alive, and inspects nothing. It is fed again when work goes on."""
    for name, value in environment(systemd, 1.0).items():
        monkeypatch.setenv(name, value)
    judge, stuck, freed = Inspector.judge, threading.Event(), threading.Event()

    def hang(self: Inspector, frames: Any) -> Any:
        if self.inspected >= 5 and not freed.is_set():
            stuck.set()
            assert freed.wait(PATIENCE_S)
        return judge(self, frames)

    monkeypatch.setattr(Inspector, "judge", hang)
    loaded = load(write_config(tmp_path, tiny_bundle, stations()))
    with running(loaded):
        assert stuck.wait(PATIENCE_S)
        time.sleep(1.0)  # the limit
        fed = systemd.count("WATCHDOG=1")
        assert fed > 0
        time.sleep(1.0)
        assert systemd.count("WATCHDOG=1") == fed
        freed.set()
        wait_until(lambda: systemd.count("WATCHDOG=1") > fed, PATIENCE_S)


def test_a_dead_camera_is_no_reason_to_be_killed(
    tiny_bundle: Path, tmp_path: Path, systemd: Systemd, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Starting again would not bring it back, and the other stations would stand still meanwhile."""
    for name, value in environment(systemd, 1.0).items():
        monkeypatch.setenv(name, value)
    dead = {"line": {"camera": {"kind": "opencv", "source": f"rtsp://127.0.0.1:{free_port()}/none"}}}
    with running(load(write_config(tmp_path, tiny_bundle, dead))):
        began = time.monotonic()
        wait_until(lambda: systemd.count("WATCHDOG=1") > 8, PATIENCE_S)
        assert time.monotonic() - began > 1.0


@pytest.mark.broker
@pytest.mark.slow
def test_how_the_last_run_ended_is_told(tiny_bundle: Path, tmp_path: Path) -> None:
    """After kill -9 as after an orderly stop, in the retained `info`."""
    (tmp_path / "broker").mkdir()
    with mosquitto(tmp_path / "broker") as broker:
        subscriber = Subscriber(broker.port)
        path = write_config(tmp_path, tiny_bundle, stations(), mqtt=at(broker))
        found = []
        for ending in (signal.SIGKILL, signal.SIGTERM, signal.SIGTERM):
            before = len(subscriber.results())
            with subprocess.Popen([sys.executable, "-m", "agent", "run", "-c", str(path)]) as agent:
                wait_until(lambda before=before: len(subscriber.results()) > before, PATIENCE_S)
                found.append(subscriber.last("info")["last_exit"])
                agent.send_signal(ending)
        assert subscriber.invalid == []
        subscriber.close()
    assert found[0] is None
    assert (found[1]["orderly"], found[1]["reason"][:6]) == (False, "killed")
    assert (found[2]["orderly"], found[2]["reason"]) == (True, "stopped by SIGTERM")


def test_a_crash_is_the_reason_of_the_exit(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Inspector, "judge", lambda self, frames: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        Daemon(load(write_config(tmp_path, tiny_bundle, stations()))).run()
    last = RunRecord(tmp_path / "data").begin()
    assert last is not None
    assert (last.orderly, last.reason) == (False, "ZeroDivisionError: see the journal")


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"ended_at": 3}', b"\xff\xfe"])
def test_a_damaged_record_of_the_last_run_stops_nothing(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "last_run.json").write_bytes(content)
    last = RunRecord(tmp_path).begin()
    assert last is not None
    assert "cannot be read" in last.reason
    RunRecord(tmp_path).end("stopped", orderly=True)
    again = RunRecord(tmp_path).begin()
    assert again is not None
    assert again.orderly


def test_where_nobody_listens_nothing_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor is somebody else's watchdog taken for ours."""
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    assert not notify("READY=1")
    monkeypatch.setenv("NOTIFY_SOCKET", "/nowhere/notify")
    assert not notify("READY=1")
    monkeypatch.setenv("WATCHDOG_USEC", "3000000")
    assert watchdog_s() == 3.0
    monkeypatch.setenv("WATCHDOG_PID", "1")
    assert watchdog_s() is None


@given(st.dictionaries(st.text(min_size=1), st.floats(-1e6, 1e6)), st.floats(0.01, 100))
def test_who_stands_still_is_the_one_that_turned_first(turns: dict[str, float], limit_s: float) -> None:
    found = stalled(turns, 1e6, limit_s)
    late = [name for name, turned in turns.items() if 1e6 - turned > limit_s]
    assert (found is None) == (late == [])
    if found is not None:
        assert np.isclose(turns[found], min(turns.values()))
