"""`engine: auto` measures once per machine and bundle, and `mekiki bench engines` shows why."""

from __future__ import annotations

import json
import logging
import shutil
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from adapters.core.protocol import Engine, ModelError
from adapters.engines import auto_select
from adapters.engines import timing as engine_trial
from adapters.engines.auto_select import FILE, chosen_engine, circumstances, measure
from adapters.engines.bundle_model import KINDS, BundleModel, Kind, open_kind
from adapters.engines.factory import ModelSettings, open_engine
from adapters.engines.onnx_engine import OnnxEngine
from adapters.engines.openvino_engine import OpenVinoEngine
from adapters.engines.timing import EngineTiming, fastest
from agent.cli.main import main
from tests.support.available_engines import model, runs_here


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """One round of timing, and the process's log and switch interval as they were."""
    monkeypatch.setattr(engine_trial, "MOST_ROUNDS", 1)
    root, interval = logging.getLogger(), sys.getswitchinterval()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    sys.setswitchinterval(interval)


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[BundleModel]:
    """What was measured since; nothing is timed, ONNX Runtime wins."""
    calls: list[BundleModel] = []
    kind = KINDS[0]

    def run(of: BundleModel) -> tuple[list[EngineTiming], dict[Kind, Engine]]:
        calls.append(of)
        return [EngineTiming(kind, None, "good", (1.0, 8.0))], {kind: open_kind(kind, of)[0]}

    monkeypatch.setattr(auto_select, "run_trials", run)
    return calls


def auto(bundle: Path, data: Path | None) -> Engine:
    return open_engine(ModelSettings(engine="auto", bundle=str(bundle), device="cpu", threads=1), data)


def test_auto_times_all_that_run_here(tiny_int8_bundle: Path, tmp_path: Path) -> None:
    """The engine that is opened is the one whose times are the best in the file that is kept."""
    engine = auto(tiny_int8_bundle, tmp_path / "data")
    kept = json.loads((tmp_path / "data" / FILE).read_text())
    assert set(kept["ms"]) == {str(kind) for kind in KINDS if runs_here(kind)}
    best = min(times[0] for times in kept["ms"].values())
    chosen = Kind(kept["engine"], kept["precision"])
    assert kept["ms"][str(chosen)][0] <= 1.06 * best
    assert engine.info.provider.startswith(chosen.engine)
    assert engine.info.provider.endswith(chosen.precision) == (chosen.precision != "fp32")


def test_auto_measures_once(tiny_bundle: Path, tmp_path: Path, measured: list[BundleModel]) -> None:
    """The second start opens what the first one chose."""
    first, second = auto(tiny_bundle, tmp_path), auto(tiny_bundle, tmp_path)
    assert len(measured) == 1
    assert first.info == second.info


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: "",
        lambda text: text[: len(text) // 2],
        lambda text: "[]",
        lambda text: "[" * 100_000,
        lambda text: text.replace("mekiki.engine.v1", "mekiki.engine.v9"),
        lambda text: json.dumps({**json.loads(text), "engine": "other"}),
        lambda text: json.dumps({**json.loads(text), "precision": "fp16"}),
    ],
)
def test_a_damaged_choice_is_made_again(
    damage: Any,
    tiny_bundle: Path,
    tmp_path: Path,
    measured: list[BundleModel],
) -> None:
    """And mended by that."""
    auto(tiny_bundle, tmp_path)
    intact = (tmp_path / FILE).read_text()
    (tmp_path / FILE).write_text(damage(intact))
    auto(tiny_bundle, tmp_path)
    auto(tiny_bundle, tmp_path)
    assert len(measured) == 2


def test_another_bundle_or_machine_is_measured_again(
    tiny_bundle: Path,
    tiny_int8_bundle: Path,
    tmp_path: Path,
    measured: list[BundleModel],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What was fastest there says nothing here: bundle, processor, cores, threads, runtimes."""
    auto(tiny_bundle, tmp_path)
    auto(tiny_int8_bundle, tmp_path)
    assert [of.folder for of in measured] == [tiny_bundle, tiny_int8_bundle]
    here = circumstances(model(tiny_int8_bundle))
    for change in (
        {"processor": "another"},
        {"cores": 99},
        {"threads": 2},
        {"runtimes": {"onnxruntime": "0.1"}},
    ):
        there = here.model_copy(update=change)
        monkeypatch.setattr(auto_select, "circumstances", lambda _, there=there: there)
        before = len(measured)
        auto(tiny_int8_bundle, tmp_path)
        assert len(measured) == before + 1


def test_a_choice_that_no_longer_works_is_made_again(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An engine that was right once is checked at every start like any other."""
    with monkeypatch.context() as once:
        once.setattr(auto_select, "fastest", lambda _: Kind("openvino", "fp32"))
        assert auto(tiny_bundle, tmp_path).info.provider == "openvino:CPU"
    assert auto(tiny_bundle, tmp_path).info.provider == "openvino:CPU"
    monkeypatch.setattr(OpenVinoEngine, "encode_image", lambda self, images, _: np.zeros((len(images), 16)))
    assert auto(tiny_bundle, tmp_path).info.provider == "onnx:CPUExecutionProvider"


def test_a_broken_engine_is_never_chosen(
    tiny_int8_bundle: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """However fast it is; and where all are broken, nothing starts and each reason is said."""
    monkeypatch.setattr(OpenVinoEngine, "encode_image", lambda self, images, _: np.zeros((len(images), 16)))
    trials = {trial.kind: trial for trial in measure(model(tiny_int8_bundle), None).trials}
    assert trials[Kind("onnx", "fp32")].problem is None
    assert "answers wrongly" in (trials[Kind("openvino", "fp32")].problem or "")
    monkeypatch.setattr(OnnxEngine, "encode_image", lambda self, images, _: np.zeros((len(images), 16)))
    with pytest.raises(ModelError, match=r"none works: onnx fp32: .*answers wrongly.*openvino fp32: "):
        chosen_engine(model(tiny_int8_bundle), None)


def test_what_is_nearly_as_fast_and_more_exact_is_taken() -> None:
    """A few per cent are noise, and no reason for fewer bits; what fails is not looked at."""
    times = dict(zip(KINDS, (10.0, 9.0, 8.6, 2.0), strict=True))
    trials = [EngineTiming(kind, None, "good", (ms, ms)) for kind, ms in times.items()]
    assert fastest(trials) == Kind("onnx", "int8")
    broken = replace(trials[3], problem="broken", ms=())
    assert fastest([*trials[:3], broken]) == Kind("openvino", "fp32")


def test_a_folder_that_cannot_be_written_is_no_reason_to_stop(
    tiny_bundle: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It is said, and the next start measures again."""
    (tmp_path / "file").write_text("")
    assert measure(model(tiny_bundle), tmp_path / "file").kept is None
    assert "cannot be written" in caplog.text


def test_a_damaged_bundle_is_said_once(tiny_bundle: Path, tmp_path: Path) -> None:
    """Not once per engine."""
    bundle = Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))
    (bundle / "image.onnx").write_bytes(b"")
    with pytest.raises(ModelError) as caught:
        auto(bundle, None)
    assert str(caught.value).count("image.onnx") == 1


def config(folder: Path, **settings: Any) -> str:
    station = {"camera": {"kind": "simulated"}, "recipe": "line"}
    text = yaml.safe_dump({"version": 1, "model": settings, "stations": {"line": station}})
    (folder / "config.yaml").write_text(text)
    return str(folder / "config.yaml")


def test_bench_shows_why(tiny_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each engine with its times and agreement or what is wrong with it; the choice is kept for auto."""
    path = config(tmp_path, bundle=str(tiny_bundle), threads=1)
    assert main(["bench", "engines", "-c", path, "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    found = {(one["engine"], one["precision"]): one for one in facts["engines"]}
    assert found["onnx", "fp32"]["problem"] is None
    assert found["onnx", "fp32"]["ms"].keys() == {"1", "8"}
    assert "build it with --int8" in found["onnx", "int8"]["problem"]
    kept = json.loads((tmp_path / "data" / FILE).read_text())
    assert facts["chosen"] == {"engine": kept["engine"], "precision": kept["precision"]}

    assert main(["bench", "engines", "-c", path]) == 0
    out = capsys.readouterr().out
    assert "; chosen" in out
    assert "onnx fp32" in out
    assert "the config says engine: onnx; engine: auto would take" in out


def test_bench_refuses_what_has_no_choice(
    checkpoints: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A checkpoint runs on torch alone."""
    path = config(tmp_path, engine="torch", name="tiny", checkpoint=str(checkpoints["tiny"]))
    assert main(["bench", "engines", "-c", path]) == 64
    assert "runs a checkpoint" in capsys.readouterr().err
