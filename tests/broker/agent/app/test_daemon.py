"""The whole agent, from pictures to a subscriber, with a tiny model and a real broker."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from agent.app.daemon import Daemon
from agent.base.errors import ConfigError, StoreError
from agent.base.thread_priority import SERVING
from agent.config.loader import load
from tests.support.mqtt_peers import Mosquitto, Subscriber, check_complete, mosquitto, wait_until
from tests.support.running_agent import RECIPE, at, running, write_config, write_pictures


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    folder = tmp_path / "broker"
    folder.mkdir()
    with mosquitto(folder) as running:
        yield running


@pytest.mark.broker
def test_three_stations_to_a_real_broker(tiny_bundle: Path, broker: Mosquitto, tmp_path: Path) -> None:
    """Three sources at once: complete, in order, every payload as its schema says."""
    pictures = write_pictures(tmp_path / "pictures", 40)
    stations = {
        "folder": {"camera": {"kind": "folder", "path": str(pictures)}},
        "again": {"camera": {"kind": "folder", "path": str(pictures), "loop": True, "fps": 100}},
        "line": {"camera": {"kind": "simulated", "parts": 50}, "images": {"last_fail": True}},
    }
    subscriber = Subscriber(broker.port)
    loaded = load(write_config(tmp_path, tiny_bundle, stations, mqtt=at(broker)))

    with running(loaded) as (daemon, summaries):
        wait_until(lambda: len(subscriber.results("line")) == 50 and len(subscriber.results("folder")) == 40)
        wait_until(lambda: len(subscriber.results("again")) > 40)
        wait_until(lambda: subscriber.last("health") is not None)
        daemon.stop()
        wait_until(lambda: summaries)

    wait_until(lambda: subscriber.last("availability") == "stopped")
    for station in stations:
        results = subscriber.results(station)
        assert check_complete(results, results[-1]["seq"]) == []
    assert subscriber.invalid == []
    assert subscriber.last("info")["stations"] == list(stations)
    assert subscriber.last("health")["health"] == "ok"
    assert [r["trigger"]["part_id"] for r in subscriber.results("folder")][:2] == ["0000.png", "0001.png"]
    assert summaries[0].published == summaries[0].stored == summaries[0].inspected
    jpegs = [payload for topic, payload, _ in subscriber.messages if topic.endswith("line/image/last_fail")]
    failed = [r for r in subscriber.results("line") if r["verdict"] == "fail"]
    assert bool(jpegs) == bool(failed)
    assert all(jpeg.startswith(b"\xff\xd8") for jpeg in jpegs)
    subscriber.close()


def test_files_end_and_so_does_the_agent(tiny_bundle: Path, tmp_path: Path) -> None:
    """Every picture of a folder is inspected, none is dropped, then `run` returns by itself."""
    pictures = write_pictures(tmp_path / "pictures", 25)
    stations = {"folder": {"camera": {"kind": "folder", "path": str(pictures)}}}

    summary = Daemon(load(write_config(tmp_path, tiny_bundle, stations))).run()

    assert (summary.inspected, summary.stored, summary.lost) == (25, 25, 0)


def test_frames_limits_a_run(tiny_bundle: Path, tmp_path: Path) -> None:
    """`--frames N` means N, also with several stations in a batch."""
    stations = {name: {"camera": {"kind": "simulated"}} for name in ("a", "b", "c")}

    summary = Daemon(load(write_config(tmp_path, tiny_bundle, stations)), frames=20).run()

    assert summary.inspected == 20


def test_bad_pictures_are_results_too(tiny_bundle: Path, tmp_path: Path) -> None:
    """Truncated, empty and black pictures are `not_inspected` with their reason; the others are judged."""
    import sqlite3

    pictures = write_pictures(tmp_path / "pictures", 2)
    whole = (pictures / "0000.png").read_bytes()
    (pictures / "0002.png").write_bytes(whole[: len(whole) // 2])
    (pictures / "0003.png").write_bytes(b"")
    Image.new("RGB", (60, 60)).save(pictures / "0004.png")
    stations = {"folder": {"camera": {"kind": "folder", "path": str(pictures)}}}

    Daemon(load(write_config(tmp_path, tiny_bundle, stations))).run()

    rows = sqlite3.connect(tmp_path / "data" / "mekiki.db").execute(
        "SELECT payload FROM verdict ORDER BY seq"
    )
    results = [json.loads(payload) for (payload,) in rows]
    assert [r["reason"] for r in results] == ["class", "class", "unreadable", "unreadable", "black"]
    assert all((r["verdict"] == "not_inspected") == (r["scores"] is None) for r in results)


@pytest.mark.broker
def test_a_dead_camera_is_told_and_disturbs_nobody(
    tiny_bundle: Path, broker: Mosquitto, tmp_path: Path
) -> None:
    """One result says `camera_offline`, health names the station, the other station goes on."""
    stations = {
        "dead": {"camera": {"kind": "opencv", "source": "http://127.0.0.1:9/none", "backend": "ffmpeg"}},
        "alive": {"camera": {"kind": "simulated", "fps": 50}},
    }
    subscriber = Subscriber(broker.port)
    with running(load(write_config(tmp_path, tiny_bundle, stations, mqtt=at(broker)))):
        wait_until(lambda: subscriber.results("dead"))
        wait_until(lambda: len(subscriber.results("alive")) > 20)
        wait_until(lambda: (subscriber.last("health") or {}).get("health") == "degraded")
        wait_until(lambda: subscriber.last("dead/camera") is not None)
    assert [r["reason"] for r in subscriber.results("dead")] == ["camera_offline"]
    assert subscriber.last("dead/state")["verdict"] == "not_inspected"
    assert subscriber.last("dead/camera")["connected"] is False
    conditions = [
        c for t, p, _ in subscriber.messages if t.endswith("/health") for c in json.loads(p)["conditions"]
    ]
    assert ("camera_offline", "dead") in {(c["code"], c["subject"]) for c in conditions}
    assert subscriber.invalid == []
    subscriber.close()


def test_an_interval_trigger_inspects_one_picture_per_interval(tiny_bundle: Path, tmp_path: Path) -> None:
    """At 100 pictures a second and one per 0.2 s, a second holds about five results, not a hundred."""
    stations = {
        "line": {
            "camera": {"kind": "simulated", "fps": 100, "parts": 100},
            "trigger": {"mode": "interval", "every_s": 0.2},
        }
    }

    summary = Daemon(load(write_config(tmp_path, tiny_bundle, stations))).run()

    with sqlite3.connect(tmp_path / "data" / "mekiki.db") as db:
        seen = [json.loads(text)["captured_at"] for (text,) in db.execute("SELECT payload FROM verdict")]
    first, *_, last = sorted(map(datetime.fromisoformat, seen))
    assert 3 <= summary.inspected <= (last - first).total_seconds() / 0.2 + 2


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has priorities of threads")
def test_cameras_and_the_publisher_give_way_to_the_inspector(tiny_bundle: Path, tmp_path: Path) -> None:
    camera = {
        "kind": "folder",
        "path": str(write_pictures(tmp_path / "pictures", 3)),
        "loop": True,
        "fps": 20,
    }
    with running(load(write_config(tmp_path, tiny_bundle, {"line": {"camera": camera}}))):
        wanted = ("camera-line", "publisher", "inspector")

        def urgencies() -> dict[str, int]:
            alive = [thread for thread in threading.enumerate() if thread.name in wanted]
            return {one.name: os.getpriority(os.PRIO_PROCESS, one.native_id or 0) for one in alive}

        ours = os.getpriority(os.PRIO_PROCESS, 0)
        later = min(19, ours + SERVING)
        wait_until(lambda: urgencies() == {"camera-line": later, "publisher": later, "inspector": ours})


def test_unexpected_trouble_in_a_thread_ends_the_agent(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thread never dies alone: the exception comes out of `run`, and what was decided before is stored."""
    from agent.inspection.inspector import Inspector

    judge = Inspector.judge

    def broken(self: Inspector, frames: Any) -> Any:
        if self.inspected >= 5:
            raise RuntimeError("out of luck")
        return judge(self, frames)

    monkeypatch.setattr(Inspector, "judge", broken)
    stations = {"line": {"camera": {"kind": "simulated"}}}
    loaded = load(write_config(tmp_path, tiny_bundle, stations))

    with pytest.raises(RuntimeError, match="out of luck"):
        Daemon(loaded).run()
    import sqlite3

    assert sqlite3.connect(tmp_path / "data" / "mekiki.db").execute(
        "SELECT COUNT(*) FROM verdict"
    ).fetchone() == (5,)


@pytest.mark.broker
def test_a_crash_does_not_say_stopped(
    tiny_bundle: Path, broker: Mosquitto, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`stopped` is an orderly end; after unexpected trouble the last word is `offline`."""
    from agent.inspection.inspector import Inspector

    run = Inspector.run

    def crash(self: Inspector, stop: threading.Event) -> None:
        wait_until(lambda: subscriber.last("availability") == "online")
        monkeypatch.setattr(self, "judge", lambda _: 1 / 0)
        run(self, stop)

    monkeypatch.setattr(Inspector, "run", crash)
    subscriber = Subscriber(broker.port)
    stations = {"line": {"camera": {"kind": "simulated"}}}
    with pytest.raises(ZeroDivisionError):
        Daemon(load(write_config(tmp_path, tiny_bundle, stations, mqtt=at(broker)))).run()

    wait_until(lambda: subscriber.last("availability") == "offline")
    subscriber.close()


def test_a_prompt_that_the_model_cannot_read_is_a_config_error(tiny_bundle: Path, tmp_path: Path) -> None:
    """Never cut silently: file, line, key and the limit."""
    recipe = json.loads(json.dumps(RECIPE))
    recipe["classes"]["bad"]["phrases"] = ["scratch " * 100]
    stations = {"line": {"camera": {"kind": "simulated"}}}
    path = write_config(tmp_path, tiny_bundle, stations, recipes={"tiny": recipe})

    with pytest.raises(ConfigError, match=r"config\.yaml:\d+: recipes\.tiny\.classes\.bad\.phrases.*77"):
        Daemon(load(path)).run()


def test_a_read_only_data_folder_is_named(tiny_bundle: Path, tmp_path: Path) -> None:
    """Nothing is started without a store, and the message says which folder and what to do."""
    stations = {"line": {"camera": {"kind": "simulated"}}}
    loaded = load(write_config(tmp_path, tiny_bundle, stations))

    with (
        read_only(tmp_path / "data"),
        pytest.raises(StoreError, match=r"data.*cannot be written.*agent\.data_dir"),
    ):
        Daemon(loaded).run()


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    folder.mkdir()
    if os.geteuid():
        folder.chmod(0o500)
        yield
        folder.chmod(0o700)
        return
    # Root may write everywhere but on a file system that is read-only.
    subprocess.run(["mount", "-t", "tmpfs", "-o", "ro,size=1m", "none", str(folder)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_one_run_uses_one_recipe_per_station(tiny_bundle: Path, tmp_path: Path) -> None:
    """Stations with different recipes share a batch and keep their own classes."""
    import sqlite3

    other = {
        **RECIPE,
        "classes": {f"class{n}": {"verdict": "fail", "phrases": [f"thing {n}"]} for n in range(5)},
    }
    stations = {
        "a": {"camera": {"kind": "simulated", "parts": 10}},
        "b": {"camera": {"kind": "simulated", "parts": 10}, "recipe": "other"},
    }
    path = write_config(tmp_path, tiny_bundle, stations, recipes={"tiny": RECIPE, "other": other})
    Daemon(load(path)).run()

    rows = sqlite3.connect(tmp_path / "data" / "mekiki.db").execute("SELECT station, payload FROM verdict")
    classes = {station: list(json.loads(payload)["scores"]) for station, payload in rows}
    assert classes == {"a": ["ok", "bad"], "b": [f"class{n}" for n in range(5)]}


@pytest.mark.broker
def test_sigterm_ends_in_order(tiny_bundle: Path, broker: Mosquitto, tmp_path: Path) -> None:
    """`systemctl stop`: exit code 0, everything stored and delivered, the last word is `stopped`."""
    stations = {"line": {"camera": {"kind": "simulated", "fps": 100}}}
    path = write_config(tmp_path, tiny_bundle, stations, mqtt=at(broker))
    subscriber = Subscriber(broker.port)
    agent = subprocess.Popen(
        [sys.executable, "-m", "agent", "run", "-c", str(path)], stderr=subprocess.PIPE, text=True
    )
    wait_until(lambda: len(subscriber.results()) > 10, 60)
    agent.send_signal(signal.SIGTERM)
    started = time.monotonic()
    _, log = agent.communicate(timeout=20)

    assert agent.returncode == 0, log
    assert time.monotonic() - started < 10
    assert "Traceback" not in log
    wait_until(lambda: subscriber.last("availability") == "stopped")
    results = subscriber.results()
    check_complete(results, results[-1]["seq"])
    subscriber.close()
