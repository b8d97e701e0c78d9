"""How long each engine takes: ``python -m benchmarks.engine_speed``.

`mekiki-line`, and ViT-B-32 with random weights (time does not depend on them), one thread, all engines in turn
in the same run; CPU time, so that a busy machine counts less.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from adapters.build.bundle import other_adapter
from adapters.bundle.reader import VECTORS
from adapters.core.protocol import Engine
from adapters.engines.known_answers import vector_answers
from adapters.torch_model.clip import Clip
from benchmarks.engine_bundles import engines_of, line_clip, random_clip
from benchmarks.machine import describe, in_turn, in_words, table, write

BATCHES = (1, 8)


def main() -> None:
    """Measure both models and write ``results/engine_speed``."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=40, help="for mekiki-line; a quarter for ViT-B-32")
    args = parser.parse_args()
    figures: dict[str, Any] = {"machine": describe("torch", "onnxruntime", "openvino")}
    rows = []
    for clip, rounds in ((line_clip(), args.rounds), (random_clip("ViT-B-32"), max(3, args.rounds // 4))):
        found = _measured(clip, rounds)
        figures[clip.info.name] = found
        for name, of in found.items():
            ratios = [
                f"{found['onnx fp32'][f'batch_{batch}'] / of[f'batch_{batch}']:.2f}" for batch in BATCHES
            ]
            times = [f"{of[key]:.1f}" for key in ("batch_1", "batch_8", "batch_1_adapted", "check")]
            rows.append([clip.info.name, name, *times, *ratios])
    heads = ["model", "engine", "1 picture, CPU ms", "8 pictures, CPU ms", "1 picture with an adapter and without, CPU ms", "check at start, CPU ms", "faster than onnx fp32: 1", "8"]  # fmt: skip
    write(
        "engine_speed",
        figures,
        "# How long each engine takes\n\nWritten by `python -m benchmarks.engine_speed`. One thread, median of"
        f" {args.rounds} rounds in turn ({max(3, args.rounds // 4)} for ViT-B-32, which has random weights). The third time is that of a"
        " picture while an adapter answers: it is seen with the adapter and with the source in one batch. Machine:"
        f" {in_words(figures['machine'])}.\n\n" + table(heads, rows),
    )


def _measured(clip: Clip, rounds: int) -> dict[str, dict[str, float]]:
    side, other = clip.info.preprocess.size, other_adapter(clip.source)
    pictures = np.random.default_rng(0).standard_normal((max(BATCHES), 3, side, side), dtype=np.float32)
    found: dict[str, dict[str, float]] = {}
    with engines_of(clip, threads=1) as (engines, folder):
        for batch in BATCHES:
            calls = {
                name: _call(engine, pictures[:batch], [clip.source] * batch)
                for name, engine in engines.items()
            }
            for name, seconds in in_turn(calls, rounds).items():
                found.setdefault(name, {})[f"batch_{batch}"] = round(1e3 * float(np.median(seconds)), 2)
        twice = np.concatenate([pictures[:1]] * 2)
        calls = {name: _call(engine, twice, [other, clip.source]) for name, engine in engines.items()}
        for name, seconds in in_turn(calls, rounds).items():
            found[name]["batch_1_adapted"] = round(1e3 * float(np.median(seconds)), 2)
        calls = {name: _check(engine, folder / VECTORS) for name, engine in engines.items()}
        for name, seconds in in_turn(calls, 3).items():
            found[name]["check"] = round(1e3 * float(np.median(seconds)), 2)
    return found


def _check(engine: Engine, vectors: Path) -> Any:
    return lambda: list(vector_answers(engine, vectors, few=True))


def _call(engine: Engine, pictures: Any, adapters: Any) -> Any:
    return lambda: engine.encode_image(pictures, adapters)


if __name__ == "__main__":
    main()
