"""From a learner's decision to what judges: ``python -m benchmarks.swap`` writes ``results/swap.json`` and ``.md``.

A process decides and says at what time; this one, which would inspect, notes when the new adapter is complete here,
its digest included. The clock is that of the machine, so both may read it. The first picture with an adapter that
the engine has not seen takes what any other does: see `benchmarks.speed`.
"""

from __future__ import annotations

import argparse
import multiprocessing
import time

import numpy as np

from adapters.core.adapter import Adapter
from agent.inspection.predictor import Predictor
from agent.learning.ipc import Answers, Channel, Told, pair
from benchmarks.machine import describe, in_words, table, write

SHAPES = {"mekiki-line": (40, 192, 256), "ViT-B-32": (86, 768, 512)}
"""Name -> number of LayerNorm tensors, numbers in each, width of a feature; for mekiki-line an upper bound."""


def main() -> None:
    """Swap some thousand times each."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--swaps", type=int, default=1000)
    swaps = parser.parse_args().swaps
    found: dict[str, dict[str, float]] = {}
    for name, (tensors, width, dimension) in SHAPES.items():
        ms = _swapped(tensors, width, dimension, swaps)
        found[name] = {f"p{q:g}": round(float(np.percentile(ms, q)), 2) for q in (50, 99, 100)}
    machine = describe("numpy")
    rows = [[name, *(f"{ms:.2f}" for ms in row.values())] for name, row in found.items()]
    write(
        "swap",
        {"machine": machine, "swaps": swaps, "ms": found},
        f"# From decision to adapter\n\nWritten by `python -m benchmarks.swap`: {swaps} swaps across processes, one at"
        f" a time, 100 a second. Asked: below 5 ms. Machine: {in_words(machine)}.\n\n"
        + table(["LayerNorms of", "p50, ms", "p99, ms", "slowest, ms"], rows),
    )


def _swapped(tensors: int, width: int, dimension: int, swaps: int) -> list[float]:
    link, theirs = pair()
    context = multiprocessing.get_context("fork")
    process = context.Process(target=_decide, args=(theirs.detach(), tensors, width, dimension, swaps))
    process.start()
    decided_at, ms = 0.0, []
    while len(ms) < swaps:
        match link.receive():
            case Told(_, _, payload):
                decided_at = payload["at"]
            case Answers(_, predictor):
                assert predictor.adapter.digest
                ms.append(1e3 * (time.monotonic() - decided_at))
    process.join()
    return ms


def _decide(file: int, tensors: int, width: int, dimension: int, swaps: int) -> None:
    link, rng = Channel(file), np.random.default_rng(0)
    for number in range(1, swaps + 1):
        norms = {f"{n}.weight": rng.standard_normal(width).astype(np.float32) for n in range(tensors)}
        features = rng.standard_normal((6, dimension), dtype=np.float32)
        adapter = Adapter(norms, number)
        predictor = Predictor(number, adapter, features, np.zeros(6, np.bool_))
        link.send(Told("line", "decided", {"at": time.monotonic()}))
        link.send(Answers("line", predictor))
        time.sleep(0.01)


if __name__ == "__main__":
    main()
