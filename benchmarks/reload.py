"""From saving config.yaml to the first verdict by it: ``python -m benchmarks.reload``.

Writes ``results/reload.json`` and ``.md``. An agent with mekiki-line and two cameras that do not wait for it, clips
at their own pace; the settings of one are changed again and again, the other is to notice nothing. Every second
block of its pictures is taken while nothing is saved: both kinds come from one run.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import threading
import time
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import yaml

from agent.app.daemon import Daemon
from agent.config.loader import load
from agent.mqtt.connection import subscription
from benchmarks.line_run import mosquitto
from benchmarks.machine import describe, in_words, table, write
from camera.core.settings import SimulatedCamera
from camera.simulation.source import SimulatedLine

FPS = 15
RECIPE = Path(__file__).parent.parent / "agent" / "config" / "shipped" / "line.yaml"


def main() -> None:
    """Save some dozen times and report."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--saves", type=int, default=60)
    saves = parser.parse_args().saves
    with tempfile.TemporaryDirectory() as folder, mosquitto(Path(folder)) as port:
        found = _measured(Path(folder), port, saves)
    machine = describe("onnxruntime", "watchfiles", "opencv-python-headless")
    rows = [
        [kind, str(len(ms)), *(f"{np.percentile(ms, q):.0f}" for q in (50, 99, 100))]
        for kind, ms in found["to_first_verdict_ms"].items()
    ]
    quiet, busy = found["other_total_ms"]["quiet"], found["other_total_ms"]["saving"]
    beside = [
        ["nothing saved", str(len(quiet)), *(f"{np.percentile(quiet, q):.1f}" for q in (50, 99))],
        ["saving", str(len(busy)), *(f"{np.percentile(busy, q):.1f}" for q in (50, 99))],
    ]
    write(
        "reload",
        {"machine": machine, "fps": FPS, **found},
        f"# Reload\n\nWritten by `python -m benchmarks.reload --saves {saves}`. Asked: in force within 2 s, and the"
        f" other stations lose no frame. mekiki-line, ONNX Runtime, two clips at {FPS} pictures a second. Machine:"
        f" {in_words(machine)}.\n\nFrom the end of saving to the decision of the first verdict by it:\n\n"
        + table(["changed", "times", "p50, ms", "p99, ms", "slowest, ms"], rows)
        + "\n\nThe other station, captured to decided, in blocks of one run with and without saving:\n\n"
        + table(["meanwhile", "pictures", "p50, ms", "p99, ms"], beside)
        + f"\n\nIts pictures that a newer one pushed out: {found['other_dropped']} of {found['other_frames']}, of"
        f" which {found['other_dropped_quiet']} while nothing was saved; results missing: {found['other_missing']}.\n",
    )


def _measured(folder: Path, port: int, saves: int) -> dict[str, Any]:
    for name in ("changed", "other"):
        _write_clip(folder / f"{name}.avi")
    settings = _settings(port)
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(settings))
    results: list[dict[str, Any]] = []
    stats: list[dict[str, Any]] = []

    def take(topic: str, payload: bytes) -> None:
        (results if topic.endswith("/result") else stats).append(json.loads(payload))

    rng, to_first, windows = random.Random(0), dict[str, list[float]](), list[tuple[float, float, bool]]()
    daemon = Daemon(load(path))
    thread = threading.Thread(target=daemon.run)
    with subscription(load(path).config.mqtt, ["mekiki/bench/+/result", "mekiki/bench/stats"], take):
        thread.start()
        _until(lambda: len(results) > 20)
        for number in range(saves):
            began = time.time()
            time.sleep(1.0)
            windows.append((began, time.time(), False))
            kind = ("threshold", "words", "region")[number % 3]
            _change(settings, kind, rng)
            began = time.time()
            path.write_text(yaml.safe_dump(settings))
            saved = time.time()
            digest = load(path).digest
            _until(lambda digest=digest: results[-1]["provenance"]["config"] == digest)
            first = next(one for one in results if one["provenance"]["config"] == digest)
            to_first.setdefault(kind, []).append(1e3 * (_seconds(first["decided_at"]) - saved))
            time.sleep(max(0.0, began + 1.0 - time.time()))
            windows.append((began, time.time(), True))
        time.sleep(1.5)
        daemon.stop()
        thread.join()
    other = [one for one in results if one["station"] == "other"]
    of_other = [one["stations"]["other"] for one in stats]
    total: dict[bool, list[float]] = {False: [], True: []}
    for one in other:
        at = _seconds(one["decided_at"])
        for start, end, saving in windows:
            if start <= at < end:
                total[saving].append(one["latency_ms"]["total"])
    quiet_drops = 0
    for before, after in pairwise(stats):
        new = after["stations"]["other"]["dropped"] - before["stations"]["other"]["dropped"]
        span = (_seconds(before["at"]), _seconds(after["at"]))
        saving = any(saved and start < span[1] and end > span[0] for start, end, saved in windows)
        quiet_drops += 0 if saving else new
    return {
        "to_first_verdict_ms": {kind: [round(one, 1) for one in ms] for kind, ms in to_first.items()},
        "other_total_ms": {"quiet": total[False], "saving": total[True]},
        "other_frames": of_other[-1]["frames"],
        "other_dropped": of_other[-1]["dropped"],
        "other_dropped_quiet": quiet_drops,
        "other_missing": other[-1]["seq"] - len({one["seq"] for one in other}),
    }


def _settings(port: int) -> dict[str, Any]:
    recipe = yaml.safe_load(RECIPE.read_text(encoding="utf-8"))
    camera = {"kind": "opencv", "loop": True, "pace": "recorded"}
    return {
        "version": 1,
        "agent": {"id": "bench", "data_dir": "data"},
        "mqtt": {"host": "127.0.0.1", "port": port, "stats_interval_s": 0.25},
        "storage": {"min_free_mb": 0},
        "log": {"level": "warning"},
        "recipes": {"mine": recipe},
        "stations": {
            "changed": {"recipe": "mine", "camera": {**camera, "source": "changed.avi"}},
            "other": {"recipe": "line", "camera": {**camera, "source": "other.avi"}},
        },
    }


def _change(settings: dict[str, Any], kind: str, rng: random.Random) -> None:
    recipe = settings["recipes"]["mine"]
    if kind == "threshold":
        recipe["threshold"] = round(rng.uniform(0.2, 0.8), 6)
    elif kind == "words":
        recipe["templates"] = [f"a photo of {{}}, number {rng.randrange(10**6)}"]
    else:
        settings["stations"]["changed"]["roi"] = {"crop": [0.0, 0.0, round(rng.uniform(0.5, 1.0), 6), 1.0]}


def _write_clip(path: Path) -> None:
    line = SimulatedLine(SimulatedCamera(seed=3, defect_rate=0.2))
    first = line.picture(1)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), FPS, first.shape[1::-1])
    for number in range(1, 8 * FPS + 1):
        writer.write(line.picture(number)[..., ::-1])
    writer.release()


def _seconds(stamp: str) -> float:
    return datetime.fromisoformat(stamp).timestamp()


def _until(condition: Any) -> None:
    until = time.monotonic() + 30
    while not condition():
        if time.monotonic() > until:
            raise RuntimeError("it does not come")
        time.sleep(0.002)


if __name__ == "__main__":
    main()
