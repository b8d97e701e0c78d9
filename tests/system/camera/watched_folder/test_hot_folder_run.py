"""The whole agent over a watched folder: what is stored is put away, and nothing is lost on the way."""

from __future__ import annotations

import json
import logging
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image as Pillow

from agent.base.errors import EXIT_CONFIG, EXIT_OK, ConfigError
from agent.cli.main import main
from agent.config.loader import load
from tests.support.insides import limit, reloader
from tests.support.mqtt_peers import wait_until
from tests.support.places import ROOT
from tests.support.running_agent import running, write_config, write_pictures

PATIENCE_S = 60.0
LINE = {"camera": {"kind": "simulated", "fps": 5}}


def watched(folder: Path, **settings: Any) -> dict[str, Any]:
    watch = {"settle_s": 0.3, "poll_s": 0.1, **settings.pop("watch", {})}
    return {"camera": {"kind": "folder", "path": str(folder), "watch": watch, **settings}}


def stored(site: Path, station: str = "press") -> list[dict[str, Any]]:
    file = site / "data" / "mekiki.db"
    if not file.exists():
        return []
    with closing(sqlite3.connect(file)) as db:
        try:
            rows = db.execute(
                "SELECT payload FROM verdict WHERE station = ? ORDER BY seq", (station,)
            ).fetchall()
        except sqlite3.OperationalError:  # it is just being made
            return []
    return [json.loads(payload) for (payload,) in rows]


def parts(site: Path) -> list[str]:
    return [result["trigger"]["part_id"] for result in stored(site)]


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if path.is_file()} if folder.is_dir() else set()


def agent(config: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "agent", "run", "-c", str(config)],
        cwd=ROOT, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


@pytest.mark.parametrize("when_done", ["move", "mark"])
def test_killed_again_and_again_it_loses_no_part(tiny_bundle: Path, tmp_path: Path, when_done: str) -> None:
    """SIGKILL in the middle, three times: each part has a result, and hardly one has two."""
    folder = write_pictures(tmp_path / "in", 60)
    config = write_config(
        tmp_path, tiny_bundle, {"press": watched(folder, fps=25, watch={"when_done": when_done})}
    )
    for least in (5, 20, 35):
        process = agent(config)
        try:
            wait_until(lambda least=least: len(stored(tmp_path)) >= least, PATIENCE_S)
        finally:
            process.send_signal(signal.SIGKILL)
            process.communicate(timeout=20)
        if when_done == "move":  # never put away without a result
            assert names(folder / "done") <= set(parts(tmp_path))
    process = agent(config)
    try:
        wait_until(lambda: len(set(parts(tmp_path))) == 60, PATIENCE_S)
        if when_done == "move":
            wait_until(lambda: len(names(folder / "done")) == 60, PATIENCE_S)
        time.sleep(1)
    finally:
        process.send_signal(signal.SIGTERM)
        _, log = process.communicate(timeout=20)
    assert process.returncode == 0, log
    assert "Traceback" not in log
    twice = [name for name, count in Counter(parts(tmp_path)).items() if count > 1]
    assert len(twice) <= 3 * 3  # at each kill what was between commit and move, or mark
    assert names(folder) == (set() if when_done == "move" else set(parts(tmp_path)))


def test_an_orderly_end_judges_nothing_twice(tiny_bundle: Path, tmp_path: Path) -> None:
    """SIGTERM in the middle, and `--frames`: whatever has a result is put away before the process ends."""
    folder = write_pictures(tmp_path / "in", 40)
    config = write_config(tmp_path, tiny_bundle, {"press": watched(folder, fps=50)})
    process = agent(config)
    wait_until(lambda: len(stored(tmp_path)) >= 10, PATIENCE_S)
    process.send_signal(signal.SIGTERM)
    began_s = time.monotonic()
    process.communicate(timeout=20)
    assert process.returncode == 0
    assert time.monotonic() - began_s < 10
    assert names(folder / "done") == set(parts(tmp_path))

    assert main(["run", "-c", str(config), "--frames", "3"]) == EXIT_OK
    assert names(folder / "done") == set(parts(tmp_path))
    with running(load(config)):
        wait_until(lambda: len(names(folder / "done")) == 40, PATIENCE_S)
    assert max(Counter(parts(tmp_path)).values()) == 1


def test_a_reload_of_the_camera_loses_and_repeats_nothing(tiny_bundle: Path, tmp_path: Path) -> None:
    """The folder is opened anew while pictures are on their way."""
    folder = write_pictures(tmp_path / "in", 100)
    config = write_config(tmp_path, tiny_bundle, {"press": watched(folder, fps=40)})
    with running(load(config)) as (daemon, _):
        for fps in (41, 42, 43):
            least = len(stored(tmp_path)) + 10
            wait_until(lambda least=least: len(stored(tmp_path)) >= least, PATIENCE_S)
            reloads = reloader(daemon)
            before = reloads.now.digest
            config.write_text(config.read_text().replace(f"fps: {fps - 1}", f"fps: {fps}"))
            wait_until(lambda before=before, reloads=reloads: reloads.now.digest != before, PATIENCE_S)
        wait_until(lambda: len(names(folder / "done")) == 100, PATIENCE_S)
    assert sorted(parts(tmp_path)) == sorted(names(folder / "done"))


def test_health_says_what_is_wrong_with_the_folder(
    tiny_bundle: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    conditions: Callable[[], dict[str, str]],
) -> None:
    """`folder` while files cannot be moved, `camera_offline` while it is away, nothing when it is back."""
    caplog.set_level(logging.INFO)
    limit(monkeypatch, "a picture is put away again", 0.3)
    folder = write_pictures(tmp_path / "in", 3)
    (folder / "done").write_text("in the way")
    config = write_config(tmp_path, tiny_bundle, {"press": watched(folder), "line": LINE})
    with running(load(config)):
        wait_until(lambda: len(parts(tmp_path)) == 3, PATIENCE_S)
        wait_until(lambda: "cannot be put away" in conditions().get("folder", ""), PATIENCE_S)
        (folder / "done").unlink()
        wait_until(lambda: conditions() == {}, PATIENCE_S)
        assert len(names(folder / "done")) == 3
        caplog.clear()

        away = folder.rename(tmp_path / "away")
        wait_until(lambda: "no such folder" in conditions().get("camera_offline", ""), PATIENCE_S)
        time.sleep(1)
        assert [r["reason"] for r in stored(tmp_path)][3:] == ["camera_offline"]
        assert [r.name for r in caplog.records if "no such folder" in r.message] == [
            "camera.feed.thread",
            "agent.telemetry.status_topics",
        ]
        away.rename(folder)
        wait_until(lambda: conditions() == {}, PATIENCE_S)  # without a picture
        assert [r.message for r in caplog.records if "is back" in r.message] == [f"camera: {folder} is back"]
        Pillow.open(folder / "done" / "0000.png").save(folder / "new.png")
        wait_until(lambda: "new.png" in names(folder / "done"), PATIENCE_S)
    assert len(stored(tmp_path)) == 5


def test_a_folder_that_is_mounted_later_is_waited_for(tiny_bundle: Path, tmp_path: Path) -> None:
    """As with every camera: `check` refuses it, the agent starts with the others and opens it later."""
    from agent.config.absent import whatever_is_spared

    folder = tmp_path / "in"
    config = write_config(tmp_path, tiny_bundle, {"press": watched(folder), "line": LINE})
    assert main(["check", "-c", str(config)]) == EXIT_CONFIG
    with running(load(config, whatever_is_spared)):
        wait_until(lambda: [r["reason"] for r in stored(tmp_path)] == ["camera_offline"], PATIENCE_S)
        folder.mkdir()
        write_pictures(tmp_path / "some", 2)
        for file in (tmp_path / "some").iterdir():
            os.rename(file, folder / file.name)  # noqa: PTH104
        wait_until(lambda: len(names(folder / "done")) == 2, PATIENCE_S)


def test_only_a_run_takes_files_away(
    tiny_bundle: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """`record` and `doctor` look; an empty folder is no trouble for `check` and `doctor`."""
    folder = tmp_path / "in"
    folder.mkdir()
    config = write_config(tmp_path, tiny_bundle, {"press": watched(folder)})
    assert main(["check", "-c", str(config)]) == EXIT_OK
    assert main(["doctor", "-c", str(config)]) == EXIT_OK
    assert "in is watched" in capfd.readouterr().out
    write_pictures(tmp_path / "some", 4)
    for file in (tmp_path / "some").iterdir():
        os.rename(file, folder / file.name)  # noqa: PTH104
    out = tmp_path / "recording"
    assert main(["record", "-c", str(config), "press", "--out", str(out), "--frames", "4"]) == EXIT_OK
    assert len(names(folder)) == 4
    assert not (folder / "done").exists()


def test_what_would_mix_parts_up_is_refused(tiny_bundle: Path, tmp_path: Path) -> None:
    """Triggers, two stations at one folder, the agent's own pictures within it: file, key and remedy."""
    folder = tmp_path / "in"
    (folder / "sub").mkdir(parents=True)
    for stations, what in (
        ({"a": {**watched(folder), "trigger": {"mode": "mqtt"}}}, r"stations\.a\.trigger: .*remove trigger"),
        ({"a": {**watched(folder), "trigger": {"mode": "interval", "every_s": 1}}}, r"stations\.a\.trigger"),
        ({"a": watched(folder / "sub"), "b": watched(folder)}, r"stations\.b\.camera\.path: stations\.a"),
        ({"a": watched(tmp_path)}, r"stations\.a\.camera\.path: agent\.data_dir"),
        ({"a": watched(folder, loop=True)}, r"loop and watch exclude each other"),
    ):
        mqtt = {"commands": {"enabled": True}}
        with pytest.raises(ConfigError, match=what):
            load(write_config(tmp_path, tiny_bundle, stations, mqtt=mqtt))
    config = write_config(tmp_path, tiny_bundle, {"a": watched(folder), "b": LINE})
    config.write_text(config.read_text().replace("poll_s: 0.1", "poll_s: 0"))
    with pytest.raises(ConfigError, match=r"watch\.poll_s"):
        load(config)
    assert "watch" in yaml.safe_load(config.read_text())["stations"]["a"]["camera"]
