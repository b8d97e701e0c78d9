"""What the agent costs around its model: rate against the bare model call, latency by stage, start, memory.

``python -m benchmarks.pipeline`` writes ``results/pipeline.json`` and ``.md``. Needs mosquitto.
Pictures of the simulated line lie in a folder as JPEGs and are read as fast as they are inspected; the
subscriber sits in a process of its own, as the plant's would. The bare model is called with one picture after
the other; the agent with up to `BATCH` together where so many stations wait, one where there is one station.
CPU seconds are those of all threads of the process with the agent, without its start and end: reading the JPEGs,
the model, the store and MQTT's client. Energy, where the machine tells, is that of all processors, broker
and subscriber included.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from adapters.core.protocol import Engine
from adapters.engines.factory import ModelSettings, open_engine
from agent.base.event_id import ulid
from agent.config.loader import load
from agent.domain.verdict import Decision, Outcome, Provenance, Verdict
from agent.mqtt.publisher import Publisher
from agent.mqtt.retained_topics import RetainedTopics
from agent.store.retention import Retention
from agent.store.store import Store
from agent.telemetry.counters import Counters
from agent.telemetry.status_topics import StatusTopics
from benchmarks.effort import Effort, effort_of, per_part
from benchmarks.line_run import config, mosquitto, run, subscriber, write_pictures
from benchmarks.machine import describe, in_words, table, write
from camera.core.frame import Quality
from camera.pictures.images import read_image
from camera.pictures.preprocess import InputSpec, prepare
from camera.sources.folder import picture_files

STATIONS = (1, 4, 16)
BATCH = 8
"""The default of config.yaml."""


def main() -> None:
    """Measure everything once, beside each other."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=1500, help="of each rate, latency and bare run")
    parser.add_argument("--rounds", type=int, default=3, help="of bare and whole runs in turn")
    parser.add_argument("--memory-frames", type=int, default=10_000)
    arguments = parser.parse_args()
    # As `mekiki run` does.
    sys.setswitchinterval(0.0005)
    engine = open_engine(ModelSettings())
    figures: dict[str, Any] = {
        "machine": describe("onnxruntime", "numpy", "opencv-python-headless", "paho-mqtt", "pillow"),
        "model": engine.info.name,
        "threads_of_the_model": os.environ.get("MEKIKI_THREADS", "half of the cores"),
    }
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_pictures(folder / "pictures")
        with mosquitto(folder) as port:
            figures["rate"] = _rates(engine, folder, port, arguments.frames, arguments.rounds)
            figures["latency_ms"] = _latency(engine, folder, port, arguments.frames)
            figures["verdicts_per_s"] = _verdicts(folder, port)
            figures["start_s"] = _start(folder, port)
            figures["memory"] = _memory(folder, port, arguments.memory_frames)
    write("pipeline", figures, _markdown(figures))


def _rates(engine: Engine, folder: Path, port: int, frames: int, rounds: int) -> dict[str, Any]:
    """Run the bare model and the whole agent in turn, so that both meet the same machine."""
    spec = InputSpec(**{f: getattr(engine.info.preprocess, f) for f in engine.info.preprocess.__slots__})
    pixels = [prepare(read_image(path), spec)[np.newaxis] for path in picture_files(folder / "pictures")]
    ratios: dict[int, list[float]] = {stations: [] for stations in STATIONS}
    whole: dict[int, list[float]] = {stations: [] for stations in STATIONS}
    spent: dict[int, list[Effort]] = {stations: [] for stations in STATIONS}
    first = effort_of(lambda: _bare(engine, pixels, frames))
    bare, bare_spent = [first[0]], [first[1]]
    for _ in range(rounds):
        for stations in STATIONS:
            fps, effort = _whole(engine, folder, port, frames, stations)
            spent[stations].append(effort)
            alone, effort = effort_of(lambda: _bare(engine, pixels, frames))
            bare.append(alone)
            bare_spent.append(effort)
            whole[stations].append(fps)
            ratios[stations].append(fps / (0.5 * (bare[-2] + bare[-1])))
    return {
        "frames": frames,
        "rounds": rounds,
        "bare_fps": [round(fps, 1) for fps in bare],
        "bare_per_part": per_part(bare_spent, frames),
        **{
            f"{stations}_stations": {
                "fps": [round(fps, 1) for fps in whole[stations]],
                "ratio": [round(ratio, 3) for ratio in ratios[stations]],
                "median_ratio": round(float(np.median(ratios[stations])), 3),
                "per_part": per_part(spent[stations], frames - frames // 10),
            }
            for stations in whole
        },
    }


def _bare(engine: Engine, pixels: list[Any], frames: int) -> float:
    adapters = [engine.source]
    started = time.perf_counter()
    for number in range(frames):
        engine.encode_image(pixels[number % len(pixels)], adapters)
    return frames / (time.perf_counter() - started)


def _whole(engine: Engine, folder: Path, port: int, frames: int, stations: int) -> tuple[float, Effort]:
    """Return frames a second between the first and the last decision, as a subscriber sees them.

    And the effort of all parts but a tenth: a short run before costs the start, the end and that tenth.
    """
    _, short = effort_of(lambda: run(engine, folder, port, frames // 10, stations, batch=BATCH))
    with subscriber(port) as seen:
        _, effort = effort_of(lambda: run(engine, folder, port, frames, stations, batch=BATCH))
        rows = seen(frames)
    decided = sorted(row["decided"] for row in rows)
    return (len(decided) - 1) / (decided[-1] - decided[0]), effort - short


def _latency(engine: Engine, folder: Path, port: int, frames: int) -> dict[str, Any]:
    """Capture to arrival, split by stage, at half of the rate that one station reaches."""
    half = 0.5 * _whole(engine, folder, port, min(frames, 500), 1)[0]
    with subscriber(port) as seen:
        run(engine, folder, port, frames, 1, fps=half)
        rows = seen(frames)[50:]
    stages = {
        "wait": [row["wait"] for row in rows],
        "infer": [row["infer"] for row in rows],
        "store and publish": [(row["arrived"] - row["decided"]) * 1e3 for row in rows],
        "capture to arrival": [(row["arrived"] - row["captured"]) * 1e3 for row in rows],
    }
    return {
        "fps": round(half, 1),
        **{
            stage: {f"p{q}": round(float(np.percentile(values, q)), 2) for q in (50, 99)}
            for stage, values in stages.items()
        },
    }


def _verdicts(folder: Path, port: int, count: int = 20_000) -> dict[str, Any]:
    """How fast verdicts go to disk and to the broker, without a camera and a model in their way."""
    loaded = load(config(folder, port, 1, data="verdicts"))
    status = StatusTopics(loaded.config, open_engine(ModelSettings()).info, list, Counters())
    store = Store(folder / "verdicts", Retention(keep_results=1_000_000, max_waiting=1_000_000))
    publisher = Publisher(
        store,
        loaded.config.mqtt,
        "bench",
        status.result_topic,
        RetainedTopics(status.state_topic),
        status.availability("offline"),
    )
    now = datetime.now(UTC)
    labels = ("ok", "scratch", "dent", "stain", "missing_hole", "chipped_edge")
    decision = Decision(Outcome.PASS, "class", "ok", None, 0.9, 0.4, dict.fromkeys(labels, 1 / 6))
    digest = "sha256:" + 64 * "0"
    provenance = Provenance("none", digest, 0, digest, digest, digest, "0")
    thread = threading.Thread(target=publisher.run)
    thread.start()
    while publisher.stats().link_problem is not None:  # what is stored before that would be paced
        time.sleep(0.01)
    started = time.perf_counter()
    for _ in range(count):
        verdict = Verdict(
            ulid(),
            "bench",
            "station0",
            now,
            now,
            None,
            "line",
            decision,
            decision,
            provenance,
            Quality(),
            0,
            0,
        )
        publisher.put([verdict])
    while (stats := publisher.stats()).stored < count:
        time.sleep(0.01)
    stored_s = time.perf_counter() - started
    while (stats := publisher.stats()).published < count and time.perf_counter() - started < 300:
        time.sleep(0.01)
    published_s = time.perf_counter() - started
    publisher.stop(5.0, status.availability("stopped"))
    thread.join(30)
    assert stats.published == count, stats
    return {"count": count, "stored": round(count / stored_s), "published": round(count / published_s)}


def _start(folder: Path, port: int) -> dict[str, Any]:
    """Time from the start of the process to the arrival of its first verdict; three times."""
    times = []
    for number in range(3):
        with subscriber(port) as seen:
            path = config(folder, port, 1, data=f"start-{number}")
            started = time.time()
            command = [sys.executable, "-m", "agent", "run", "-c", str(path), "--frames", "1"]
            subprocess.run(command, check=True, capture_output=True)
            times.append(seen(1)[0]["arrived"] - started)
    return {"runs": [round(t, 2) for t in times], "median": round(float(np.median(times)), 2)}


def _memory(folder: Path, port: int, frames: int) -> dict[str, Any]:
    """Resident memory of an agent of its own after a tenth of the frames and after all of them."""
    path = config(folder, port, 1, data="memory")
    with subscriber(port) as seen:
        agent = subprocess.Popen(
            [sys.executable, "-m", "agent", "run", "-c", str(path)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        process = psutil.Process(agent.pid)
        marks = {}
        for mark in (frames // 10, frames):
            seen(mark, timeout_s=1200)
            marks[str(mark)] = round(process.memory_info().rss / 2**20, 1)
        agent.terminate()
        agent.wait(30)
    early, late = marks.values()
    return {"rss_mib": marks, "growth_percent": round(100 * (late / early - 1), 2)}


def _markdown(figures: dict[str, Any]) -> str:
    rate, latency, memory = figures["rate"], figures["latency_ms"], figures["memory"]
    machine = in_words(figures["machine"])
    rates = [
        [
            f"{n} station{'s' if n > 1 else ''}",
            f"{np.median(rate[f'{n}_stations']['fps']):.1f}",
            f"{np.median(rate['bare_fps']):.1f}",
            f"{rate[f'{n}_stations']['median_ratio']:.3f}",
            ", ".join(f"{r:.3f}" for r in rate[f"{n}_stations"]["ratio"]),
        ]
        for n in STATIONS
    ]
    efforts = [("bare model", rate["bare_per_part"])]
    efforts += [(rates[row][0], rate[f"{n}_stations"]["per_part"]) for row, n in enumerate(STATIONS)]
    costs = [
        [
            what,
            f"{one['cpu_ms']:.2f}",
            "this machine does not tell" if one["joules"] is None else f"{one['joules']:.3f}",
        ]
        for what, one in efforts
    ]
    stages = [
        [stage, f"{values['p50']:.1f}", f"{values['p99']:.1f}"]
        for stage, values in latency.items()
        if isinstance(values, dict)
    ]
    sizes = ", ".join(f"{rss} MiB after {mark}" for mark, rss in memory["rss_mib"].items())
    return (
        f"# What the agent costs around its model\n\n"
        f"Written by `python -m benchmarks.pipeline`. Model {figures['model']}.\n"
        f"Machine: {machine}.\n\n"
        f"## Rate\n\nFrames a second, decision to decision, beside the bare model call on the same pictures in the"
        f" same run; {rate['frames']} frames each, {rate['rounds']} rounds in turn.\n\n"
        + table(["", "agent", "bare model", "ratio (median)", "each round"], rates)
        + "\n## Effort\n\nPer part, median of the rounds; the agent's with decoding and delivery, without its start.\n\n"
        + table(["", "CPU ms", "J of the processors"], costs)
        + f"\n## Latency\n\nMilliseconds, one station at {latency['fps']} pictures a second, half of what it can.\n\n"
        + table(["stage", "p50", "p99"], stages)
        + f"\nVerdicts alone, {figures['verdicts_per_s']['count']} at once:"
        f" {figures['verdicts_per_s']['stored']} a second to disk,"
        f" {figures['verdicts_per_s']['published']} a second acknowledged by the broker.\n"
        + f"\n## Start and memory\n\n"
        f"From the start of the process to the arrival of the first verdict: {figures['start_s']['median']} s"
        f" (median of {figures['start_s']['runs']}).\n"
        f"Resident memory: {sizes} frames: {memory['growth_percent']:+.2f} %.\n"
    )


if __name__ == "__main__":
    main()
