"""What a purge costs inspection: ``python -m benchmarks.retention``.

Commits of 16 verdicts, one every 20 ms as a line of 800 parts a second would make them, through one `Store` that
holds ``--rows`` results. In turn, block by block of one and the same run: with nothing to delete, and while
retention deletes all of them but the newest, a step whenever the publisher would take one. Between blocks the order
is drawn by the seed. The interval is a bootstrap over blocks. Writes ``results/retention.json`` and ``.md``.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from agent.store.database import NAME
from agent.store.retention import Retention
from agent.store.store import Store
from benchmarks.growth import _fill, _verdict
from benchmarks.machine import describe, in_words, table, write

GROUP = 16
EVERY_S = 0.02
BLOCK = 50
"""Commits of one block."""
SEED = 1


def main() -> None:
    """Measure commits beside a purge and without one, side by side."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--blocks", type=int, default=30)
    arguments = parser.parse_args()
    rng = np.random.default_rng(SEED)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "store"
        _fill(folder, arguments.rows)
        os.sync()  # what filling left to be written is no commit's affair
        keep = Retention(10 * arguments.rows, 10 * arguments.rows)
        purge = replace(keep, keep_results=1000)
        store = Store(folder, keep, outbox=False)
        before = (folder / NAME).stat().st_size
        blocks: dict[str, list[list[float]]] = {"alone": [], "beside a purge": []}
        steps: list[float] = []
        for _ in range(arguments.blocks):
            for way in rng.permutation(list(blocks)):
                store.retention = purge if way == "beside a purge" else keep
                blocks[way].append(_block(store, steps, tidy=way == "beside a purge"))
        in_blocks = store.kept.purged
        began = time.perf_counter()
        store.retention = purge
        while store.collect_garbage(datetime.now(UTC)):
            pass
        rest_s = time.perf_counter() - began
        rest = store.kept.purged - in_blocks
        store.close()
        after = (folder / NAME).stat().st_size
    figures = {
        "machine": describe(),
        "seed": SEED,
        "rows": arguments.rows,
        "purged_beside_commits": in_blocks,
        "purged_at_full_speed_per_s": round(rest / rest_s),
        "step_ms_p50_p99_max": [round(float(np.percentile(steps, q)) * 1e3, 2) for q in (50, 99, 100)],
        "file_mb_before_after": [round(before / 1e6, 1), round(after / 1e6, 1)],
        "ms": {way: _summary(found) for way, found in blocks.items()},
        "ratio": {f"p{q}": _ratio(blocks, q, rng) for q in (50, 99)},
    }
    rows = [
        [way, *(f"{said[key]:.2f}" for key in ("p50", "p99", "max"))] for way, said in figures["ms"].items()
    ]
    ratios = ", ".join(
        f"{q} {r['value']:.2f} ({r['low']:.2f} to {r['high']:.2f})" for q, r in figures["ratio"].items()
    )
    write(
        "retention",
        figures,
        "# A purge beside inspection\n\nWritten by `python -m benchmarks.retention`."
        f" {arguments.rows:,} results, {arguments.blocks} blocks of {BLOCK} commits of {GROUP} each way, in turn, seed {SEED}."
        f" Machine: {in_words(figures['machine'])}.\n\n"
        + table(["commit", "p50 ms", "p99 ms", "slowest ms"], rows)
        + f"\nBeside a purge over alone, with 95 % of a bootstrap over blocks: {ratios}.\n"
        f"A step takes {figures['step_ms_p50_p99_max'][0]} ms, one in a hundred {figures['step_ms_p50_p99_max'][1]} ms or more, the slowest {figures['step_ms_p50_p99_max'][2]}; "
        f"at full speed {figures['purged_at_full_speed_per_s']:,} results a second go.\n"
        f"The file shrank from {figures['file_mb_before_after'][0]} to {figures['file_mb_before_after'][1]} MB.\n",
    )


def _block(store: Store, steps: list[float], *, tidy: bool) -> list[float]:
    """Return how long each commit took from the moment at which it was due: a step in its way counts."""
    took, due, collect_at = [], time.perf_counter(), 0.0
    for _ in range(BLOCK):
        due += EVERY_S
        while (now := time.perf_counter()) < due:
            if tidy and now >= collect_at:
                store.collect_garbage(datetime.now(UTC))
                ended = time.perf_counter()
                steps.append(ended - now)
                collect_at = ended + (ended - now)  # as the publisher does
            else:
                time.sleep(max(0.0, min(due, collect_at if tidy else due) - now))
        store.commit([_verdict() for _ in range(GROUP)])
        took.append(time.perf_counter() - due)
    return took


def _summary(blocks: list[list[float]]) -> dict[str, float]:
    all_ms = 1e3 * np.concatenate([np.array(block) for block in blocks])
    return {
        "p50": float(np.percentile(all_ms, 50)),
        "p99": float(np.percentile(all_ms, 99)),
        "max": float(all_ms.max()),
    }


def _ratio(blocks: dict[str, list[list[float]]], q: int, rng: np.random.Generator) -> dict[str, float]:
    alone, beside = (np.array(blocks[way]) for way in ("alone", "beside a purge"))

    def ratio(chosen: np.ndarray) -> float:
        return float(np.percentile(beside[chosen], q) / np.percentile(alone[chosen], q))

    everything = np.arange(len(alone))
    drawn = [ratio(rng.choice(everything, len(everything))) for _ in range(2000)]
    low, high = np.percentile(drawn, [2.5, 97.5])
    return {"value": ratio(everything), "low": float(low), "high": float(high)}


if __name__ == "__main__":
    main()
