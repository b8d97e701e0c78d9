"""How cost grows with stations, classes, resolution and stored verdicts: ``python -m benchmarks.growth``.

Writes ``results/growth.json``, ``.md`` and docs/img/growth.png. The exponent is the slope of the logarithm of the
cost over the logarithm of the size, by least squares over the upper half of the sizes: 0 is constant, 1 is in
proportion.

To commit ten million verdicts one by one would take most of an hour, so the store is filled in bulk: one verdict
goes through `Store`, and SQLite copies its row, numbered on, with event ids that rise as real ones do. What is
measured, one more verdict of that same station and the opening, is `Store`'s own. Ten million take some 13 GB of
the disk that temporary files lie on; sizes that do not fit are left out, saying so.
"""

from __future__ import annotations

import argparse
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np

from adapters.core.adapter import Adapter
from adapters.core.prompts import probabilities
from adapters.core.protocol import Engine
from adapters.engines.factory import ModelSettings, open_engine
from agent.base.event_id import ulid
from agent.domain.verdict import Decision, Outcome, Provenance, Verdict
from agent.store.retention import Retention
from agent.store.store import Store
from benchmarks.machine import describe, in_words, table, write
from camera.core.frame import Quality
from camera.pictures.images import read_image
from camera.pictures.preprocess import InputSpec, prepare

mpl.use("Agg")
import matplotlib.pyplot as plt
from PIL import Image

PLOT = Path(__file__).parent.parent / "docs" / "img" / "growth.png"
STATIONS = (1, 2, 4, 8, 16, 32, 64)
CLASSES = (2, 5, 10, 20, 50, 100, 200, 500, 1000)
RESOLUTIONS = {
    "VGA": (640, 480),
    "720p": (1280, 720),
    "1080p": (1920, 1080),
    "1440p": (2560, 1440),
    "4K": (3840, 2160),
}
GROUP = 16
STORED = (1_000, 10_000, 100_000, 1_000_000, 10_000_000)
STORED_BYTES = 1_500
"""Of a verdict with its place in both indices, generously."""
FILL = 50_000
"""Verdicts per transaction: what it writes lies on the disk twice for a while."""


def main() -> None:
    """Measure all four."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--most-stored", type=int, default=STORED[-1])
    arguments = parser.parse_args()
    engine = open_engine(ModelSettings(threads=1))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        grown = {
            "stations: a part, each with an adapter of its own, ms": _stations(engine),
            "classes: from feature to probabilities, ms": _classes(),
            "resolution (pixels): JPEG to model input, ms": _resolutions(folder, engine),
        }
        adding, opening = _stored(folder, [n for n in STORED if n <= arguments.most_stored])
        grown["stored verdicts: one more on disk, in groups of 16, ms"] = adding
        grown["stored verdicts: opening the store, ms"] = opening
    figures: dict[str, Any] = {
        "machine": describe("onnxruntime", "pillow"),
        "model": engine.info.name,
        "ms": grown,
    }
    figures["exponents"] = {name: round(_exponent(costs), 2) for name, costs in grown.items()}
    _plot(grown)
    rows = [
        [name, f"{figures['exponents'][name]:.2f}", ", ".join(f"{n:,}: {ms:.3g}" for n, ms in costs.items())]
        for name, costs in grown.items()
    ]
    write(
        "growth",
        figures,
        "# How cost grows\n\nWritten by `python -m benchmarks.growth`."
        f" Model {engine.info.name}, one thread. Machine: {in_words(figures['machine'])}.\n\n"
        + table(["what", "exponent", "size: cost"], rows)
        + "\nThe store was filled in bulk by copying one real verdict; adding one more and opening are the store's own.\n"
        "\n![growth](../../docs/img/growth.png)\n",
    )


def _stations(engine: Engine) -> dict[int, float]:
    rng, side = np.random.default_rng(0), engine.info.preprocess.size
    adapters = [
        Adapter({name: t * np.float32(rng.uniform(0.9, 1.1)) for name, t in engine.source.tensors.items()}, n)
        for n in range(1, STATIONS[-1] + 1)
    ]
    pictures = rng.standard_normal((STATIONS[-1], 3, side, side), dtype=np.float32)
    return {n: _ms(partial(engine.encode_image, pictures[:n], adapters[:n]), 5) / n for n in STATIONS}


def _classes() -> dict[int, float]:
    rng = np.random.default_rng(0)
    feature = rng.standard_normal((1, 512), dtype=np.float32)
    found = {}
    for count in CLASSES:
        words = rng.standard_normal((count, 512), dtype=np.float32)
        words /= np.linalg.norm(words, axis=1, keepdims=True)
        found[count] = _ms(partial(probabilities, feature, words, 100.0), 50)
    return found


def _resolutions(folder: Path, engine: Engine) -> dict[int, float]:
    spec = InputSpec(**{f: getattr(engine.info.preprocess, f) for f in engine.info.preprocess.__slots__})
    rng, found = np.random.default_rng(0), {}
    for name, (width, height) in RESOLUTIONS.items():
        coarse = Image.fromarray(rng.integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8))
        path = folder / f"{name}.jpg"
        coarse.resize((width, height), Image.Resampling.BICUBIC).save(path, quality=90)
        found[width * height] = _ms(partial(_read, path, spec), 5)
    return found


def _read(path: Path, spec: InputSpec) -> None:
    prepare(read_image(path), spec)


def _stored(folder: Path, sizes: list[int]) -> tuple[dict[int, float], dict[int, float]]:
    """Return what one more verdict costs, and what opening the store does."""
    adding, opening, stored = {}, {}, 0
    for size in sizes:
        if shutil.disk_usage(folder).free < STORED_BYTES * (size - stored) + 1_000_000_000:
            print(f"{size:,} stored verdicts are left out: the disk is too full for them")
            break
        _fill(folder / "store", size)
        stored = size
        opening[size] = _ms(lambda: _open(folder / "store", sizes[-1]).close(), 20)
        store = _open(folder / "store", sizes[-1])
        try:
            adding[size] = _ms(partial(_add, store), 30) / GROUP
        finally:
            store.close()
        print(f"{size:,} stored: one more {adding[size]:.3f} ms, opening {opening[size]:.3f} ms", flush=True)
    return adding, opening


def _add(store: Store) -> None:
    store.commit([_verdict() for _ in range(GROUP)])


def _open(folder: Path, most: int) -> Store:
    return Store(folder, Retention(keep_results=10 * most, max_waiting=10 * most), outbox=False)


def _fill(folder: Path, size: int) -> None:
    """Copy one verdict until the station has `size`."""
    store = _open(folder, size)
    store.commit([_verdict()])
    store.close()
    db = sqlite3.connect(folder / "mekiki.db", isolation_level=None, timeout=60)
    # What is lost in a power cut is made again.
    db.execute("PRAGMA synchronous = OFF")
    (newest,) = db.execute("SELECT MAX(seq) FROM verdict WHERE station = 'station'").fetchone()
    for first in range(newest + 1, size + 1, FILL):
        # An event id starts with its time: the next one stands at the end of its index, as here.
        db.execute(
            "WITH RECURSIVE n(i) AS (SELECT ? UNION ALL SELECT i + 1 FROM n WHERE i < ?)"
            " INSERT INTO verdict SELECT station, i, printf('%026d', i), decided_at, verdict, payload"
            " FROM n, (SELECT * FROM verdict WHERE station = 'station' AND seq = 1)",
            (first, min(first + FILL - 1, size)),
        )
    db.close()


def _verdict() -> Verdict:
    now, digest = datetime.now(UTC), "sha256:" + 64 * "0"
    labels = ("ok", "scratch", "dent", "stain", "missing_hole", "chipped_edge")
    decision = Decision(Outcome.PASS, "class", "ok", None, 0.9, 0.4, dict.fromkeys(labels, 1 / 6))
    provenance = Provenance("none", digest, 0, digest, digest, digest, "0")
    return Verdict(
        ulid(), "bench", "station", now, now, None, "line", decision, decision, provenance, Quality(), 0, 0
    )


def _ms(call: Callable[[], object], rounds: int) -> float:
    times = []
    for _ in range(rounds + 1):
        began = time.perf_counter()
        call()
        times.append(time.perf_counter() - began)
    return 1e3 * float(np.median(times[1:]))


def _exponent(costs: Mapping[int, float]) -> float:
    sizes = list(costs)
    upper = sizes[len(sizes) // 2 :] if len(sizes) > 3 else sizes
    return float(np.polyfit(np.log([float(n) for n in upper]), np.log([costs[n] for n in upper]), 1)[0])


def _plot(grown: dict[str, dict[int, float]]) -> None:
    figure, axes = plt.subplots(1, len(grown), figsize=(3.2 * len(grown), 3))
    for axis, (name, costs) in zip(axes, grown.items(), strict=True):
        axis.loglog(list(costs), list(costs.values()), marker="o")
        axis.set_title(name.partition(":")[0], fontsize=9)
        axis.set_ylabel("ms")
        axis.set_ylim(0.3 * min(costs.values()), 3 * max(costs.values()))
        axis.grid(visible=True, which="both", alpha=0.3)
    figure.tight_layout()
    figure.savefig(PLOT, dpi=110)


if __name__ == "__main__":
    main()
