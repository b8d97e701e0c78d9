"""What learning costs inspection: ``python -m benchmarks.beside`` writes ``results/beside.json`` and ``.md``.

One station at 80 % of what it can inspect just then, whose learner is stopped (SIGSTOP) and goes on again in
turn, some seconds each: whatever else the machine does meets both alike. `every_frames: 2` makes the learner
look and learn all the time that its duty allows; a line in good order has it look once in some hundred parts.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image

from adapters.core.protocol import Engine
from adapters.engines.factory import ModelSettings, open_engine
from agent.app.daemon import Daemon
from agent.config.loader import Loaded, load
from agent.demo.setup import commission_line
from benchmarks.machine import describe, in_words, table, write
from camera.core.settings import SimulatedCamera
from camera.simulation.degradations import degrade
from camera.simulation.source import SimulatedLine

STATION = "line"
PICTURES = 150
WORSE = ("contrast", 4.0)
LOAD = 0.8
WARM_UP = 100
TOP_FRAMES = 600
WINDOW_S = 4.0
SETTLE_S = 0.5
"""Of a window: what waited for a learner that was stopped, or for cores that it had, is neither's."""

DUTIES = (0.25, 1.0)


def main() -> None:
    """Commission, learn one version, then measure in turn."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=120.0, help="of one duty in one round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--foreign", type=int, default=0, help="processes of others that never rest")
    arguments = parser.parse_args()
    sys.setswitchinterval(0.0005)  # as `mekiki run` does
    engine = open_engine(ModelSettings())
    with tempfile.TemporaryDirectory() as name, _others(arguments.foreign):
        folder = Path(name)
        _write_pictures(folder / "pictures")
        start = _learned(engine, folder)
        rows: dict[str, list[dict[str, Any]]] = {str(duty): [] for duty in DUTIES}
        for _ in range(arguments.rounds):
            for duty in DUTIES:
                row = _round(engine, folder, start, duty, arguments.seconds)
                rows[str(duty)].append(row)
                print(duty, row, flush=True)
    figures = {"machine": describe("onnxruntime"), "model": engine.info.name, "rounds": rows}
    _write(figures | {"seconds": arguments.seconds, "foreign": arguments.foreign})


@contextmanager
def _others(count: int) -> Iterator[None]:
    """Keep cores busy with what is none of ours."""
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for process in busy:
            process.kill()
            process.wait()


def _learned(engine: Engine, folder: Path) -> Path:
    """Return the data folder of a station that has learned what answers under its bad lamp."""
    simulated = {"kind": "simulated", "seed": 5}
    commission_line(_config(folder, "start", simulated, {}), STATION, engine)
    pictures = _camera(folder, 60.0)
    adaptation = {"mode": "adaptive", "every_frames": 25, "duty": 1.0}
    Daemon(_config(folder, "start", pictures, adaptation), frames=1500, engine=engine).run()
    return folder / "start" / "stations"


def _round(engine: Engine, folder: Path, start: Path, duty: float, seconds: float) -> dict[str, Any]:
    """Return latency of inspection in ms while the learner works, and while it is stopped."""
    top = _rate(_inspect(engine, folder, start, {"mode": "frozen"}, None, TOP_FRAMES))
    adaptation = {"mode": "adaptive", "every_frames": 2, "duty": duty}
    stopper = _Stopper()
    stopper.start()
    found = _inspect(engine, folder, start, adaptation, LOAD * top, int(seconds * LOAD * top))
    stopper.join()
    row: dict[str, Any] = {"top_fps": round(top, 1), "fps": round(_rate(found), 1)}
    for way in ("stopped", "learning"):
        spans = stopper.spans[way]
        latency = [
            one["latency_ms"]["total"]
            for one in found[WARM_UP:]
            if any(since <= _seconds(one["captured_at"]) < until for since, until in spans)
        ]
        row[way] = {
            "parts": len(latency),
            "p50": round(float(np.percentile(latency, 50)), 2),
            "p99": round(float(np.percentile(latency, 99)), 2),
            "max": round(max(latency), 1),
        }
    return row | {"learner_cores": round(stopper.cores, 2)}


class _Stopper(threading.Thread):
    """Stops the learners' process and lets it go on in turn, from when it is there until it is gone.

    Attributes:
        spans: when it was what, in seconds of the clock of verdicts.
        cores: that it used while it worked.
    """

    def __init__(self) -> None:
        super().__init__(name="stopper", daemon=True)
        self.spans: dict[str, list[tuple[float, float]]] = {"stopped": [], "learning": []}
        self.cores = 0.0

    def run(self) -> None:
        """See the class."""
        found = _wait_for_learners()
        try:
            time.sleep(WINDOW_S)  # it opens its model
            used, worked = _cpu_s(found), 0.0
            while True:
                for way, what in (("stopped", signal.SIGSTOP), ("learning", signal.SIGCONT)):
                    os.kill(found, what)
                    since = time.time()
                    time.sleep(WINDOW_S)
                    self.spans[way].append((since + SETTLE_S, time.time()))
                worked += WINDOW_S
                self.cores = (_cpu_s(found) - used) / worked
        except (ProcessLookupError, FileNotFoundError):
            return


def _wait_for_learners() -> int:
    """Return the process id of this process's learners."""
    while True:
        for stat in Path("/proc").glob("[0-9]*/stat"):
            with suppress(OSError):
                parent = stat.read_text().rpartition(")")[2].split()[1]
                if (
                    int(parent) == os.getpid()
                    and b"agent.learning.process" in (stat.parent / "cmdline").read_bytes()
                ):
                    return int(stat.parent.name)
        time.sleep(0.05)


def _cpu_s(process: int) -> float:
    """Return the CPU seconds of a process so far."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _inspect(
    engine: Engine, folder: Path, start: Path, adaptation: dict[str, Any], fps: float | None, frames: int
) -> list[dict[str, Any]]:
    """Return the verdicts of a run."""
    name = f"run-{time.monotonic_ns()}"
    shutil.copytree(start, folder / name / "stations")
    Daemon(_config(folder, name, _camera(folder, fps), adaptation), frames=frames, engine=engine).run()
    with sqlite3.connect(folder / name / "mekiki.db") as db:
        found = [json.loads(row[0]) for row in db.execute("SELECT payload FROM verdict ORDER BY seq")]
    shutil.rmtree(folder / name)
    return found


def _rate(found: list[dict[str, Any]]) -> float:
    first, last = (_seconds(one["decided_at"]) for one in (found[WARM_UP], found[-1]))
    return (len(found) - WARM_UP - 1) / (last - first)


def _seconds(stamp: str) -> float:
    return datetime.fromisoformat(stamp).timestamp()


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


def _write(figures: dict[str, Any]) -> None:
    rows = []
    for duty, rounds in figures["rounds"].items():
        stopped, learning = ([row[way] for row in rounds] for way in ("stopped", "learning"))
        ratios = [on["p99"] / off["p99"] for on, off in zip(learning, stopped, strict=True)]
        rows.append(
            [
                duty,
                *(
                    f"{np.median([row[key] for row in way]):.1f}"
                    for key in ("p50", "p99")
                    for way in (stopped, learning)
                ),
                f"{np.median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f})",
                f"{np.median([row['learner_cores'] for row in rounds]):.2f}",
            ]
        )
    heads = ["duty", "p50 without, ms", "p50 learning", "p99 without", "p99 learning"]
    heads += ["p99, learning / without (range)", "cores of the learner"]
    foreign = figures["foreign"]
    write(
        "beside" + (f"-foreign-{foreign}" if foreign else ""),
        figures,
        f"# Latency while a station learns\n\nWritten by `python -m benchmarks.beside`. Model {figures['model']}, at"
        f" {LOAD:.0%} of the parts that it can inspect where the frozen model sees each part too, measured before"
        f" each round; capture to verdict. In a round of {figures['seconds']:.0f} s the learner is stopped and goes"
        f" on in turn, {WINDOW_S:.0f} s each. Processes of others that never rest: {foreign}."
        f" Machine: {in_words(figures['machine'])}.\n\n" + table(heads, rows),
    )


if __name__ == "__main__":
    main()
