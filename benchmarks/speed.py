"""How near the engine is to what the machine can do: ``python -m benchmarks.speed``.

Writes ``results/speed.json``, ``.md`` and docs/img/speed.png: a picture on one thread through each engine beside
the floor, sixteen adapters in a batch beside one, a swap of the adapter, and what a frame costs before the model.
What other scripts measure (`pipeline`, `load`, `beside`, `growth`, `step_time`, `peers`) stands in their reports.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import torch

from adapters.bundle.reader import bundle_path
from adapters.core.adapter import Adapter
from adapters.core.protocol import Engine
from adapters.engines.open_bundle import open_bundle
from adapters.engines.torch_engine import TorchEngine
from adapters.torch_model.clip import Clip
from adapters.torch_model.loader import load_clip
from benchmarks import floor
from benchmarks.line_run import write_pictures
from benchmarks.machine import describe, in_turn, in_words, table, write
from benchmarks.ship_line import WEIGHTS
from benchmarks.step_time import MODEL, opened
from camera.core.settings import QualityLimits, RegionOfInterest
from camera.pictures.images import encode_jpeg, read_image
from camera.pictures.preprocess import InputSpec, prepare
from camera.pictures.quality import assess
from camera.pictures.region import Region
from camera.sources.folder import picture_files

mpl.use("Agg")
import matplotlib.pyplot as plt

PLOT = Path(__file__).parent.parent / "docs" / "img" / "speed.png"
BATCHES = (1, 8)
STATIONS = 16
SWAPS = 40


def main() -> None:
    """Measure all of it in one run."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--bundle", type=Path, default=Path("out/step_time/bundle"), help=f"of {MODEL}")
    parser.add_argument("--rounds", type=int, default=15)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    ground = floor.measure()
    line = load_clip("mekiki-line", checkpoint=WEIGHTS, device="cpu")
    models: dict[str, tuple[Clip, Path]] = {"mekiki-line": (line, bundle_path("mekiki-line"))}
    if arguments.bundle.exists():
        models[MODEL] = opened(torch.device("cpu"))[0], arguments.bundle
    figures: dict[str, Any] = {
        "machine": describe("torch", "onnxruntime", "numpy", "pillow"),
        "floor": asdict(ground),
        "models": {},
    }
    for name, (clip, bundle) in models.items():
        engines = {
            "torch fp32": TorchEngine(clip, threads=1),
            "ONNX Runtime fp32": open_bundle(bundle, device="cpu", threads=1),
        }
        gflop = floor.gflop_of_a_picture(clip)
        figures["models"][name] = {
            "gflop": round(gflop, 3),
            "floor_ms": round(ground.picture_ms(gflop), 2),
            "picture_ms": _pictures(engines, arguments.rounds),
            "16 adapters / 1": _mixed(engines, arguments.rounds),
            "first with another adapter / same": _swap(engines["ONNX Runtime fp32"]),
        }
        print(name, figures["models"][name], flush=True)
    figures["frame_ms"] = _stages(line, arguments.rounds)
    _plot(figures)
    write("speed", figures, _markdown(figures))


def _pictures(engines: dict[str, Engine], rounds: int) -> dict[str, dict[str, float]]:
    """Return CPU milliseconds of a picture by engine and batch."""
    found: dict[str, dict[str, float]] = {name: {} for name in engines}
    for batch in BATCHES:
        calls = {name: _call(engine, batch, [engine.source] * batch) for name, engine in engines.items()}
        for name, seconds in in_turn(calls, rounds).items():
            found[name][str(batch)] = round(1e3 * float(np.median(seconds)) / batch, 2)
    return found


def _mixed(engines: dict[str, Engine], rounds: int) -> dict[str, list[float]]:
    """Return what 16 pictures with an adapter each cost of 16 with one: median, least and most of the rounds."""
    found = {}
    for name, engine in engines.items():
        adapters = _adapters(engine, STATIONS)
        ways = {
            "one": _call(engine, STATIONS, adapters[:1] * STATIONS),
            "sixteen": _call(engine, STATIONS, adapters),
        }
        times = in_turn(ways, rounds)
        ratios = np.array(times["sixteen"]) / np.array(times["one"])
        found[name] = [round(float(number), 3) for number in (np.median(ratios), ratios.min(), ratios.max())]
    return found


def _swap(engine: Engine) -> dict[str, float]:
    """Return ms of a picture where the adapter is the one before, and where it is new to the engine."""
    side = engine.info.preprocess.size
    picture = np.zeros((1, 3, side, side), np.float32)
    same, new = [], []
    for adapter in _adapters(engine, SWAPS):
        adapter.digest  # noqa: B018 - whoever promotes has asked for it
        for times in (new, same):
            began = time.perf_counter()
            engine.encode_image(picture, [adapter])
            times.append(1e3 * (time.perf_counter() - began))
    return {"same_ms": round(float(np.median(same)), 3), "new_ms": round(float(np.median(new)), 3)}


def _stages(clip: Clip, rounds: int) -> dict[str, float]:
    """Return CPU milliseconds of what happens to a frame before the model, and of a JPEG to keep."""
    spec = InputSpec(**asdict(clip.info.preprocess))
    region, limits = Region(RegionOfInterest()), QualityLimits()
    found = {}
    with tempfile.TemporaryDirectory() as name:
        write_pictures(Path(name) / "pictures")
        file = picture_files(Path(name) / "pictures")[0]
        picture = read_image(file)
        shown = np.asarray(picture)
        large = np.tile(shown, (5, 8, 1))[:1080, :1920]
        calls: dict[str, Callable[[], Any]] = {
            "256x256: read and decode": lambda: read_image(file),
            "256x256: region and quality": lambda: assess(region.cut(shown)[0], limits, None),
            "256x256: model input": lambda: prepare(shown, spec),
            "1920x1080: region and quality": lambda: assess(region.cut(large)[0], limits, None),
            "1920x1080: model input": lambda: prepare(large, spec),
            "1920x1080: JPEG to keep, 640 wide": lambda: encode_jpeg(large, max_width_px=640, quality=80),
        }
        for stage, seconds in in_turn(calls, 4 * rounds).items():
            found[stage] = round(1e3 * float(np.median(seconds)), 2)
    return found


def _adapters(engine: Engine, count: int) -> list[Adapter]:
    rng = np.random.default_rng(0)
    return [
        Adapter({name: t * np.float32(rng.uniform(0.9, 1.1)) for name, t in engine.source.tensors.items()}, n)
        for n in range(1, count + 1)
    ]


def _call(engine: Engine, batch: int, adapters: list[Adapter]) -> Callable[[], Any]:
    side = engine.info.preprocess.size
    pictures = np.random.default_rng(1).standard_normal((batch, 3, side, side), dtype=np.float32)
    return lambda: engine.encode_image(pictures, adapters)


def _plot(figures: dict[str, Any]) -> None:
    models = figures["models"]
    figure, axes = plt.subplots(1, len(models), figsize=(4.2 * len(models), 3.2), squeeze=False)
    for axis, (name, row) in zip(axes[0], models.items(), strict=True):
        labels = [
            f"{engine}\nbatch {batch}" for engine in row["picture_ms"] for batch in row["picture_ms"][engine]
        ]
        axis.bar(labels, [ms for of_engine in row["picture_ms"].values() for ms in of_engine.values()])
        axis.axhline(row["floor_ms"], color="black", linestyle="--", label="floor: matrix rate")
        axis.set(title=name, ylabel="ms a picture, one thread")
        axis.tick_params(axis="x", labelsize=6)
        axis.legend()
    figure.tight_layout()
    figure.savefig(PLOT, dpi=110)


def _markdown(figures: dict[str, Any]) -> str:
    ground, models = figures["floor"], figures["models"]
    rows = [
        [
            name,
            engine,
            *(f"{ms:.2f}" for ms in of_engine.values()),
            f"{row['floor_ms']:.2f}",
            f"{row['floor_ms'] / min(of_engine.values()):.2f}",
            "{:.3f} ({:.3f}-{:.3f})".format(*row["16 adapters / 1"][engine]),
        ]
        for name, row in models.items()
        for engine, of_engine in row["picture_ms"].items()
    ]
    heads = [
        "model",
        "engine",
        "batch 1, ms",
        "batch 8, ms",
        "floor, ms",
        "floor / best",
        "16 adapters / 1 (range)",
    ]
    swaps = "; ".join(
        f"{name} {row['first with another adapter / same']['new_ms']:.2f} ms,"
        f" {row['first with another adapter / same']['same_ms']:.2f} ms with the adapter of the picture before"
        for name, row in models.items()
    )
    stages = "\n".join(f"- {stage}: {ms:.2f} ms" for stage, ms in figures["frame_ms"].items())
    return (
        "# How near the engine is to the machine's limit\n\nWritten by `python -m benchmarks.speed`."
        f" CPU time, one thread. Machine: {in_words(figures['machine'])}.\n\nThe floor is the operations of a picture"
        f" over the rate of a matrix product, {ground['matrix_gflops']:.0f} Gflop/s here (the faster of ONNX"
        f" Runtime's and torch's); memory copies at {ground['memory_gbytes']:.1f} GB/s.\n\n"
        + table(heads, rows)
        + f"\nThe first picture with an adapter that the engine has not seen: {swaps}.\n"
        + f"\nA frame before the model:\n\n{stages}\n"
        + "\n![speed](../../docs/img/speed.png)\n"
    )


if __name__ == "__main__":
    main()
