"""Find the learning rates of `bench_rates`: ``python -m benchmarks.choose_rates``.

Every method meets photos of the training split, corrupted in three ways at severity 5, once with each rate of a
grid and with both small models; a reset before each way.
"""

from __future__ import annotations

import json
import multiprocessing
from pathlib import Path

import numpy as np
import torch

from benchmarks import photo_model
from benchmarks.bench_batclip import adapt, load
from benchmarks.bench_rates import MAKERS
from benchmarks.corruptions import corrupt
from benchmarks.machine import describe, table, write
from benchmarks.photos import read_photos
from benchmarks.rivals.frozen import Frozen

WAYS = ("gaussian_noise", "defocus_blur", "fog")
PHOTOS = 2000
ADAM_RATES = (1e-3, 5e-3, 2e-2, 5e-2)
SGD_RATES = (1e-3, 1e-2, 1e-1, 3e-1)
KEPT = Path("out/choose_rates")
"""Where accuracies are kept, so that a run which was stopped goes on."""


GRID = {
    "BATCLIP exact": ADAM_RATES,
    "BATCLIP line": ADAM_RATES,
    "TENT": ADAM_RATES,
    "RDumb": SGD_RATES,
    "SAR": SGD_RATES,
}


def main() -> None:
    """Measure the grid and write ``results/bench_rates``."""
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        found = dict(zip(photo_model.KINDS, pool.map(measure, photo_model.KINDS, chunksize=1), strict=True))
    rows = []
    for name, rates in [("frozen", (0.0,)), *GRID.items()]:
        means = {rate: np.mean([found[kind][name, rate] for kind in found]) for rate in rates}
        best = max(means, key=lambda rate: means[rate])
        for rate in rates:
            of_kind = [f"{100 * found[kind][name, rate]:.1f}" for kind in found]
            rows.append([name, f"{rate:g}", *of_kind, "best" if rate == best and len(rates) > 1 else ""])
    figures = {
        "machine": describe("torch", "open_clip_torch", "timm"),
        "accuracy": {
            kind: {f"{name} {rate:g}": a for (name, rate), a in of.items()} for kind, of in found.items()
        },
    }
    write(
        "bench_rates",
        figures,
        "# Learning rates for the photo benchmark\n\nWritten by `python -m benchmarks.choose_rates`. Accuracy in percent, mean over"
        f" {', '.join(WAYS)} at severity 5, {PHOTOS} photos of the training split each, batches of 200, a reset before each.\n\n"
        + table(["method", "rate", *found, ""], rows),
    )


def measure(kind: str) -> dict[tuple[str, float], float]:
    """Return the accuracy of every method and rate with one model."""
    torch.set_num_threads(1)
    clip, texts = load(kind, 0)
    photos = read_photos("train")
    labels = photos.labels[:PHOTOS]
    pictures = {way: corrupt(photos.images[:PHOTOS], way, 5, 0) for way in WAYS}
    KEPT.mkdir(parents=True, exist_ok=True)
    file = KEPT / f"{kind}.json"
    kept: dict[str, list[float]] = json.loads(file.read_text()) if file.exists() else {}
    grid = [("frozen", 0.0)] + [(name, rate) for name, rates in GRID.items() for rate in rates]
    for name, rate in grid:
        right: list[float] = []
        if f"{name} {rate:g}" in kept:
            continue
        for way in WAYS:
            method = MAKERS[name](rate) if rate else Frozen()
            _, answers, _ = adapt(method, clip, method.start(clip, texts), pictures[way], texts)
            right.append(float((answers == labels).mean()))
        kept[f"{name} {rate:g}"] = right
        file.write_text(json.dumps(kept))
        print(kind, name, rate, [round(100 * r, 1) for r in right], flush=True)
    return {(name, rate): float(np.mean(kept[f"{name} {rate:g}"])) for name, rate in grid}


if __name__ == "__main__":
    main()
