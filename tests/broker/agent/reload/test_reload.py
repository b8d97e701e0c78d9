"""A config that changes under a running line: what is live is, what is broken is refused, nothing is lost."""

from __future__ import annotations

import json
import os
import queue
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from adapters.bundle.manifest import read_manifest
from adapters.bundle.reader import SHIPPED
from agent.app.daemon import Daemon
from agent.audit.hash_chain import verify
from agent.base.errors import EXIT_CONFIG, ConfigError
from agent.config.loader import load
from agent.config.overrides import Overrides, read
from agent.reload import last_known_good
from agent.reload.reloader import ReloadOutcome
from agent.reload.restart_check import require_startable
from tests.support.insides import reloader
from tests.support.learner_children import children, conditions
from tests.support.learning_site import clean
from tests.support.mqtt_peers import Mosquitto, Subscriber, check_complete, mosquitto, wait_until
from tests.support.running_agent import at, running, write_config, write_pictures

PATIENCE_S = 60.0
LINE_BUNDLE = SHIPPED / "mekiki-line"
LINE = {"camera": {"kind": "simulated", "seed": 5, "fps": 25}}


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    folder = tmp_path / "broker"
    folder.mkdir()
    with mosquitto(folder) as running_:
        yield running_


@pytest.fixture
def subscriber(broker: Mosquitto) -> Iterator[Subscriber]:
    one = Subscriber(broker.port)
    yield one
    assert one.invalid == []
    one.close()


def edit(path: Path, change: Callable[[Any], Any]) -> None:
    """Save the file as an editor does, changed."""
    config = yaml.safe_load(path.read_text())
    change(config)
    path.write_text(yaml.safe_dump(config, sort_keys=False))


def rows(folder: Path) -> list[dict[str, Any]]:
    """Return the agent's audit trail, which must be whole."""
    file = folder / "data" / "audit.jsonl"
    assert verify(file).problems == ()
    return [json.loads(line) for line in file.read_text().splitlines()]


def newest(subscriber: Subscriber, station: str) -> dict[str, Any]:
    results = subscriber.results(station)
    return results[-1] if results else {}


@pytest.mark.broker
def test_what_is_live_is_in_force_without_a_frame_lost(
    tiny_bundle: Path, broker: Mosquitto, subscriber: Subscriber, tmp_path: Path
) -> None:
    """Words, threshold, votes and region of one station; every picture of the other comes."""
    pictures = write_pictures(tmp_path / "pictures", 40)
    stations = {"line": LINE, "folder": {"camera": {"kind": "folder", "path": str(pictures), "fps": 10}}}
    path = write_config(tmp_path, tiny_bundle, stations, mqtt=at(broker))

    def change(config: Any) -> None:
        config["recipes"]["tiny"]["threshold"] = 1.0
        config["recipes"]["tiny"]["votes"] = {"k": 2, "n": 3}
        config["recipes"]["tiny"]["classes"]["ok"]["phrases"] = ["a part without fault"]
        config["stations"]["line"] |= {
            "roi": {"crop": [0.0, 0.0, 0.5, 0.5], "masks": {"all": [[0, 0], [1, 0], [1, 1], [0, 1]]}},
            "images": {"last_fail": True},
        }
        config["log"] = {"level": "debug"}
        config["storage"]["keep_results"] = 7

    with running(load(path)):
        wait_until(lambda: len(subscriber.results("line")) > 5, PATIENCE_S)
        before = newest(subscriber, "line")["provenance"]
        edit(path, change)
        wait_until(lambda: newest(subscriber, "line")["provenance"]["recipe"] != before["recipe"], PATIENCE_S)
        # Everything is masked: the picture is black.
        wait_until(lambda: newest(subscriber, "line")["reason"] == "black", PATIENCE_S)
        wait_until(lambda: len(subscriber.results("folder")) == 40, PATIENCE_S)
    info = subscriber.last("info")
    assert newest(subscriber, "line")["provenance"]["config"] == load(path).digest == info["config"]["digest"]
    assert (info["config"]["refused"], info["config"]["pending"]) == ([], [])
    parts = [result["trigger"]["part_id"] for result in subscriber.results("folder")]
    assert parts == [f"{number:04}.png" for number in range(40)]
    for station in stations:
        results = subscriber.results(station)
        assert check_complete(results, results[-1]["seq"]) == []
    (row,) = [row for row in rows(tmp_path) if row["event"] == "config"]
    assert row["actor"] == "file"
    assert (row["before"]["recipes.tiny.threshold"], row["after"]["recipes.tiny.threshold"]) == (0.5, 1.0)


@pytest.mark.broker
def test_a_broken_file_changes_nothing_and_is_told_with_line_and_key(
    tiny_bundle: Path, broker: Mosquitto, subscriber: Subscriber, tmp_path: Path
) -> None:
    """Broken in its text, in a key, in a thing that it names, in what only the model can know."""
    path = write_config(tmp_path, tiny_bundle, {"line": LINE}, mqtt=at(broker))
    good = path.read_text()
    broken = {
        "recipes: [": "not valid YAML",
        good.replace("templates", "tempaltes"): "recipes.tiny.tempaltes: unknown key: did you mean templates",
        good.replace("recipe: tiny", "recipe: tyni"): "stations.line.recipe: no recipe is called 'tyni'",
        good.replace("a bad part", "a bad part " * 100): "recipes.tiny.classes.bad.phrases",
    }
    with running(load(path)):
        wait_until(lambda: subscriber.results("line"), PATIENCE_S)
        digest = newest(subscriber, "line")["provenance"]["config"]
        for text, told in broken.items():
            path.write_text(text)
            wait_until(lambda told=told: any(told in line for line in refused(subscriber)), PATIENCE_S)
            assert f"{path}:" in refused(subscriber)[0]
            wait_until(lambda: conditions(subscriber) == ["config_refused"], PATIENCE_S)
        count = len(subscriber.results("line"))
        wait_until(lambda: len(subscriber.results("line")) > count + 5, PATIENCE_S)
        assert newest(subscriber, "line")["provenance"]["config"] == digest
        path.write_text(good)
        wait_until(lambda: conditions(subscriber) == [] and refused(subscriber) == [], PATIENCE_S)
    assert [row["event"] for row in rows(tmp_path)].count("config_refused") == len(broken)


def refused(subscriber: Subscriber) -> list[str]:
    return list(subscriber.last("info")["config"]["refused"])


@pytest.mark.broker
def test_a_camera_is_opened_anew_and_stations_come_and_go(
    tiny_bundle: Path, broker: Mosquitto, subscriber: Subscriber, tmp_path: Path
) -> None:
    """Numbers go on without gaps; of a station that is gone the broker keeps nothing."""
    stations = {"stays": LINE, "other": LINE, "goes": LINE}
    path = write_config(tmp_path, tiny_bundle, stations, mqtt=at(broker))
    pictures = write_pictures(tmp_path / "pictures", 3)

    def change(config: Any) -> None:
        config["stations"]["other"]["camera"] = {
            "kind": "folder",
            "path": str(pictures),
            "loop": True,
            "fps": 9,
        }
        config["stations"]["comes"] = {"recipe": "tiny", **LINE}
        del config["stations"]["goes"]

    def part(station: str) -> str | None:
        return newest(subscriber, station).get("trigger", {}).get("part_id")

    with running(load(path)) as (daemon, _):
        wait_until(lambda: all(subscriber.results(name) for name in stations), PATIENCE_S)
        wait_until(lambda: any(t.endswith("goes/state") for t, _, _ in subscriber.messages), PATIENCE_S)
        edit(path, change)
        wait_until(lambda: str(part("other")).endswith(".png"), PATIENCE_S)
        wait_until(lambda: subscriber.results("comes"), PATIENCE_S)
        wait_until(lambda: subscriber.last("info")["stations"] == ["stays", "other", "comes"], PATIENCE_S)
        wait_until(
            lambda: cleared(subscriber, "goes/state") and cleared(subscriber, "goes/camera"), PATIENCE_S
        )
        edit(path, lambda config: config["stations"]["comes"].update(enabled=False))
        wait_until(lambda: subscriber.last("info")["stations"] == ["stays", "other"], PATIENCE_S)
        assert daemon.started
    for station in (*stations, "comes"):
        results = subscriber.results(station)
        assert check_complete(results, results[-1]["seq"]) == []


def cleared(subscriber: Subscriber, name: str) -> bool:
    payloads = [payload for topic, payload, _ in list(subscriber.messages) if topic.endswith(name)]
    return bool(payloads) and payloads[-1] == b""


@pytest.mark.broker
def test_what_needs_a_restart_waits_for_it_and_the_rest_is_live(
    tiny_bundle: Path, broker: Mosquitto, subscriber: Subscriber, tmp_path: Path
) -> None:
    path = write_config(tmp_path, tiny_bundle, {"line": LINE}, mqtt=at(broker))

    def change(config: Any) -> None:
        config["agent"]["id"] = "other"
        config["mqtt"]["topic_prefix"] = "elsewhere"
        config["recipes"]["tiny"]["threshold"] = 0.25

    with running(load(path)):
        wait_until(lambda: subscriber.results("line"), PATIENCE_S)
        recipe = newest(subscriber, "line")["provenance"]["recipe"]
        edit(path, change)
        wait_until(lambda: newest(subscriber, "line")["provenance"]["recipe"] != recipe, PATIENCE_S)
        wait_until(lambda: subscriber.last("info")["config"]["pending"], PATIENCE_S)
    info = subscriber.last("info")
    assert info["config"]["pending"] == ["agent.id", "mqtt.topic_prefix"]
    assert newest(subscriber, "line")["agent"] == "agent"
    assert newest(subscriber, "line")["provenance"]["config"] == info["config"]["digest"] != load(path).digest
    # What is not wholly in force is no config to fall back to.
    kept = last_known_good.find(path)
    assert kept is not None
    assert kept[0].config.mqtt.topic_prefix == "plant"


@pytest.mark.broker
def test_another_broker_takes_over_what_waits(
    tiny_bundle: Path, broker: Mosquitto, subscriber: Subscriber, tmp_path: Path
) -> None:
    path = write_config(tmp_path, tiny_bundle, {"line": LINE}, mqtt=at(broker) | {"port": 1})
    with running(load(path)):
        wait_until(lambda: stored(tmp_path) > 5, PATIENCE_S)
        assert subscriber.results("line") == []
        edit(path, lambda config: config["mqtt"].update(port=broker.port))
        wait_until(lambda: len(subscriber.results("line")) > 20, PATIENCE_S)
    results = subscriber.results("line")
    assert check_complete(results, results[-1]["seq"]) == []


def stored(folder: Path) -> int:
    file = folder / "data" / "mekiki.db"
    if not file.exists() or file.stat().st_size == 0:
        return 0
    with sqlite3.connect(file) as db:
        made = db.execute("SELECT count(*) FROM sqlite_master WHERE name = 'verdict'").fetchone()[0]
        return int(db.execute("SELECT count(*) FROM verdict").fetchone()[0]) if made else 0


@pytest.mark.broker
@pytest.mark.parametrize("way", ["rename", "link"])
def test_files_that_are_replaced_are_noticed_too(
    way: str, tiny_bundle: Path, broker: Mosquitto, subscriber: Subscriber, tmp_path: Path
) -> None:
    """Most editors write beside a file and rename; deployments switch a link to a folder."""
    path = write_config(tmp_path, tiny_bundle, {"line": LINE}, mqtt=at(broker))
    other = path.read_text().replace("a bad part", "a worse part")
    if way == "link":
        for name, text in (("one", path.read_text()), ("two", other)):
            (tmp_path / name).mkdir()
            (tmp_path / name / "config.yaml").write_text(text)
        (tmp_path / "now").symlink_to("one")
        path.unlink()
        path.symlink_to("now/config.yaml")
    with running(load(path)):
        wait_until(lambda: subscriber.results("line"), PATIENCE_S)
        recipe = newest(subscriber, "line")["provenance"]["recipe"]
        if way == "link":
            (tmp_path / "next").symlink_to("two")
            (tmp_path / "next").replace(tmp_path / "now")
        else:
            (tmp_path / "half").write_text(other)
            (tmp_path / "half").replace(path)
        wait_until(lambda: newest(subscriber, "line")["provenance"]["recipe"] != recipe, PATIENCE_S)


@pytest.mark.broker
def test_a_hundred_saves_in_a_moment_half_of_them_broken_end_with_the_last(
    tiny_bundle: Path, broker: Mosquitto, subscriber: Subscriber, tmp_path: Path
) -> None:
    path = write_config(tmp_path, tiny_bundle, {"line": LINE}, mqtt=at(broker))
    good = path.read_text()
    with running(load(path)):
        wait_until(lambda: subscriber.results("line"), PATIENCE_S)
        for number in range(100):
            broken = number % 2 == 0
            path.write_text(good.replace("threshold", "") + "oops: [" if broken else f"{good}# {number}\n")
            time.sleep(0.02)
        path.write_text(good.replace("a bad part", "a worse part"))
        wait_until(
            lambda: newest(subscriber, "line")["provenance"]["config"] == load(path).digest, PATIENCE_S
        )
        wait_until(lambda: conditions(subscriber) == [], PATIENCE_S)
    results = subscriber.results("line")
    assert check_complete(results, results[-1]["seq"]) == []


def agent(path: Path, *options: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-m", "agent", "run", "-c", str(path), *options])


@pytest.mark.broker
def test_a_start_with_a_broken_file_runs_with_the_last_good_one_and_says_so(
    tiny_bundle: Path, broker: Mosquitto, subscriber: Subscriber, tmp_path: Path
) -> None:
    """Degraded and with line and key; the file mended and SIGHUP: well again. `--strict` refuses."""
    path = write_config(tmp_path, tiny_bundle, {"line": LINE}, mqtt=at(broker))
    good = path.read_text()
    Daemon(load(path), frames=3).run()
    kept = next((tmp_path / "data" / "last_good").iterdir())
    assert (kept.read_text(), kept.parent.stat().st_mode & 0o077) == (good, 0)

    path.write_text(good.replace("tiny_model", "x").replace("line:", "lime:") + "storage2: {}\n")
    with agent(path, "--strict") as strict:
        assert strict.wait(PATIENCE_S) == EXIT_CONFIG
    with agent(path) as one:
        try:
            wait_until(lambda: conditions(subscriber) == ["config_refused"], PATIENCE_S)
            assert subscriber.last("health")["health"] == "degraded"
            assert "storage2: unknown key" in subscriber.last("health")["conditions"][0]["message"]
            assert subscriber.last("info")["config"]["source"] == "last_good"
            count = len(subscriber.results("line"))
            wait_until(lambda: len(subscriber.results("line")) > count + 3, PATIENCE_S)
            path.write_text(good)
            one.send_signal(signal.SIGHUP)
            wait_until(lambda: conditions(subscriber) == [], PATIENCE_S)
            wait_until(lambda: subscriber.last("info")["config"]["source"] == "file", PATIENCE_S)
        finally:
            one.terminate()
    assert one.returncode == 0


def test_a_config_whose_model_is_no_good_falls_back_as_well(tiny_bundle: Path, tmp_path: Path) -> None:
    """That the file reads well does not make it good: what is kept has inspected."""
    path = write_config(tmp_path, tiny_bundle, {"line": LINE})
    Daemon(load(path), frames=3).run()
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "manifest.json").write_text("{}")
    path.write_text(path.read_text().replace(str(tiny_bundle), str(tmp_path / "bad")))
    code = subprocess.run(
        [sys.executable, "-m", "agent", "run", "-c", str(path), "--frames", "3"],
        capture_output=True,
        text=True,
    )
    assert code.returncode == 0, code.stderr
    assert "starting with the one that was in force last" in code.stderr
    assert stored(tmp_path) == 6


REFUSED_MODELS: dict[str, tuple[Callable[[Any], Any], str]] = {
    "int8": (lambda model: model.update(precision="int8"), "build it with --int8, or set another precision"),
    "openvino": (lambda model: model.update(engine="openvino"), "pip install 'mekiki[openvino]'"),
    "pin": (lambda model: model.update(sha256=64 * "0"), "another bundle, or an altered one"),
    "name": (lambda model: model.update(bundle="mekiki-lime"), "no such model bundle; shipped: mekiki-line"),
    "torch": (
        lambda model: (model.pop("bundle"), model.update(engine="torch", name="tiny", pretrained="openai")),
        "pip install 'mekiki[torch]'",
    ),
}


@pytest.mark.broker
def test_a_model_that_a_restart_would_refuse_is_refused_at_once_until_the_file_is_mended(
    broker: Mosquitto,
    subscriber: Subscriber,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nothing of such a file is in force, health says it as long as it is so, and the last good one stays."""
    monkeypatch.setattr(
        "adapters.engines.factory.find_spec", lambda name: None if name in ("openvino", "torch") else 1
    )
    path = write_config(tmp_path, LINE_BUNDLE, {"line": LINE}, mqtt=at(broker))
    good = path.read_text()
    with running(load(path)) as (daemon, _):
        wait_until(lambda: subscriber.results("line"), PATIENCE_S)
        digest = newest(subscriber, "line")["provenance"]["config"]
        for change, told in REFUSED_MODELS.values():
            config = yaml.safe_load(good)
            change(config["model"])
            config["recipes"]["tiny"]["threshold"] = 0.25
            path.write_text(yaml.safe_dump(config))
            wait_until(lambda told=told: any(told in line for line in refused(subscriber)), PATIENCE_S)
            assert f"{path}:" in refused(subscriber)[0]
            daemon.reload("once more")
            count = len(subscriber.results("line"))
            wait_until(lambda count=count: len(subscriber.results("line")) > count + 5, PATIENCE_S)
            wait_until(lambda: conditions(subscriber) == ["config_refused"], PATIENCE_S)
        assert newest(subscriber, "line")["provenance"]["config"] == digest
        kept = last_known_good.find(path)
        assert kept is not None
        assert kept[0].text == good
        path.write_text(good)
        wait_until(lambda: conditions(subscriber) == [], PATIENCE_S)


@pytest.mark.broker
def test_a_model_that_the_start_refused_stays_in_health_until_the_file_names_another(
    broker: Mosquitto, subscriber: Subscriber, tmp_path: Path
) -> None:
    """Also where only opening it can tell: asked to read the same file again, the agent does not forget."""
    path = write_config(tmp_path, LINE_BUNDLE, {"line": LINE}, mqtt=at(broker))
    good = path.read_text()
    Daemon(load(path), frames=3).run()
    damaged = tmp_path / "damaged"
    shutil.copytree(LINE_BUNDLE, damaged)
    weights = damaged / "image.weights"
    weights.write_bytes(weights.read_bytes()[:-1] + b"?")
    path.write_text(good.replace(str(LINE_BUNDLE), str(damaged)))
    for _ in range(2):  # and so does the next start
        with agent(path) as one:
            try:
                wait_until(lambda: conditions(subscriber) == ["config_refused"], PATIENCE_S)
                message = subscriber.last("health")["conditions"][0]["message"]
                assert "image.weights: altered since the bundle was built" in message
                one.send_signal(signal.SIGHUP)
                count = len(subscriber.results("line"))
                wait_until(lambda count=count: len(subscriber.results("line")) > count + 5, PATIENCE_S)
                assert conditions(subscriber) == ["config_refused"]
                assert subscriber.last("info")["config"]["source"] == "last_good"
            finally:
                one.terminate()
        assert one.returncode == 0
        subscriber.messages.clear()
    with agent(path) as one:
        try:
            wait_until(lambda: conditions(subscriber) == ["config_refused"], PATIENCE_S)
            path.write_text(good)
            wait_until(lambda: conditions(subscriber) == [], PATIENCE_S)
        finally:
            one.terminate()


def test_a_package_that_a_restart_would_lack_is_told_at_the_reload(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is not the model's: the embedded broker; with the model's, both are told."""
    path = write_config(tmp_path, LINE_BUNDLE, {"line": LINE})
    now = load(path)
    edit(path, lambda config: config["mqtt"].update(enabled=True, embedded_broker=True))
    require_startable(now, load(path))
    monkeypatch.setattr("agent.mqtt.embedded_broker.find_spec", lambda name: None)
    edit(path, lambda config: config["model"].update(precision="int8"))
    with pytest.raises(ConfigError, match="amqtt is not installed") as caught:
        require_startable(now, load(path))
    assert ["build it with --int8" in line for line in caught.value.problems] == [True, False]
    # What is in force already is no news.
    require_startable(load(path), load(path))


def test_a_card_that_the_runtime_cannot_use_and_pins_of_other_weights_are_told_at_the_reload(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_config(tmp_path, LINE_BUNDLE, {"line": LINE})
    now = load(path)
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: ["CPUExecutionProvider"])
    edit(path, lambda config: config["model"].update(device="cuda"))
    with pytest.raises(ConfigError, match=r"device cuda: onnxruntime .* is built without it; install"):
        require_startable(now, load(path))
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: ["CUDAExecutionProvider"])
    require_startable(now, load(path))

    pins = {"weights": read_manifest(LINE_BUNDLE)[0].weights}
    edit(path, lambda config: config["stations"]["line"].update(adaptation={"pins": pins}))
    now = load(path)
    edit(path, lambda config: config["model"].update(bundle=str(tiny_bundle)))
    with pytest.raises(ConfigError, match=r"pins\.weights.*is pinned to sha256:.*, the model has sha256:"):
        require_startable(now, load(path))


def test_another_file_is_not_fallen_back_to(tiny_bundle: Path, tmp_path: Path) -> None:
    """Two lines that use a data folder one after the other are two lines."""
    path = write_config(tmp_path, tiny_bundle, {"line": LINE})
    Daemon(load(path), frames=3).run()
    other = tmp_path / "other.yaml"
    other.write_text(path.read_text() + "oops: 1\n")
    with agent(other) as one:
        assert one.wait(PATIENCE_S) == EXIT_CONFIG


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_learners_begin_again_only_where_learning_has_changed(tmp_path: Path) -> None:
    """A threshold and a log level leave them alone; another mode, and other words, do not."""
    recipe = yaml.safe_load((Path("agent/config/shipped/line.yaml")).read_text())
    path = commissioned(tmp_path, recipe)
    with running(load(path)) as (daemon, _):
        wait_until(lambda: len(children(os.getpid())) == 1, PATIENCE_S)
        (first,) = children(os.getpid())

        def change(config: Any) -> None:
            config["recipes"]["mine"]["threshold"] = 0.6
            config["log"] = {"level": "warning"}
            config["stations"]["line"]["adaptation"] = {"shadow_share": 0.5}

        save(path, change, daemon)
        assert children(os.getpid()) == [first]
        save(path, lambda config: config["stations"]["line"]["adaptation"].update(duty=0.1), daemon)
        wait_until(lambda: len(children(os.getpid())) == 1 and children(os.getpid()) != [first], PATIENCE_S)
        # Words that nobody commissioned: the station inspects on and learns nothing.
        save(path, lambda config: config["recipes"]["mine"]["templates"].append("{}, closely"), daemon)
        wait_until(lambda: children(os.getpid()) == [], PATIENCE_S)
        count = stored(tmp_path)
        wait_until(lambda: stored(tmp_path) > count + 5, PATIENCE_S)
    with sqlite3.connect(tmp_path / "data" / "mekiki.db") as db:
        payload = db.execute("SELECT payload FROM verdict ORDER BY seq DESC LIMIT 1").fetchone()[0]
    assert json.loads(payload)["provenance"]["commissioning"] is None


def commissioned(folder: Path, recipe: Any) -> Path:
    from tests.support.learning_site import site

    path = site(folder, camera={"kind": "simulated", "seed": 5, "fps": 25}).path

    def change(config: Any) -> None:
        config["recipes"] = {"mine": recipe}
        config["stations"]["line"]["recipe"] = "mine"

    edit(path, change)
    assert load(path).config.recipes["mine"].words == clean().recipe
    return path


def save(path: Path, change: Callable[[Any], Any], daemon: Daemon) -> None:
    """Change the file and wait until what it says is in force."""
    wait_until(lambda: daemon.started, PATIENCE_S)
    edit(path, change)
    wait_until(lambda: reloader(daemon).now.digest == load(path).digest, PATIENCE_S)


def test_what_is_set_over_the_file_outlives_a_restart_until_the_file_is_edited(
    tiny_bundle: Path, tmp_path: Path
) -> None:
    path = write_config(tmp_path, tiny_bundle, {"line": LINE, "top": LINE})
    data = tmp_path / "data"
    with running(load(path)) as (daemon, _):
        wait_until(lambda: daemon.started, PATIENCE_S)
        assert put(daemon, "line", "recipe", "line").state == "applied"
        assert put(daemon, "top", "enabled", False).state == "applied"
        for wrong in (("nowhere", "recipe", "line"), ("line", "recipe", "lime"), ("line", "enabled", "off")):
            outcome = put(daemon, *wrong)
            assert (outcome.state, len(outcome.problems)) == ("refused", 1)
        none_left = put(daemon, "line", "enabled", False)
        assert none_left.problems[0].endswith("set enabled: true on one")
        assert put(daemon, "line", "adaptation", "locked").state == "refused"
    assert {(one.station, one.name, one.value) for one in read(data)} == {
        ("line", "recipe", "line"),
        ("top", "enabled", False),
    }
    with running(load(path)) as (daemon, _):
        wait_until(lambda: daemon.started, PATIENCE_S)
        assert shown(daemon) == ["line:line"]
        save_over(path, daemon, lambda config: config["stations"]["line"].update(recipe="steel-neu"))
        assert shown(daemon) == ["line:steel-neu"]
    assert {(one.station, one.name) for one in read(data)} == {("top", "enabled")}
    # Edited while nobody was looking: forgotten at the next start.
    edit(path, lambda config: config["stations"]["top"].update(enabled=False))
    Daemon(load(path), frames=2).run()
    assert read(data) == ()
    events = [(row["event"], row["actor"]) for row in rows(tmp_path)]
    assert events.count(("config", "mqtt:ada")) == 2
    assert events.count(("set_refused", "mqtt:ada")) == 5


def put(daemon: Daemon, station: str, name: Any, value: Any) -> ReloadOutcome:
    """Set something, in the thread that owns the config."""
    reloads = reloader(daemon)
    done: queue.Queue[ReloadOutcome] = queue.Queue()
    serve = reloads.serve

    def served() -> None:
        reloads.serve = serve
        done.put(reloads.set(station, name, value, "mqtt:ada"))

    reloads.serve = served
    return done.get(timeout=PATIENCE_S)


def shown(daemon: Daemon) -> list[str]:
    stations = reloader(daemon).now.config.stations
    return [f"{name}:{station.recipe}" for name, station in stations.items() if station.enabled]


def save_over(path: Path, daemon: Daemon, change: Callable[[Any], Any]) -> None:
    before = reloader(daemon).now
    edit(path, change)
    wait_until(lambda: reloader(daemon).now is not before, PATIENCE_S)


def test_damaged_overrides_are_told_and_the_file_counts(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    nothing: Overrides = ()
    for content in ("", "[]", '{"overrides": [1]}', '{"overrides": [{"station": "a"}]}', '{"overrides": 3}'):
        (tmp_path / "overrides.json").write_text(content)
        assert read(tmp_path) == nothing
    assert len(caplog.records) == 5


def test_numbers_of_frames_go_on_behind_a_camera_that_was_opened_anew() -> None:
    """What learns counts on them."""
    from camera.core.settings import SimulatedCamera
    from camera.feed.mailbox import Mailbox
    from camera.feed.thread import Feed
    from camera.pictures.preprocess import InputSpec
    from camera.sources.factory import open_source

    mailbox, spec = Mailbox(), InputSpec(32, (0.5,) * 3, (0.5,) * 3)
    crashes: list[BaseException] = []
    first = Feed("top", open_source(SimulatedCamera(parts=5)), mailbox, spec, on_crash=crashes.append)
    first.start()
    numbers = [frame.number for _ in range(5) for frame in mailbox.take(1, 20)]
    second = Feed(
        "top", open_source(SimulatedCamera(parts=3)), mailbox, spec, on_crash=crashes.append, before=first
    )
    first.stop()
    assert first.join(10)
    assert not mailbox.ended
    second.start()
    numbers += [frame.number for _ in range(3) for frame in mailbox.take(1, 20)]
    assert second.join(10)
    assert numbers == list(np.arange(1, 9))
    assert mailbox.ended
    assert crashes == []


def test_a_picture_that_waits_for_a_connection_outlives_no_station(tmp_path: Path) -> None:
    """It is composed when there is one; by then a reload may have taken the station, or its pictures."""
    from adapters.engines.factory import ModelSettings, open_engine
    from agent.telemetry.counters import Counters
    from agent.telemetry.status_topics import StatusTopics
    from camera.core.frame import Frame, Quality

    def config(**line: Any) -> Any:
        stations = {"line": {"recipe": "line", **LINE, **line}, "other": {"recipe": "line", **LINE}}
        (tmp_path / "config.yaml").write_text(yaml.safe_dump({"version": 1, "stations": stations}))
        return load(tmp_path / "config.yaml").config

    wanted, unwanted = config(images={"last_fail": True}), config()
    image = np.zeros((20, 30, 3), np.uint8)
    frame = Frame("line", 1, datetime.now(UTC), 0, image, None, Quality(), None)
    status = StatusTopics(wanted, open_engine(ModelSettings()).info, list, Counters())
    assert status.picture(frame, 10**6) is not None
    status.use(unwanted)
    assert status.picture(frame, 10**6) is None
    status.use(unwanted.model_copy(update={"stations": {"other": unwanted.stations["other"]}}))
    assert status.picture(frame, 10**6) is None
