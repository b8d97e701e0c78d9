"""`mekiki doctor` asks the agent's own functions: what it says of a station is what health would."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from adapters.core.adapter import Adapter
from adapters.core.version import Version, Window
from agent.base.data_dir import lock_folder
from agent.cli.checks.doctor import Finding, examine
from agent.cli.main import main
from agent.config import overrides
from agent.config.loader import Loaded, load
from agent.config.recipes import find_recipe, shipped
from agent.domain.learner_stats import LearnerStats
from agent.telemetry.health import of_learner
from agent.versions.commissioned import Commissioned, Uncommissioned, open_station
from tests.support.learning_site import clean, engine, site


def findings(loaded: Loaded) -> dict[str, Finding]:
    return {one.subject: one for one in examine(loaded)}


def edited(loaded: Loaded, **sections: Any) -> Loaded:
    """Save the config with other sections."""
    config = yaml.safe_load(loaded.path.read_text())
    loaded.path.write_text(yaml.safe_dump({**config, **sections}, sort_keys=False))
    return load(loaded.path)


def mine(threshold: float, phrase: str = "a flawless part") -> dict[str, Any]:
    recipe = shipped("line").model_dump(mode="json")
    recipe["classes"]["ok"]["phrases"] = [phrase]
    return {**recipe, "threshold": threshold}


def promoted(loaded: Loaded, factor: float = 1.001) -> None:
    """Let a learned version answer at the station `line`."""
    found = open_station(loaded, "line", shipped("line"), engine())
    assert isinstance(found, Commissioned)
    tensors = {name: tensor * np.float32(factor) for name, tensor in engine().source.tensors.items()}
    window = Window(1, 100, 100)
    version = Version(Adapter(tensors), 0, "learned", "2026-01-01", window, 1.0, clean().recipe, {}, {})
    found.store.promote(version, "2026-01-02T00:00:00Z")


def test_a_commissioned_station_that_has_learned_is_well(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 0, and which version answers; looking changes nothing."""
    loaded = site(tmp_path)
    promoted(loaded)
    before = sorted(path.stat().st_mtime_ns for path in (tmp_path / "data").rglob("*"))
    assert main(["doctor", "-c", str(loaded.path)]) == 0
    out = capsys.readouterr().out
    assert f"ok   learning line: commissioned 2026-01-01, {clean().digest[:19]}..., version 1 answers" in out
    assert sorted(path.stat().st_mtime_ns for path in (tmp_path / "data").rglob("*")) == before


def test_a_moved_threshold_is_no_other_recipe(tmp_path: Path) -> None:
    """How sure the agent must be may be changed on a running line: a commissioning is of the words."""
    loaded = site(tmp_path)
    recipe = {**shipped("line").model_dump(mode="json"), "threshold": 0.7}
    assert findings(edited(loaded, recipes={"line": recipe}))["learning line"].ok


def test_other_words_are_told_as_health_tells_them(tmp_path: Path) -> None:
    """The very sentence."""
    loaded = edited(site(tmp_path), recipes={"line": mine(0.5)})
    recipe = find_recipe("line", loaded.config.recipes)
    found = open_station(loaded, "line", recipe, engine())
    assert isinstance(found, Uncommissioned)
    (told,) = of_learner(LearnerStats("line", unusable=found.why))
    finding = findings(loaded)["learning line"]
    assert not finding.ok
    assert finding.text == told.message
    assert "was commissioned with another recipe" in finding.text


def test_pins_that_do_not_hold_are_found(tmp_path: Path) -> None:
    """As at the start, with their line."""
    pins = {"pins": {"adapter": "sha256:" + 64 * "0"}}
    finding = findings(site(tmp_path, adaptation=pins))["learning line"]
    assert not finding.ok
    assert "adaptation.pins.adapter: is pinned to" in finding.text


def test_a_damaged_version_is_found(tmp_path: Path) -> None:
    """The source would answer: that is not as it should be."""
    loaded = site(tmp_path)
    promoted(loaded)
    (tmp_path / "data" / "stations" / "line" / "adapters" / "000001.safetensors").write_bytes(b"")
    texts = [str(one) for one in examine(loaded) if one.subject == "learning line"]
    assert texts[0].startswith("FAIL")
    assert "000001.safetensors" in texts[0]
    assert "version 0 answers" in texts[1]


def test_what_was_set_over_the_file_counts(tmp_path: Path) -> None:
    """The agent would start with it: a station that was switched off is not asked for its camera."""
    loaded = edited(site(tmp_path, commissioned=False), recipes={"other": mine(0.5)})
    (tmp_path / "data").mkdir()
    made = overrides.with_set(loaded, (), "line", "recipe", "other")
    overrides.write(tmp_path / "data", made)
    assert findings(loaded)["learning line"].ok
    clean().save(_folder(tmp_path) / "commissioning.safetensors")
    assert not findings(loaded)["learning line"].ok
    text = findings(loaded)["learning line"].text
    assert "recipe other is not commissioned here (line is)" in text
    assert "mekiki commission --station line --recipe other" in text


def _folder(tmp_path: Path) -> Path:
    folder = tmp_path / "data" / "stations" / "line"
    folder.mkdir(parents=True)
    return folder


def test_a_picture_that_would_not_be_inspected_is_found(tmp_path: Path) -> None:
    """Open eyes in the dark see nothing: the region and its masks are part of the question."""
    loaded = site(tmp_path, commissioned=False)
    stations = yaml.safe_load(loaded.path.read_text())["stations"]
    stations["line"]["roi"] = {"masks": {"all": [[0, 0], [1, 0], [1, 1], [0, 1]]}}
    finding = findings(edited(loaded, stations=stations))["camera line"]
    assert not finding.ok
    assert "that is black: not inspected" in finding.text


def test_a_port_for_the_metrics_that_is_taken_is_found_unless_the_agent_has_it(tmp_path: Path) -> None:
    """Who has the data folder serves them."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        loaded = edited(site(tmp_path, commissioned=False), metrics={"enabled": True, "port": port})
        assert not findings(loaded)["metrics"].ok
        with lock_folder(tmp_path / "data"):
            assert findings(loaded)["metrics"].ok
    assert findings(loaded)["metrics"].ok


def test_words_that_do_not_fit_the_model_are_found_once_for_each_who_needs_them(tmp_path: Path) -> None:
    """A sentence, no traceback; what needs no words is still asked."""
    loaded = edited(site(tmp_path, commissioned=False), recipes={"line": mine(0.5, "long " * 200)})
    found = findings(loaded)
    assert "recipes.line.classes.ok.phrases" in found["model"].text
    assert not found["learning line"].ok
    assert found["disk"].ok


def test_without_the_model_what_needs_it_is_not_claimed(tmp_path: Path) -> None:
    """Nothing is well that could not be asked."""
    loaded = edited(site(tmp_path), model={"precision": "int8"})
    found = findings(loaded)
    assert "build it with --int8" in found["model"].text
    assert not found["learning line"].ok
    assert found["camera line"].ok


def test_what_is_missing_and_spared_is_found_and_the_rest_is_examined(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The agent starts with such a config, and tells it in health; so nobody is told less here."""
    monkeypatch.delenv("NOT_HERE", raising=False)
    loaded = site(tmp_path, commissioned=False)
    raw = yaml.safe_load(loaded.path.read_text())
    line = raw["stations"]["line"]
    raw["stations"] |= {
        "folder": {**line, "camera": {"kind": "folder", "path": str(tmp_path / "gone")}},
        "remote": {**line, "camera": {"kind": "opencv", "source": "rtsp://u:${env:NOT_HERE}@127.0.0.1:1/x"}},
    }
    raw["mqtt"] = {"enabled": True, "username": "m", "password": "${env:NOT_HERE}"}
    loaded.path.write_text(yaml.safe_dump(raw))

    assert main(["doctor", "-c", str(loaded.path)]) == 1

    out = capsys.readouterr().out
    wrong = [line for line in out.splitlines() if line.startswith("FAIL config: ")]
    assert len(wrong) == 3
    for where in ("stations.folder.camera.path", "stations.remote.camera.source", "mqtt.password"):
        assert any(where in line for line in wrong), where
    assert "ok   camera line: a picture of" in out
    assert "camera remote" not in out
    assert "broker" not in out
