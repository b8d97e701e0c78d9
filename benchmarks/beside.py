"""What learning costs inspection: ``python -m benchmarks.beside`` writes ``results/beside.json`` and ``.md``.

The same station with the same learned version and the same pictures, at 80 % of what it can inspect, with
learning off (`mode: frozen`) and on, in turn. `every_frames: 2` makes the learner look and learn all the time that
its duty allows; a line in good order has it look once in some hundred parts.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sqlite3
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image

from adapters.engine import Engine
from adapters.open import ModelSettings, open_engine
from agent.configfile import Loaded, load
from agent.daemon import Daemon
from agent.demo_line import commission_line
from benchmarks.machine import describe, in_words, table, write
from camera.degrade import degrade
from camera.settings import SimulatedCamera
from camera.simulated import SimulatedLine

STATION = "line"
PICTURES = 150
WORSE = ("contrast", 4.0)
LOAD = 0.8
WARM_UP = 100
WAYS: dict[str, dict[str, Any]] = {
    "off": {"mode": "frozen"},
    "duty 0.25": {"mode": "adaptive", "every_frames": 2, "duty": 0.25},
    "duty 1": {"mode": "adaptive", "every_frames": 2, "duty": 1.0},
}


def main() -> None:
    """Commission, learn one version, then measure in turn."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--frames", type=int, default=1500)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    sys.setswitchinterval(0.0005)  # as `mekiki run` does
    engine = open_engine(ModelSettings())
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _write_pictures(folder / "pictures")
        start = _learned(engine, folder)
        top = _run(engine, folder, start, {"mode": "frozen"}, None, arguments.frames // 3)["fps"]
        rows: dict[str, list[dict[str, Any]]] = {way: [] for way in WAYS}
        for _ in range(arguments.rounds):
            for way, adaptation in WAYS.items():
                row = _run(engine, folder, start, adaptation, LOAD * top, arguments.frames)
                rows[way].append(row)
                print(way, row, flush=True)
    figures = {"machine": describe("onnxruntime"), "model": engine.info.name, "top_fps": top, "rounds": rows}
    _write(figures, arguments.frames)


def _learned(engine: Engine, folder: Path) -> Path:
    """Return the data folder of a station that has learned what answers under its bad lamp."""
    simulated = {"kind": "simulated", "seed": 5}
    commission_line(_config(folder, "start", simulated, {}), STATION, engine)
    pictures = _camera(folder, 60.0)
    adaptation = {"mode": "adaptive", "every_frames": 25, "duty": 1.0}
    Daemon(_config(folder, "start", pictures, adaptation), frames=1500, engine=engine).run()
    return folder / "start" / "stations"


def _run(
    engine: Engine, folder: Path, start: Path, adaptation: dict[str, Any], fps: float | None, frames: int
) -> dict[str, Any]:
    name = f"run-{time.monotonic_ns()}"
    shutil.copytree(start, folder / name / "stations")
    began, cpu = time.monotonic(), time.process_time()
    Daemon(_config(folder, name, _camera(folder, fps), adaptation), frames=frames, engine=engine).run()
    cores = (time.process_time() - cpu) / (time.monotonic() - began)
    with sqlite3.connect(folder / name / "mekiki.db") as db:
        found = [json.loads(row[0]) for row in db.execute("SELECT payload FROM verdict ORDER BY seq")][
            WARM_UP:
        ]
    latency = [row["latency_ms"]["total"] for row in found]
    decided = [datetime.fromisoformat(row["decided_at"]).timestamp() for row in found]
    learned = (folder / name / "stations" / STATION / "audit.jsonl").read_text().count("\n")
    shutil.rmtree(folder / name)
    return {
        "fps": round((len(found) - 1) / (decided[-1] - decided[0]), 1),
        "p50": round(float(np.percentile(latency, 50)), 2),
        "p99": round(float(np.percentile(latency, 99)), 2),
        "cores": round(cores, 2),
        "versions": sorted({row["provenance"]["adapter"] for row in found}),
        "audit_lines": learned,
    }


def _camera(folder: Path, fps: float | None) -> dict[str, Any]:
    camera: dict[str, Any] = {"kind": "folder", "path": str(folder / "pictures"), "loop": True}
    return camera if fps is None else {**camera, "fps": fps}


def _config(folder: Path, data: str, camera: dict[str, Any], adaptation: dict[str, Any]) -> Loaded:
    config = {
        "version": 1,
        "agent": {"id": "bench", "data_dir": data},
        "mqtt": {"enabled": False},
        "stations": {STATION: {"recipe": "line", "camera": camera, "adaptation": adaptation}},
        "storage": {"min_free_mb": 0},
        "log": {"level": "error"},
    }
    path = folder / f"{data}.yaml"
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    return load(path)


def _write_pictures(folder: Path) -> None:
    folder.mkdir()
    line = SimulatedLine(SimulatedCamera(seed=5, defect_rate=0.05, burst_rate=0.0))
    for number in range(1, PICTURES + 1):
        picture = degrade(line.picture(number), *WORSE, number)
        Image.fromarray(picture).save(folder / f"{number:04}.jpg", quality=92)


def _write(figures: dict[str, Any], frames: int) -> None:
    rounds = figures["rounds"]
    rows = []
    for way in WAYS:
        p99 = [row["p99"] for row in rounds[way]]
        ratios = [ours / off["p99"] for ours, off in zip(p99, rounds["off"], strict=True)]
        rows.append(
            [
                way,
                f"{np.median([row['p50'] for row in rounds[way]]):.1f}",
                f"{np.median(p99):.1f}",
                f"{np.median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f})",
                f"{np.median([row['cores'] for row in rounds[way]]):.2f}",
            ]
        )
    heads = ["learning", "p50, ms", "p99, ms", "p99 / p99 without (range)", "cores busy"]
    write(
        "beside",
        figures,
        f"# Latency while a station learns\n\nWritten by `python -m benchmarks.beside`. Model {figures['model']},"
        f" {frames} parts each at {LOAD:.0%} of the {figures['top_fps']} parts a second that it can inspect where"
        f" the frozen model sees each part too; capture to verdict. Machine: {in_words(figures['machine'])}.\n\n"
        + table(heads, rows),
    )


if __name__ == "__main__":
    main()
