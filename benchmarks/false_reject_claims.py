"""Is what a baseline claims of false rejects true? ``python -m benchmarks.false_reject_claims``.

Good parts of the simulated line are rendered and scored once by the shipped model: a pool whose own shares are the
truth. Stations are drawn from it: each gets so many parts that a person vouches for, and its threshold and its
claim from them, as `mekiki commission --all-good` makes both. How often is the true share of false rejects above
the claim? It should be in 5 % of the stations. Beside it the same with scores of continuous distributions, whose
true share is known exactly, and claims on golden samples that had no say in the threshold.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from adapters.baseline.claims import allowed, bound, held_out, of_all
from adapters.core.observation import as_bytes
from adapters.core.protocol import Floats
from adapters.core.scorer import Scorer
from adapters.engines.factory import ModelSettings, open_engine
from agent.config.recipes import find_recipe
from agent.versions.station_plans import failing, prompts
from benchmarks.machine import describe, in_words, table, write
from camera.pictures.preprocess import InputSpec, prepare
from camera.simulation.part import render_part

SEED = 18
PARTS = 6000
FIRST = 9_000_000
"""Number of the pool's first part: others are commissioned, trained and streamed elsewhere."""
STATIONS = 1000
SIZES = (60, 100, 200, 300, 600, 1000)
SHARES = (0.01, 0.05)
CHUNK = 64
CACHE = Path(__file__).parents[1] / "out" / "false_reject_claims"

Doubles = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class World:
    """Where scores of good parts come from.

    Attributes:
        name: of it.
        draw: so many scores, each its own part.
        above: the true share of good parts whose score reaches a threshold.
    """

    name: str
    draw: Callable[[np.random.Generator, int], Floats]
    above: Callable[[float], float]


def main() -> None:
    """Draw the stations and write the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--parts", type=int, default=PARTS, help="of the pool; default: %(default)s")
    parser.add_argument("--stations", type=int, default=STATIONS, help="per row; default: %(default)s")
    args = parser.parse_args()
    pool = scores(args.parts)
    worlds = (_line(pool), _normal(), _heavy())
    rows = [
        _row(world, share, size, args.stations)
        for world in worlds
        for share in SHARES
        for size in (None, *SIZES)
    ]
    held = [_held_out_row(worlds[0], size, args.stations) for size in (20, *SIZES)]
    machine = describe("numpy", "onnxruntime")
    figures = {"machine": machine, "seed": SEED, "pool": len(pool), "claims": rows, "held_out": held}
    write("false_reject_claims", figures, _markdown(in_words(machine), rows, held, args.stations, len(pool)))


def scores(count: int) -> Floats:
    """Return what the shipped model says of so many good parts; kept in `CACHE`."""
    file = CACHE / f"scores-{count}.npy"
    if file.exists():
        return np.asarray(np.load(file), np.float32)
    engine, recipe = open_engine(ModelSettings(threads=2)), find_recipe("line", {})
    scorer, spec = Scorer(engine, prompts(recipe), failing(recipe)), engine.info.preprocess
    found = []
    for first in range(0, count, CHUNK):
        photos = [
            render_part("ok", np.random.default_rng([FIRST + n, SEED]))[0]
            for n in range(first, min(count, first + CHUNK))
        ]
        pixels = np.stack([prepare(photo, InputSpec(**asdict(spec))) for photo in photos])
        found.append(scorer.look(as_bytes(pixels, spec), scorer.source).scores)
    CACHE.mkdir(parents=True, exist_ok=True)
    np.save(file, np.concatenate(found))
    return np.concatenate(found)


def _line(pool: Floats) -> World:
    ordered = np.sort(pool)
    return World(
        "simulated line, mekiki-line",
        lambda rng, count: rng.choice(pool, count),
        lambda limit: 1 - float(np.searchsorted(ordered, np.float32(limit), "left")) / len(ordered),
    )


def _normal() -> World:
    normal = NormalDist(-6, 2)
    return World(
        "normal scores",
        lambda rng, count: rng.normal(-6, 2, count).astype(np.float32),
        lambda limit: 1 - normal.cdf(limit),
    )


def _heavy() -> World:
    return World(
        "heavy-tailed scores (Cauchy)",
        lambda rng, count: rng.standard_cauchy(count).astype(np.float32),
        lambda limit: 0.5 - math.atan(limit) / math.pi,
    )


def _row(world: World, share: float, size: int | None, stations: int) -> dict[str, float | str | int | None]:
    """Return how often a claim does not hold; stations of 60 to 1000 parts where no size is given."""
    rng = np.random.default_rng([SEED, SIZES.index(size) if size else 99, round(1000 * share)])
    claims, truths = np.zeros(stations), np.zeros(stations)
    for row in range(stations):
        count = size or round(math.exp(rng.uniform(math.log(SIZES[0]), math.log(SIZES[-1]))))
        threshold, claims[row] = of_all(world.draw(rng, count), share)
        truths[row] = world.above(threshold)
    return {
        "world": world.name,
        "share": share,
        "parts": size,
        "allowed": allowed(size, share) if size else None,
        "claimed": float(claims.mean()),
        "true": float(truths.mean()),
        "exceeded": float((truths > claims).mean()),
    }


def _held_out_row(world: World, size: int, stations: int) -> dict[str, float | int]:
    """Return the same for golden samples, and thresholds of other parts that leave 1 % above them."""
    rng = np.random.default_rng([SEED, size, 7])
    claims, truths = np.zeros(stations), np.zeros(stations)
    for row in range(stations):
        threshold = float(np.quantile(world.draw(rng, 1000), 0.99))
        claim = held_out(world.draw(rng, size), threshold)
        assert claim is not None
        claims[row], truths[row] = claim.false_rejects_at_most, world.above(threshold)
    exceeded = float((truths > claims).mean())
    return {
        "parts": size,
        "claimed": float(claims.mean()),
        "true": float(truths.mean()),
        "exceeded": exceeded,
    }


def _markdown(machine: str, rows: list[dict], held: list[dict], stations: int, pool: int) -> str:  # type: ignore[type-arg]
    made = [
        [
            str(row["world"]), f"{row['share']:.0%}", str(row["parts"] or "60 to 1000"),
            "" if row["allowed"] is None else str(row["allowed"]), f"{row['claimed']:.2%}",
            f"{row['true']:.2%}", f"{row['exceeded']:.1%}",
        ]
        for row in rows
    ]  # fmt: skip
    golden = [
        [str(row["parts"]), f"{row['claimed']:.2%}", f"{row['true']:.2%}", f"{row['exceeded']:.1%}"]
        for row in held
    ]
    heads = [
        "scores",
        "asked for",
        "vouched parts",
        "may be rejected",
        "claimed, mean",
        "true, mean",
        "exceeded",
    ]
    return (
        "# Does the claim about false rejects hold?\n\n"
        f"{stations} stations a row, seed {SEED}. Each draws its parts, all good, and gets threshold and claim from"
        " them as `mekiki commission --all-good` does. *Exceeded*: in so many stations the true share of false"
        f" rejects is above the claim; 5 % is what 95 % confidence means. The pool: {pool} good parts of the"
        " simulated line, each scored once; its own shares are the truth.\n\n"
        f"{table(heads, made)}\n"
        "Where a person gives golden good samples instead, these have no say in the threshold. Few samples claim"
        " little, so the claim holds more often than it says; it is for a threshold that leaves about 1 % of the"
        " good parts of the simulated line above it.\n\n"
        f"{table(['golden good samples', 'claimed, mean', 'true, mean', 'exceeded'], golden)}\n"
        f"With none rejected {bound(0, 299):.2%} is what 299 parts claim; 29, 59, 149, 299 and 598 parts are needed"
        " for at most 10, 5, 2, 1 and 0.5 %.\n\n"
        f"Measured on {machine}.\n"
    )


if __name__ == "__main__":
    main()
