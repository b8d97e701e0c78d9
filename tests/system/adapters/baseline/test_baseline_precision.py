"""What a baseline was measured with is part of it: another precision does not use it, and `auto` stays."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import safetensors
import yaml

from adapters.baseline.baseline import Commissioning, CommissioningError, measured_with
from adapters.core.measured_with import MeasuredWith
from adapters.core.protocol import Engine
from adapters.engines import auto_select
from adapters.engines.bundle_model import BundleModel, Kind, open_kind
from adapters.engines.timing import EngineTiming
from agent.app.factories import commissioned_in, open_model
from agent.config.loader import Loaded, load
from agent.config.models import Config
from agent.config.recipes import shipped
from agent.domain.learner_stats import LearnerStats
from agent.telemetry.health import of_learner
from agent.versions.commissioned import Commissioned, Uncommissioned, commissioning_file, open_station
from agent.versions.station_plans import failing
from tests.support.learning_site import engine, site
from tests.support.line_site import commissioned, frames

HERE = MeasuredWith("mekiki-line", "fp32", "onnx:CPUExecutionProvider", "sha256:" + 64 * "a")


@cache
def clean() -> Commissioning:
    """Return a commissioning of noise that says to be of the simulated line."""
    recipe = shipped("line")
    return replace(
        commissioned(frames(1000)), station="line", weights=engine().info.weights, recipe=recipe.words,
        labels=tuple(recipe.classes), fails=failing(recipe),
    )  # fmt: skip


def baseline(loaded: Loaded, measured: MeasuredWith | None) -> Path:
    """Commission the station `line` again, with that."""
    file = commissioning_file(loaded.config, "line")
    file.parent.mkdir(parents=True, exist_ok=True)
    replace(clean(), measured=measured).save(file)
    return file


def test_what_it_was_measured_with_is_in_the_file_and_not_in_its_digest(tmp_path: Path) -> None:
    """An older release reads the file: what it knows of it is as it was, to the last byte."""
    loaded = site(tmp_path, commissioned=False)
    file = baseline(loaded, None)
    with safetensors.safe_open(file, framework="np") as old:
        before = dict(old.metadata())
    assert Commissioning.load(file).measured is None
    assert measured_with(file) is None
    file = baseline(loaded, HERE)
    with safetensors.safe_open(file, framework="np") as new:
        after = dict(new.metadata())
    assert Commissioning.load(file).measured == measured_with(file) == HERE
    assert Commissioning.load(file).digest == clean().digest
    # What came later stands beside it: a release that does not know it looks at the others alone.
    known = before.keys() - {"more", "more_digest"}
    assert {"format", "facts", "digest"} <= known
    assert {key: after[key] for key in known} == {key: before[key] for key in known}


@pytest.mark.parametrize(
    "change", [lambda text: text.replace(b"fp32", b"int8"), lambda text: text.replace(b"fp32", b"fp99")]
)
def test_what_it_was_measured_with_is_not_altered_unseen(
    change: Callable[[bytes], bytes], tmp_path: Path
) -> None:
    file = baseline(site(tmp_path, commissioned=False), HERE)
    file.write_bytes(change(file.read_bytes()))
    with pytest.raises(CommissioningError, match="altered since it was written"):
        Commissioning.load(file)
    assert measured_with(file) is None


@pytest.mark.parametrize(
    ("before", "now", "how"),
    [
        ({}, {}, None),
        ({}, {"provider": "openvino:CPU", "bundle": None}, None),
        ({"precision": "int8"}, {}, "in int8, the model runs in fp32"),
        ({}, {"precision": "bf16"}, "in fp32, the model runs in bf16"),
        ({"precision": "int8"}, {"precision": "int8", "bundle": "sha256:b"}, "in int8 of another bundle"),
        ({"name": "ViT-B-32"}, {"name": "ViT-B-32-quickgelu"}, "as model ViT-B-32, it runs as"),
    ],
)
def test_what_answers_otherwise_is_told_apart(before: Any, now: Any, how: str | None) -> None:
    """In fp32 engines are checked to answer alike; the numbers of int8 are those of their bundle."""
    found = replace(HERE, **before).differs_from(replace(HERE, **now))
    assert (found is None) if how is None else str(found).startswith(how)


def test_a_baseline_of_another_precision_is_not_used_and_health_says_what_to_do(tmp_path: Path) -> None:
    """Neither its operating point nor what was learned under it; measured anew, or set back, it is."""
    loaded = site(tmp_path, commissioned=False)
    baseline(loaded, None)
    fitting = open_station(loaded, "line", shipped("line"), engine())
    assert isinstance(fitting, Commissioned)  # an older file, which does not say
    baseline(loaded, replace(HERE, precision="int8", provider="onnx:CPUExecutionProvider:int8"))
    found = open_station(loaded, "line", shipped("line"), engine())
    assert isinstance(found, Uncommissioned)
    assert found.unusable
    assert (found.answering.number, found.answering.offset) == (0, 0.0)
    (told,) = of_learner(LearnerStats("line", unusable=found.why))
    assert told.code == "commissioning_unusable"
    assert (
        "was commissioned in int8, the model runs in fp32: run mekiki commission --station line"
        in told.message
    )
    assert "set model.engine and model.precision back" in told.message
    # What learns computes in fp32, whatever inspects, and is given only stations that fit.
    assert isinstance(open_station(loaded, "line", shipped("line"), engine(), inspecting=False), Commissioned)
    baseline(loaded, MeasuredWith.of(engine().info))
    assert isinstance(open_station(loaded, "line", shipped("line"), engine()), Commissioned)


@pytest.fixture
def int8_is_fastest(monkeypatch: pytest.MonkeyPatch) -> list[BundleModel]:
    """What was measured since: int8 wins, and all of ONNX Runtime's work."""
    calls: list[BundleModel] = []
    times = {Kind("onnx", "fp32"): 10.0, Kind("onnx", "int8"): 1.0}

    def run(of: BundleModel) -> tuple[list[EngineTiming], dict[Kind, Engine]]:
        calls.append(of)
        engines = {kind: open_kind(kind, of)[0] for kind in times}
        return [EngineTiming(kind, None, "good", (ms, 8 * ms)) for kind, ms in times.items()], engines

    monkeypatch.setattr(auto_select, "run_trials", run)
    return calls


def auto(folder: Path, bundle: Path) -> Config:
    """Write a config that leaves the engine to the agent."""
    model = {"engine": "auto", "bundle": str(bundle), "device": "cpu", "threads": 1}
    stations = {"line": {"camera": {"kind": "simulated"}, "recipe": "line"}}
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump({"version": 1, "model": model, "stations": stations}))
    return load(path).config


def test_auto_stays_with_the_precision_of_the_baseline(
    tiny_int8_bundle: Path, tmp_path: Path, int8_is_fastest: list[BundleModel]
) -> None:
    """The fastest where nothing is commissioned; then what was commissioned, without measuring again."""
    settings = auto(tmp_path, tiny_int8_bundle)
    assert commissioned_in(settings) is None
    assert open_model(settings, owner=True).info.precision == "int8"
    loaded = load(tmp_path / "config.yaml")
    baseline(loaded, HERE)
    assert commissioned_in(settings) == "fp32"
    assert open_model(settings, owner=True).info.precision == "fp32"
    # The station that is about to be commissioned again keeps nobody from the fastest.
    assert open_model(settings, owner=True, anew="line").info.precision == "int8"
    baseline(loaded, replace(HERE, precision="int8"))
    assert open_model(settings, owner=True).info.precision == "int8"
    # A file that does not say was made by a release whose default was fp32.
    baseline(loaded, None)
    assert open_model(settings, owner=True).info.precision == "fp32"
    assert len(int8_is_fastest) == 1


def test_auto_that_is_measured_later_stays_too(
    tiny_int8_bundle: Path, tmp_path: Path, int8_is_fastest: list[BundleModel]
) -> None:
    """The first start with auto, on a station that was commissioned in fp32 before."""
    settings = auto(tmp_path, tiny_int8_bundle)
    baseline(load(tmp_path / "config.yaml"), HERE)
    assert open_model(settings, owner=True).info.precision == "fp32"
    assert json.loads((tmp_path / "data" / "engine.json").read_text())["precision"] == "int8"
    assert len(int8_is_fastest) == 1


def test_auto_takes_another_where_nothing_here_can_do_that_precision(
    tiny_int8_bundle: Path,
    tmp_path: Path,
    int8_is_fastest: list[BundleModel],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The line goes on, and says so; the baseline is not used."""
    settings = auto(tmp_path, tiny_int8_bundle)
    baseline(load(tmp_path / "config.yaml"), replace(HERE, precision="bf16"))
    assert open_model(settings, owner=True).info.precision == "int8"
    assert "nothing works in bf16 on this machine" in caplog.text


def test_several_stations_the_most_exact_is_kept(tmp_path: Path) -> None:
    """What is disabled has no say."""
    loaded = site(tmp_path, commissioned=False)
    written = yaml.safe_load(loaded.path.read_text())
    written["stations"] |= {
        "top": written["stations"]["line"],
        "off": {**written["stations"]["line"], "enabled": False},
    }
    loaded.path.write_text(yaml.safe_dump(written))
    settings = load(loaded.path).config
    for station, precision in (("line", "int8"), ("top", "bf16"), ("off", "fp32")):
        file = commissioning_file(settings, station)
        file.parent.mkdir(parents=True)
        replace(clean(), station=station, measured=replace(HERE, precision=precision)).save(file)
    assert commissioned_in(settings) == "bf16"
