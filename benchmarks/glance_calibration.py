"""How seldom a glance errs on a clean line, and how soon it sees a change: ``python -m benchmarks.glance_calibration``.

Streams are drawn from the pool of `benchmarks.drift_pool`. A visit to a condition begins anywhere: clean for a
while, then the condition, then clean again, then the condition again, which was met before.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from typing import Any

import numpy as np

from adapters.core.version import SOURCE
from adapters.gate.state_machine import State
from adapters.monitoring.block_statistics import SCALARS
from adapters.monitoring.change_point import ChangePointDetector
from agent.learning.episode import Episode
from agent.learning.known_domains import KnownDomains
from benchmarks import machine
from benchmarks.drift_pool import BURST_RATE, DEFECT_RATE, HALF, SEVERITIES, Pool, Rows, Site, labels_of
from camera.simulation.degradations import KINDS

GOOD = 60
VISIT = 120
"""Frames of each part of a visit."""
FRAMES_PER_100_HOURS = 360_000
LEARNED = 1


def main() -> None:
    """Write benchmarks/results/glance_calibration.json and .md."""
    args = _arguments()
    pool = Pool.cached()
    began = time.process_time()
    figures: dict[str, Any] = {
        "seeds": args.seeds,
        "clean": [
            _clean(pool, args.seeds, args.frames // share, rate, bursts)
            for share, rate, bursts in ((1, DEFECT_RATE, BURST_RATE), (5, 0.30, BURST_RATE), (5, 0.30, 0.60))
        ],
        "conditions": [
            _visits(pool, args.seeds, kind, severity)
            for kind in KINDS
            for severity in SEVERITIES
            if severity >= 1
        ],
    }
    figures["cpu_s"] = round(time.process_time() - began, 1)
    figures["machine"] = machine.describe("numpy")
    machine.write("glance_calibration", figures, _markdown(figures))


def _glance(pool: Pool, site: Site, seed: int) -> ChangePointDetector:
    """Return what a station begins with; its good parts are of the half that was commissioned on."""
    good = pool.rows["clean"][np.random.default_rng(seed).permutation(HALF)[:GOOD]]
    looks, features = good[:, 2 : len(SCALARS)], good[:, len(SCALARS) :]
    return ChangePointDetector(site.reference, looks, features.astype(np.float32))


def _clean(pool: Pool, seeds: int, frames: int, rate: float, bursts: float) -> dict[str, Any]:
    """Nothing has changed: every turn is false, and one that is not called home starts learning."""
    said: Counter[str] = Counter()
    for seed in range(seeds):
        site = Site.commissioned(pool, seed, frames)
        glance = _glance(pool, site, seed)
        places = KnownDomains(glance)
        for row in pool.clean(labels_of(frames, rate, bursts, site.rng), site.light, 1, site.rng):
            before = glance.count
            places.add(row)
            said["turn"] += glance.count < min(before, 1)
            said[str(places.turn(SOURCE)[0])] += 1
    return {
        "rate": rate,
        "bursts": bursts,
        "frames": seeds * frames,
        "turns": said["turn"],
        "started": said["unknown"],
    }


def _visits(pool: Pool, seeds: int, kind: str, severity: float) -> dict[str, Any]:
    """Clean, the condition, clean, the condition: frames until each is known for what it is."""
    delays: dict[str, list[int | None]] = {"left": [], "unknown": [], "home": [], "met": []}
    for seed in range(seeds):
        rng = np.random.default_rng((seed, KINDS.index(kind), round(10 * severity)))
        places = KnownDomains(_glance(pool, Site.commissioned(pool, seed, 1), seed))

        def drawn(worse: bool, rng: np.random.Generator = rng) -> Rows:
            labels = labels_of(VISIT, DEFECT_RATE, BURST_RATE, rng)
            return pool.worse(labels, kind, np.full(VISIT, severity * worse), rng)

        _show(places, drawn(False), SOURCE)
        first, _ = _show(places, drawn(True), SOURCE)
        delays["unknown"].append(first.get("unknown"))
        # A version is learned here; only which one it is matters to `KnownDomains`.
        places.remember(LEARNED, State(), Episode(None, 0, 0), 0, [LEARNED])  # type: ignore[arg-type]
        back, here = _show(places, drawn(False), LEARNED)
        delays["left"].append(min(back.values(), default=None))
        delays["home"].append(back.get("home"))
        again, _ = _show(places, drawn(True), here)
        delays["met"].append(again.get("met"))
    return {"kind": kind, "severity": severity, **delays}


def _show(places: KnownDomains, rows: Rows, here: int) -> tuple[dict[str, int], int]:
    """Return after how many frames each turn was said first, and what answers in the end."""
    found: dict[str, int] = {}
    for number, row in enumerate(rows, 1):
        places.add(row)
        turn, to = places.turn(here)
        if turn is not None:
            found.setdefault(turn, number)
            here = SOURCE if turn == "unknown" else to
    return found, here


def _markdown(figures: dict[str, Any]) -> str:
    clean = [
        [
            f"{100 * row['rate']:.0f} %",
            f"{100 * row['bursts']:.0f} %",
            f"{row['frames']:,}".replace(",", " "),
            str(row["turns"]),
            str(row["started"]),
            f"{3 * FRAMES_PER_100_HOURS / row['frames']:.1f}" if not row["started"] else "",
        ]
        for row in figures["clean"]
    ]
    conditions = [
        [
            row["kind"],
            f"{row['severity']:g}",
            *(_span(row[name]) for name in ("unknown", "left", "home", "met")),
        ]
        for row in figures["conditions"]
    ]
    return (
        "# A glance on the simulated line\n\n"
        "Written by `python -m benchmarks.glance_calibration`: `mekiki-line`, rows of the pool of `drift_calibration`.\n"
        f"Machine: {machine.in_words(figures['machine'])}; {figures['seeds']} seeds, each with a commissioning of its own.\n\n"
        "## Nothing has changed\n\n"
        "A turn would leave whatever answers. Of the source, a turn is undone when the next eight pictures are as at commissioning; otherwise learning starts, which would be false.\n\n"
        + machine.table(
            ["defects", "burst blocks", "frames", "turns", "false starts", "per 100 h at most, 95 %"], clean
        )
        + "\n## Something has changed\n\n"
        f"Clean, the condition, clean, the condition again, {VISIT} frames each, 3 % defects and bursts.\n"
        "Frames, median (lowest to highest): until a new condition is said to be new; until what was learned for it is left when it ends; until the clean line is called home; until the condition is known when it comes again. - where some seed does not see it: then blocks do, or it is no change.\n\n"
        + machine.table(["kind", "severity", "new", "left", "home", "met again"], conditions)
    )


def _span(values: list[int | None]) -> str:
    known = [value for value in values if value is not None]
    if len(known) < len(values):
        return f"- ({len(known)} of {len(values)})"
    return f"{np.median(known):.0f} ({min(known)} to {max(known)})"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--frames", type=int, default=100_000, help="clean frames per seed")
    return parser.parse_args()


if __name__ == "__main__":
    main()
