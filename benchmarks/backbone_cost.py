"""What the patch features of a picture cost beside words alone: ``python -m benchmarks.backbone_cost``.

Everything in turn in one run, one picture at a time, on one core; seconds are CPU time. Words alone are the image
tower of `mekiki-line`. The search is that of a reference of ten parts. Writes ``results/backbone_cost.json`` and
``.md``.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from adapters.backbone.factory import open_backbone
from adapters.bundle.reader import bundle_path
from adapters.core.patches import PatchExtractor
from adapters.core.protocol import Floats, Preprocess
from adapters.engines.engine_patches import patches_of
from adapters.engines.open_bundle import open_bundle
from adapters.reference.reference import Reference
from agent.inspection.feed_factory import input_spec
from benchmarks.machine import describe, in_turn, in_words, table, write
from camera.core.frame import Image
from camera.pictures.preprocess import prepare
from camera.simulation.part import render_part

SEED = 5_000_000
"""Of parts that nothing else has rendered."""
GOOD, JUDGED = 10, 4
WORDS = "words alone (mekiki-line)"


def main() -> None:
    """Measure all of it in one run."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=15)
    args = parser.parse_args()
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    parts = [render_part("ok", np.random.default_rng(SEED + number))[0] for number in range(GOOD + JUDGED)]
    engine = open_bundle(bundle_path("mekiki-line"), device="cpu", threads=1)
    ways: dict[str, Callable[[], object]] = {}
    ways[WORDS] = _words(engine, _inputs(parts[GOOD:], engine.info.preprocess))
    clip = patches_of(engine)
    shown = _inputs(parts, clip.info.preprocess)
    ways["words and patches in one pass (features: clip)"] = _both(engine, shown[GOOD:])
    ways["search, features: clip"] = _search(clip, shown)
    with tempfile.TemporaryDirectory() as folder:
        for size, precision in ((256, "fp32"), (288, "fp32"), (256, "int8"), (288, "int8")):
            backbone = open_backbone(
                "backbone", Path(folder), device="cpu", threads=1, size=size, precision=precision
            )  # type: ignore[call-overload]
            pixels = _inputs(parts, backbone.info.preprocess)
            ways[f"backbone, {size} px, {precision}"] = _features(backbone, pixels[GOOD:])
            if precision == "fp32":
                ways[f"search, {size} px"] = _search(backbone, pixels)
                ways[f"picture to input, {size} px"] = _prepared(parts[GOOD:], backbone.info.preprocess)
        figures = _figures(in_turn(ways, args.rounds))
    write("backbone_cost", figures, _markdown(figures))


def _inputs(parts: list[Image], preprocess: Preprocess) -> Floats:
    return np.stack([prepare(part, input_spec(preprocess)) for part in parts])


def _words(engine: Any, pixels: Floats) -> Callable[[], object]:
    return lambda: [engine.encode_image(one[np.newaxis], [engine.source]) for one in pixels]


def _both(engine: Any, pixels: Floats) -> Callable[[], object]:
    return lambda: [engine.encode_with_patches(one[np.newaxis], [engine.source]) for one in pixels]


def _features(backbone: PatchExtractor, pixels: Floats) -> Callable[[], object]:
    return lambda: [backbone.patches(one[np.newaxis]) for one in pixels]


def _search(backbone: PatchExtractor, pixels: Floats) -> Callable[[], object]:
    features = backbone.patches(pixels)[:, np.newaxis]  # (K, 1, h, w, D)
    reference = Reference.build(features[:GOOD], backbone.info)
    return lambda: [reference.judge(part) for part in features[GOOD:]]


def _prepared(parts: list[Image], preprocess: Preprocess) -> Callable[[], object]:
    return lambda: [prepare(part, input_spec(preprocess)) for part in parts]


def _figures(times: dict[str, list[float]]) -> dict[str, Any]:
    base = np.array(times[WORDS])
    ways = {}
    for name, seconds in times.items():
        ratios = np.array(seconds) / base
        ways[name] = {
            "ms": round(1e3 * float(np.median(seconds)) / JUDGED, 2),
            "least_ms": round(1e3 * min(seconds) / JUDGED, 2),
            "times_words": [round(float(one), 2) for one in (np.median(ratios), ratios.min(), ratios.max())],
        }
    return {"machine": describe("onnxruntime", "numpy"), "seed": SEED, "rounds": len(base), "ways": ways}


def _markdown(figures: dict[str, Any]) -> str:
    rows = [
        [
            name,
            f"{way['ms']:.1f}",
            f"{way['least_ms']:.1f}",
            "{:.2f} ({:.2f} to {:.2f})".format(*way["times_words"]),
        ]
        for name, way in figures["ways"].items()
    ]
    head = ["one picture on one core", "ms, median", "least", "times words alone, median (range)"]
    return (
        f"# What the backbone costs\n\n`python -m benchmarks.backbone_cost`, seed {figures['seed']},"
        f" {figures['rounds']} rounds, in turn, CPU time. {in_words(figures['machine'])}.\n\n{table(head, rows)}"
    )


if __name__ == "__main__":
    main()
