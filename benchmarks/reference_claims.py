"""How often the claim of a reference fails: ``python -m benchmarks.reference_claims`` writes ``results/reference_claims.*``.

A reference is built of ten of the good cells of solar-mono and scores all others. These scores are the line: stations
are drawn from them with replacement, held-out parts first (29, 59, 95), so that the true share of false rejects at
the station's threshold is known exactly. The claim has 95 % confidence: it may fail in 5 % of the stations. The aim is
1 to 6.5 %; scores that repeat in a draw make it rarer.
"""

from __future__ import annotations

import argparse
import site
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from adapters.backbone.factory import open_backbone
from adapters.baseline.claims import bound
from adapters.core.protocol import Floats
from adapters.reference.good_scores import held_out_threshold
from adapters.reference.reference import Reference
from benchmarks.machine import describe, in_words, table, write
from benchmarks.reference_pictures import features, picture_set

HELD_OUT = (29, 59, 95)
SHARES = (0.01, 0.05, 0.1)


def main() -> None:
    """Count failed claims."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--peers", type=Path, default=Path("out/peers"), help="where packages are installed")
    parser.add_argument("--memories", type=int, default=5)
    parser.add_argument("--stations", type=int, default=4000, help="of each memory and number of parts")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    site.addsitedir(str(arguments.peers.absolute()))
    files = picture_set("solar-mono", arguments.data, arguments.peers).good
    with tempfile.TemporaryDirectory() as cache:
        backbone = open_backbone("backbone", Path(cache), device="cpu", threads=1)
        good = features(files, backbone)
    failed: dict[tuple[int, float], int] = {}
    for memory in range(arguments.memories):
        random = np.random.default_rng([arguments.seed, memory])
        order = random.permutation(len(good))
        reference = Reference.build(good[order[:10]].astype(np.float32), backbone.info, seed=memory)
        line = np.array([reference.judge(good[i].astype(np.float32)).score for i in order[10:]], np.float32)
        for count in HELD_OUT:
            drawn = line[random.integers(len(line), size=(arguments.stations, count))]
            for share in SHARES:
                key = count, share
                failed[key] = failed.get(key, 0) + _failed(drawn, line, share)
    stations = arguments.memories * arguments.stations
    rows: list[dict[str, Any]] = [
        {
            "held_out": count,
            "asked": share,
            "failed": number / stations,
            "at_most": bound(number, stations),
        }
        for (count, share), number in failed.items()
    ]
    figures = {
        "machine": describe("numpy", "onnxruntime"),
        "stations": stations,
        "seed": arguments.seed,
        "rows": rows,
    }
    heads = ["held-out good parts", "false rejects asked for", "claims that fail, %", "upper bound, 95 %"]
    cells = [
        [str(r["held_out"]), f"{r['asked']:g}", f"{100 * r['failed']:.2f}", f"{100 * r['at_most']:.2f}"]
        for r in rows
    ]
    write(
        "reference_claims",
        figures,
        "# How often the claim of a reference fails\n\nWritten by `python -m benchmarks.reference_claims"
        f" --seed {arguments.seed}`: {stations} stations a row, drawn from the scores of {len(files) - 10} good solar"
        f" cells by {arguments.memories} references of ten. Machine: {in_words(figures['machine'])}.\n\n"
        + table(heads, cells)
        + "\nThe threshold from leave-one-out, which claims nothing: `reference_sets.md`.\n",
    )


def _failed(drawn: Floats, line: Floats, share: float) -> int:
    """Return of how many ``(S, n)`` stations the true share of false rejects is above the claimed one."""
    threshold, claim = held_out_threshold(drawn[0], share)
    claimed = claim.false_rejects_at_most
    rank = drawn.shape[1] - 1 - claim.rejected  # depends on n alone: the same for all stations
    limits = np.nextafter(np.sort(drawn, axis=1)[:, rank], np.float32(np.inf))
    if float(limits[0]) != threshold:
        raise AssertionError(f"the product's threshold is {threshold}, counted with {limits[0]}")
    true = (line[None] > limits[:, None]).mean(axis=1)
    return int((true > claimed).sum())


if __name__ == "__main__":
    main()
