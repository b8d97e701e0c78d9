"""What a config names and is not there at a restart: inspection goes on without what it does not need."""

from __future__ import annotations

import ctypes
import os
import socket
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from threading import Event
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
import trustme

from agent.app.daemon import Daemon
from agent.app.optional_services import OptionalService
from agent.audit.agent_log import Trail
from agent.base.errors import EXIT_CONFIG, EXIT_OK, ConfigError
from agent.cli.main import main
from agent.config.absent import nothing, whatever_is_spared
from agent.config.diff import changes, in_force
from agent.config.loader import load
from agent.config.models_mqtt import MqttSettings, TlsSettings
from agent.config.yaml_reader import parse
from agent.mqtt.access import Access
from agent.mqtt.embedded_broker import embedded_broker
from agent.reload.file_watcher import ConfigWatch
from camera.core.frame import Fault
from camera.core.settings import FolderCamera, OpenCVCamera, RecordingCamera, SimulatedCamera
from camera.sources.factory import open_source
from camera.sources.waiting import Waiting, is_live
from tests.support.insides import limit, reloader
from tests.support.mqtt_peers import free_port, wait_until
from tests.support.running_agent import running, write_config, write_pictures

PATIENCE_S = 120.0
TOKEN = "0123456789abcdef"
LINE = {"camera": {"kind": "simulated", "fps": 20}}


def stored(folder: Path, station: str) -> list[str]:
    """Return the verdicts of a station."""
    with closing(sqlite3.connect(folder / "data" / "mekiki.db", timeout=30)) as db:
        return [row[0] for row in db.execute("SELECT verdict FROM verdict WHERE station = ?", (station,))]


def test_a_metrics_port_that_is_taken_stops_nothing(
    tiny_bundle: Path, tmp_path: Path, conditions: Callable[[], dict[str, str]]
) -> None:
    """Health says which and what to do; once it is free it is served."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        path = write_config(tmp_path, tiny_bundle, {"line": LINE}, metrics={"enabled": True, "port": port})
        with running(load(path)):
            wait_until(lambda: "metrics" in conditions(), PATIENCE_S)
            assert f"127.0.0.1:{port} cannot be served" in conditions()["metrics"]
            wait_until(lambda: len(stored(tmp_path, "line")) > 3, PATIENCE_S)
            other.close()
            wait_until(lambda: conditions() == {}, PATIENCE_S)
            with socket.create_connection(("127.0.0.1", port), 30):
                pass


def test_a_metrics_token_that_was_missing_comes_by_itself(
    tiny_bundle: Path,
    tmp_path: Path,
    conditions: Callable[[], dict[str, str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nobody has to start the agent again; until then, and with half of it, nobody is let in."""
    limit(monkeypatch, "an optional service is tried again", 0.1)
    port = free_port()
    metrics = {"enabled": True, "host": "0.0.0.0", "port": port, "token": "${file:token}"}
    path = write_config(tmp_path, tiny_bundle, {"line": LINE}, metrics=metrics)
    loaded = load(path, whatever_is_spared)
    other = load(write_config(tmp_path, tiny_bundle, {"line": LINE}, metrics={"enabled": True}))
    assert in_force(loaded, other).lacking("metrics") is not None  # an edit is no token
    assert "restart" in {change.effect for change in changes(loaded, other)}
    write_config(tmp_path, tiny_bundle, {"line": LINE}, metrics=metrics)
    with running(loaded) as (daemon, _):
        wait_until(lambda: "${file:token}" in conditions().get("metrics", ""), PATIENCE_S)
        assert "start the agent again" not in conditions()["metrics"]
        with pytest.raises(OSError, match="refused"):
            socket.create_connection(("127.0.0.1", port), 30)
        (tmp_path / "token").write_text(TOKEN)
        wait_until(lambda: conditions() == {}, PATIENCE_S)
        url = f"http://127.0.0.1:{port}/metrics"
        with pytest.raises(HTTPError, match="401"):
            urlopen(url, timeout=30)
        with urlopen(Request(url, headers={"Authorization": f"Bearer {TOKEN}"}), timeout=30) as answer:
            assert b"mekiki_" in answer.read()
        assert reloader(daemon).shown()["pending"] == []


def test_what_is_spared_is_tried_again_after_a_bug_too(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Told with its traceback in the journal; its text, which may hold anything, is not in health."""
    limit(monkeypatch, "an optional service is tried again", 0.1)
    broken = Event()
    broken.set()

    @contextmanager
    def enter() -> Iterator[None]:
        if broken.is_set():
            raise RuntimeError("can't start new thread")
        yield

    with OptionalService("metrics", enter) as spared:
        wait_until(lambda: spared.problem is not None, PATIENCE_S)
        assert [one.message for one in spared.conditions()] == [
            "metrics: RuntimeError: see the journal; it is tried again"
        ]
        assert "can't start new thread" in caplog.text
        broken.clear()
        wait_until(lambda: spared.conditions() == [], PATIENCE_S)


@pytest.mark.parametrize("sparkplug", [False, True])
def test_a_broken_certificate_stops_no_other_edit(
    tiny_bundle: Path, tmp_path: Path, conditions: Callable[[], dict[str, str]], sparkplug: bool
) -> None:
    """Nobody has just written it; an edit of the certificates themselves is still refused."""
    ca = tmp_path / "ca.pem"
    trustme.CA().cert_pem.write_to_path(str(ca))
    mqtt = {"host": "127.0.0.1", "port": 1, "tls": {"ca": str(ca)}}
    path = write_config(tmp_path, tiny_bundle, {"line": LINE}, mqtt=mqtt, sparkplug={"enabled": sparkplug})
    with running(load(path)) as (daemon, _):
        wait_until(lambda: conditions() != {}, PATIENCE_S)
        reloads = reloader(daemon)
        ca.write_text("no certificate")
        text = path.read_text()
        path.write_text(text.replace("a bad part", "a worse part"))
        wait_until(lambda: reloads.now.text != text or "config_refused" in conditions(), PATIENCE_S)
        assert "config_refused" not in conditions()
        (tmp_path / "other.pem").write_text("no certificate")
        path.write_text(path.read_text().replace(str(ca), str(tmp_path / "other.pem")))
        wait_until(lambda: "mqtt.tls" in conditions().get("config_refused", ""), PATIENCE_S)


def test_an_embedded_broker_whose_port_is_taken_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    limit(monkeypatch, "an optional service is tried again", 0.1)
    port = free_port()
    with socket.socket() as other:
        other.bind(("127.0.0.1", port))
        other.listen()
        with OptionalService("embedded_broker", lambda: embedded_broker(port)) as broker:
            assert [one.code for one in broker.conditions()] == ["embedded_broker"]
            other.close()
            wait_until(lambda: broker.conditions() == [], PATIENCE_S)


def test_a_folder_that_is_missing_at_a_restart_waits_alone(
    tiny_bundle: Path, tmp_path: Path, conditions: Callable[[], dict[str, str]]
) -> None:
    """An unplugged disk, an empty mount point: the others inspect, it comes by itself; other edits count."""
    pictures = write_pictures(tmp_path / "pictures", 3)
    folder = {"camera": {"kind": "folder", "path": str(pictures), "loop": True, "fps": 20}}
    path = write_config(tmp_path, tiny_bundle, {"line": LINE, "side": folder})
    assert main(["run", "-c", str(path), "--frames", "10"]) == EXIT_OK
    before = len(stored(tmp_path, "side"))
    away = pictures.rename(tmp_path / "away")
    with pytest.raises(ConfigError, match=r"stations\.side\.camera\.path: no such folder"):
        load(path)  # what `mekiki check` says
    good = load(path, whatever_is_spared)
    with running(good) as (daemon, _):
        wait_until(lambda: "no such folder" in conditions().get("camera_offline", ""), PATIENCE_S)
        wait_until(lambda: len(stored(tmp_path, "line")) > 5, PATIENCE_S)
        wait_until(lambda: stored(tmp_path, "side")[before:] == ["not_inspected"], PATIENCE_S)
        reloads = reloader(daemon)

        text = path.read_text()
        path.write_text(text.replace("a bad part", "a worse part"))
        wait_until(lambda: reloads.now.text != text, PATIENCE_S)
        path.write_text(text.replace(str(pictures), str(tmp_path / "nowhere")))
        wait_until(lambda: "nowhere" in conditions().get("config_refused", ""), PATIENCE_S)
        path.write_text(text)
        wait_until(lambda: "config_refused" not in conditions(), PATIENCE_S)

        pictures.mkdir()  # mounted, and nothing in it yet
        wait_until(lambda: "no picture in it" in conditions().get("camera_offline", ""), PATIENCE_S)
        for picture in away.iterdir():
            picture.rename(pictures / picture.name)
        wait_until(lambda: len(stored(tmp_path, "side")) > before + 3, PATIENCE_S)
        wait_until(lambda: conditions() == {}, PATIENCE_S)


def test_a_config_that_never_ran_may_lack_a_camera_but_not_all(
    tiny_bundle: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """One that is mistyped, or not there yet, waits; with none at all there is nothing to inspect."""
    missing = {"camera": {"kind": "folder", "path": "nowhere"}}
    path = write_config(tmp_path, tiny_bundle, {"side": missing, "line": LINE})
    assert main(["run", "-c", str(path), "--frames", "3"]) == EXIT_OK
    (tmp_path / "only").mkdir()
    path = write_config(tmp_path / "only", tiny_bundle, {"side": missing})
    assert main(["run", "-c", str(path), "--frames", "3"]) == EXIT_CONFIG
    assert "stations.side.camera.path: no such folder" in capfd.readouterr().err


def test_a_wrong_edit_before_a_start_is_refused_for_the_last_good_one(
    tiny_bundle: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """That it is not there is no excuse for what somebody has just written."""
    path = write_config(tmp_path, tiny_bundle, {"line": LINE, "side": LINE})
    assert main(["run", "-c", str(path), "--frames", "3"]) == EXIT_OK
    other = {"camera": {"kind": "folder", "path": "nowhere"}}
    write_config(tmp_path, tiny_bundle, {"line": LINE, "side": other})
    assert main(["run", "-c", str(path), "--frames", "3"]) == EXIT_OK
    assert "starting with the one that was in force last" in capfd.readouterr().err


def test_a_secret_that_is_not_there_yet_keeps_its_camera_waiting(
    tiny_bundle: Path, tmp_path: Path, conditions: Callable[[], dict[str, str]]
) -> None:
    """Not opened with half of its address; once the secret is there it comes by itself."""
    pictures = write_pictures(tmp_path / "pictures", 3)
    camera = {"kind": "folder", "path": "${file:where}", "loop": True, "fps": 20}
    path = write_config(tmp_path, tiny_bundle, {"line": LINE, "side": {"camera": camera}})
    loaded = load(path, whatever_is_spared)
    lacks = loaded.lacking("stations", "side", "camera")
    assert lacks is not None
    assert lacks.reference
    with running(loaded):
        wait_until(lambda: "${file:where}" in conditions().get("camera_offline", ""), PATIENCE_S)
        wait_until(lambda: len(stored(tmp_path, "line")) > 5, PATIENCE_S)
        (tmp_path / "where").write_text(str(pictures))
        wait_until(lambda: len(stored(tmp_path, "side")) > 3, PATIENCE_S)
        wait_until(lambda: conditions() == {}, PATIENCE_S)


def test_a_password_that_is_not_there_leaves_results_on_the_disk(tiny_bundle: Path, tmp_path: Path) -> None:
    """Nobody connects without it, nor with something else."""
    mqtt = {"host": "127.0.0.1", "port": 1, "username": "agent", "password": "${file:nowhere}"}
    path = write_config(tmp_path, tiny_bundle, {"line": LINE}, mqtt=mqtt)
    with pytest.raises(ConfigError, match=r"mqtt\.password: \$\{file:nowhere\}"):
        load(path)
    loaded = load(path, whatever_is_spared)
    lacks = loaded.lacking("mqtt")
    assert lacks is not None
    access = Access(loaded.config.mqtt, lacks.what)
    assert not access.ready(0.0)
    assert "${file:nowhere}" in str(access.problem)
    summary = Daemon(loaded, frames=5).run()
    assert (summary.stored, summary.waiting, summary.lost) == (5, 5, 0)


def test_what_inspection_needs_is_never_spared(tiny_bundle: Path, tmp_path: Path) -> None:
    """The agent's name and the model; nor is anything where a file is being edited."""
    for section, what in (
        ({"agent": {"id": "${env:NO_SUCH}"}}, "agent.id"),
        ({"model": {"bundle": "./x"}}, "model"),
    ):
        path = write_config(tmp_path, tiny_bundle, {"line": LINE}, **section)
        with pytest.raises(ConfigError, match=what):
            load(path, whatever_is_spared)
    camera = {"kind": "folder", "path": "nowhere"}
    path = write_config(tmp_path, tiny_bundle, {"line": LINE, "side": {"camera": camera}})
    with pytest.raises(ConfigError, match="nowhere"):
        load(path, nothing)
    before = load(path, whatever_is_spared)
    assert load(path, before.unchanged).lacking("stations", "side", "camera") is not None
    path.write_text(path.read_text().replace("nowhere", "elsewhere"))
    with pytest.raises(ConfigError, match="elsewhere"):
        load(path, before.unchanged)
    tree, _ = parse(path.read_text())
    recipe = ("stations", "side", "recipe")
    assert before.unchanged(recipe, tree.get(recipe)) is False


def test_defaults_of_stations_are_excused_for_each_of_them(tiny_bundle: Path, tmp_path: Path) -> None:
    defaults = {"camera": {"kind": "folder", "path": "nowhere"}}
    path = write_config(tmp_path, tiny_bundle, {"a": {}, "b": {}, "line": LINE}, station_defaults=defaults)
    loaded = load(path, whatever_is_spared)
    assert [bool(loaded.lacking("stations", name, "camera")) for name in ("a", "b", "line")] == [
        True,
        True,
        False,
    ]


@pytest.mark.parametrize(
    ("settings", "live"),
    [
        (FolderCamera(path="x"), False),
        (OpenCVCamera(source="x.mp4"), True),
        (OpenCVCamera(source="x.mp4", pace="full"), False),
        (OpenCVCamera(source="rtsp://127.0.0.1/x"), True),
        (RecordingCamera(path="x"), True),
        (RecordingCamera(path="x", pace="full"), False),
        (SimulatedCamera(fps=3.0), False),
    ],
)
def test_a_camera_that_waits_is_live_where_it_will_be(settings: Any, live: bool) -> None:
    assert is_live(settings) is live
    if isinstance(settings, SimulatedCamera):
        assert open_source(settings).live is live


def test_a_camera_that_waits_tells_once_and_goes_on_as_itself(tmp_path: Path) -> None:
    settings = FolderCamera(path=str(tmp_path / "pictures"))
    source = Waiting(settings, "no such folder")
    stop = Event()
    captures = source.captures(stop)
    assert next(captures).fault is Fault.CAMERA_OFFLINE
    assert (source.stats.connected, source.stats.problem) == (False, "no such folder")
    write_pictures(tmp_path / "pictures", 2)
    found = list(captures)
    assert [one.part_id for one in found] == ["0000.png", "0001.png"]
    assert (source.stats.frames, source.stats.reconnects, source.stats.problem) == (2, 1, None)
    never = Waiting(settings, "no password", again=False)
    captures = never.captures(stop)
    next(captures)
    stop.set()
    assert list(captures) == []


def test_certificates_that_are_missing_are_read_once_they_are_there(tmp_path: Path) -> None:
    """The results wait on disk meanwhile."""
    ca = tmp_path / "ca.pem"
    access = Access(MqttSettings(tls=TlsSettings(ca=str(ca))))
    assert not access.ready(100.0)
    assert "mqtt.tls" in str(access.problem)
    ca.write_text("no certificate")
    assert not access.ready(200.0)
    trustme.CA().cert_pem.write_to_path(str(ca))
    assert not access.ready(200.1)  # not at every turn
    assert access.ready(300.0)
    assert (access.tls is not None, access.problem) == (True, None)


@pytest.mark.slow
def test_an_upgrade_without_the_sparkplug_profile_inspects_on(tiny_bundle: Path, tmp_path: Path) -> None:
    """At a first start it is a mistake; where Sparkplug ran before, the line goes on without it."""
    mqtt = {"host": "127.0.0.1", "port": 1}
    path = write_config(tmp_path, tiny_bundle, {"line": LINE}, mqtt=mqtt, sparkplug={"enabled": True})
    command = ["run", "-c", str(path), "--frames", "3"]
    without = (
        "import sys; sys.modules['google.protobuf'] = None; from agent.cli.main import main; sys.exit(main())"
    )
    assert main(command) == EXIT_OK
    done = subprocess.run([sys.executable, "-c", without, *command], capture_output=True, text=True)
    assert done.returncode == EXIT_OK, done.stderr
    assert "pip install 'mekiki[sparkplug]'" in done.stderr
    assert len(stored(tmp_path, "line")) == 6


def test_what_cannot_be_read_in_the_data_folder_stops_nothing(
    tiny_bundle: Path, tmp_path: Path, conditions: Callable[[], dict[str, str]]
) -> None:
    """Folders in the place of files, files in the place of folders: told, and inspected all the same."""
    path = write_config(tmp_path, tiny_bundle, {"line": LINE})
    data = tmp_path / "data"
    station = data / "stations" / "line"
    station.mkdir(parents=True)
    (station / "commissioning.safetensors").mkdir()
    (station / "adapters").write_bytes(b"")
    for name in ("audit.jsonl", "last_run.json", "overrides.json", "clock.json", "sparkplug.json"):
        (data / name).mkdir()
    (data / "evidence").write_bytes(b"")
    (data / "last_good").write_bytes(b"")
    with running(load(path)):
        wait_until(lambda: {"audit", "commissioning_unusable"} <= set(conditions()), PATIENCE_S)
        wait_until(lambda: len(stored(tmp_path, "line")) > 3, PATIENCE_S)
        (data / "audit.jsonl").rmdir()
        wait_until(lambda: "audit" not in conditions(), PATIENCE_S)
    assert b"started" in (data / "audit.jsonl").read_bytes()


def test_rows_wait_for_a_trail_that_cannot_be_opened(tmp_path: Path) -> None:
    (tmp_path / "audit.jsonl").mkdir()
    trail = Trail(tmp_path)
    trail.record("started", "agent")
    assert "audit.jsonl" in str(trail.problem)
    (tmp_path / "audit.jsonl").rmdir()
    trail.write()
    assert trail.problem is None
    assert b"started" in (tmp_path / "audit.jsonl").read_bytes()


@contextmanager
def no_more_watches() -> Iterator[None]:
    """Take all the watching that this user may have."""
    libc = ctypes.CDLL(None)
    taken = []
    while (handle := libc.inotify_init1(os.O_CLOEXEC)) >= 0:
        taken.append(handle)
        assert len(taken) < 20_000
    try:
        yield
    finally:
        for handle in taken:
            os.close(handle)


@pytest.mark.skipif(sys.platform != "linux", reason="inotify is Linux's")
def test_no_more_watches_on_this_machine_stop_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Saving is not noticed, health says so; noticed again once there are some."""
    limit(monkeypatch, "the config is watched again", 0.1)
    path = tmp_path / "config.yaml"
    path.write_text("a: 1\n")
    seen = Event()
    watch = ConfigWatch(path, "a: 1\n", seen.set)
    thread = threading.Thread(target=watch.run)
    with no_more_watches():
        thread.start()
        wait_until(lambda: watch.problem is not None or not thread.is_alive(), PATIENCE_S)
        assert "is not noticed" in str(watch.problem)
    wait_until(lambda: watch.problem is None, PATIENCE_S)
    path.write_text("a: 2\n")
    assert seen.wait(PATIENCE_S)
    watch.stop()
    thread.join(PATIENCE_S)


def test_commands_about_the_data_need_no_camera(tiny_bundle: Path, tmp_path: Path) -> None:
    """To look at results nobody has to plug the disk with the pictures in."""
    pictures = write_pictures(tmp_path / "pictures", 3)
    path = write_config(
        tmp_path, tiny_bundle, {"side": {"camera": {"kind": "folder", "path": str(pictures)}}}
    )
    assert main(["run", "-c", str(path)]) == EXIT_OK
    pictures.rename(tmp_path / "away")
    for command in (["store", "check"], ["audit", "verify"], ["adapter", "list"]):
        assert main([*command, "-c", str(path)]) == EXIT_OK
    assert main(["check", "-c", str(path)]) == EXIT_CONFIG
