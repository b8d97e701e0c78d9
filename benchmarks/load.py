"""Latency under load: ``python -m benchmarks.load`` writes ``results/load.json``, ``.md`` and docs/img/load.png.

A live camera in memory asks for a quarter to one and a half of what the agent can inspect. Below that, latency
is to be that of one picture; above, the newest picture is to win, what it pushes out is to be counted, and
latency is to stay bounded.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path
from threading import Event
from typing import Any
from unittest.mock import patch

import matplotlib as mpl
import numpy as np

from adapters.core.protocol import Engine
from adapters.engines.factory import ModelSettings, open_engine
from benchmarks.line_run import mosquitto, run, subscriber, write_pictures
from benchmarks.machine import describe, in_words, table, write
from camera.core.frame import Capture, Image
from camera.core.source import SourceStats, paced, stamp
from camera.pictures.images import read_image
from camera.sources.folder import picture_files

mpl.use("Agg")
import matplotlib.pyplot as plt

PLOT = Path(__file__).parent.parent / "docs" / "img" / "load.png"
SHARES = (0.25, 0.5, 0.8, 0.95, 1.5)
WARM_UP = 50
STAGES = ("wait", "infer", "store and publish", "capture to arrival")


class Live:
    """A camera that goes on without us: time does not wait for the inspector."""

    live = True

    def __init__(self, pictures: list[Image], fps: float) -> None:
        self._pictures, self._fps = pictures, fps
        self.stats = SourceStats(connected=True)

    def captures(self, stop: Event) -> Iterator[Capture]:
        """Yield pictures of memory, `fps` a second, until `stop`."""
        timed = ((number / self._fps, picture) for number, picture in enumerate(cycle(self._pictures)))
        for picture in paced(timed, stop, catch_up=True):
            yield stamp(picture.copy())


def main() -> None:
    """Measure each share of the load once, in one run."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--frames", type=int, default=1500, help="inspected at each load")
    parser.add_argument("--stations", type=int, nargs="+", default=[1, 4])
    arguments = parser.parse_args()
    engine = open_engine(ModelSettings())
    figures: dict[str, Any] = {"machine": describe("onnxruntime"), "model": engine.info.name}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_pictures(folder / "pictures")
        pictures = [read_image(path) for path in picture_files(folder / "pictures")]
        with mosquitto(folder) as port:
            for stations in arguments.stations:
                figures[str(stations)] = _loads(engine, folder, port, stations, pictures, arguments.frames)
    rows = [
        [stations, f"{row['share']:.0%}", f"{row['asked']:.0f}", f"{row['inspected']:.0f}", str(row["gaps"])]
        + [f"{row[stage]['p50']:.1f} / {row[stage]['p99']:.1f}" for stage in STAGES]
        for stations in map(str, arguments.stations)
        for row in figures[stations]
    ]
    heads = [
        "stations",
        "load",
        "asked, 1/s",
        "inspected, 1/s",
        "left out",
        *(f"{s}, p50 / p99 ms" for s in STAGES),
    ]
    _plot(figures, [str(n) for n in arguments.stations])
    write(
        "load",
        figures,
        f"# Latency under load\n\nWritten by `python -m benchmarks.load`. Model {engine.info.name}, live cameras,"
        f" {arguments.frames} parts each. Machine: {in_words(figures['machine'])}.\n\n" + table(heads, rows),
    )


def _loads(
    engine: Engine, folder: Path, port: int, stations: int, pictures: list[Image], frames: int
) -> list[dict[str, Any]]:
    """Return a row for each share of what the agent inspects where it is asked for far more."""
    top = _row(engine, folder, port, stations, pictures, frames // 2, 400.0)["inspected"]
    rows = []
    for share in SHARES:
        row = _row(engine, folder, port, stations, pictures, frames, share * top / stations)
        rows.append({"share": share, **row})
    return rows


def _row(
    engine: Engine, folder: Path, port: int, stations: int, pictures: list[Image], frames: int, fps: float
) -> dict[str, Any]:
    def sources(loaded: Any, *_: Any, **__: Any) -> dict[str, Live]:
        return {name: Live(pictures, fps) for name in loaded.config.stations}

    with patch("agent.app.station_manager.open_sources", sources), subscriber(port) as seen:
        run(engine, folder, port, frames, stations, batch=8)
        rows = seen(frames)[WARM_UP:]
    decided = sorted(row["decided"] for row in rows)
    took_s = decided[-1] - decided[0]
    stages = {
        "wait": [row["wait"] for row in rows],
        "infer": [row["infer"] for row in rows],
        "store and publish": [(row["arrived"] - row["decided"]) * 1e3 for row in rows],
        "capture to arrival": [(row["arrived"] - row["captured"]) * 1e3 for row in rows],
    }
    inspected = (len(decided) - 1) / took_s
    return {
        "asked": round(fps * stations, 1),
        "inspected": round(inspected, 1),
        "gaps": max(0, round((fps * stations - inspected) * took_s)),
        **{
            stage: {f"p{q}": round(float(np.percentile(values, q)), 2) for q in (50, 99)}
            for stage, values in stages.items()
        },
    }


def _plot(figures: dict[str, Any], stations: list[str]) -> None:
    figure, axes = plt.subplots(figsize=(7, 4))
    for name in stations:
        loads = [100 * row["share"] for row in figures[name]]
        for q, style in (("p50", "-"), ("p99", "--")):
            values = [row["capture to arrival"][q] for row in figures[name]]
            axes.plot(loads, values, style, marker="o", label=f"{name} station(s), {q}")
    axes.set(xlabel="load, % of what can be inspected", ylabel="capture to arrival, ms", yscale="log")
    axes.grid(visible=True, alpha=0.3)
    axes.legend()
    figure.tight_layout()
    figure.savefig(PLOT, dpi=110)


if __name__ == "__main__":
    main()
