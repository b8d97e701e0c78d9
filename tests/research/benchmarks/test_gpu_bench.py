"""The figures of a card: the whole script on a processor, because nobody has to have a card to change it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from benchmarks import gpu  # noqa: E402
from benchmarks.machine import RESULTS  # noqa: E402
from benchmarks.roofline import Roof  # noqa: E402


@pytest.mark.slow
def test_the_whole_script_runs_on_a_processor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every row that a card would give is there, and nothing is written among the results."""
    there = sorted(RESULTS.iterdir())
    monkeypatch.setattr("sys.argv", ["gpu", "--device", "cpu", "--small", "--out", str(tmp_path)])
    interval_s, threads = sys.getswitchinterval(), torch.get_num_threads()
    try:
        gpu.main()
    finally:
        sys.setswitchinterval(interval_s)
        torch.set_num_threads(threads)
    figures = json.loads((tmp_path / "gpu.json").read_text())
    assert sorted(RESULTS.iterdir()) == there
    assert {(row["precision"], row["batch"]) for row in figures["pictures"]} == {
        (precision, batch) for precision in ("fp16", "bf16") for batch in gpu.SMALL.batches
    }
    assert [row["precision"] for row in figures["adapters"]] == ["fp16", "bf16"]
    assert {(row["batch"], row["way"]) for row in figures["steps"]} == {
        (batch, way) for batch in gpu.SMALL.step_batches for way in ("ours, fp32", "ours, bf16")
    }
    rounds = figures["beside"]["rounds"]
    assert {name: of_way[0]["steps"] > 0 for name, of_way in rounds.items()} == {
        "without": False,
        "duty 0.25": True,
        "duty 1": True,
    }
    assert list(figures["onnxruntime"]["per_s"]) == [str(batch) for batch in gpu.SMALL.batches]
    assert figures["roofline"]["tflops"].keys() == {"fp32", "fp16", "bf16"}
    assert (tmp_path / "gpu.md").read_text() in capsys.readouterr().out


def test_the_roof_is_the_slower_of_computing_and_reading() -> None:
    """Seconds of 2 TFLOP and 3 GB at 4 TFLOP/s and at 2 GB/s or 20 GB/s."""
    assert Roof({"fp16": 4.0}, 2.0).seconds(2000, 3000, "fp16") == pytest.approx(1.5)
    assert Roof({"fp16": 4.0}, 20.0).seconds(2000, 3000, "fp16") == pytest.approx(0.5)
