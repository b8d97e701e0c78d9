"""How often drift is told of where there is none, and how soon where there is some: the simulated line.

Long streams are drawn from a pool of parts, see `drift_pool`, which is kept under out/. The light wanders by 1 %
(Ornstein-Uhlenbeck, 1500 frames) and has a daily cycle of 1 % that commissioning sees an eighth of.

Run from the repository root: ``python -m benchmarks.drift_calibration``; about 7 minutes of one core for the pool
and 2 for the rest.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import numpy as np

from adapters.core.observation import Observation
from adapters.monitoring.block_statistics import SCALARS, measure, summarise
from adapters.monitoring.drift_baseline import DriftReference
from adapters.monitoring.drift_detector import FRAMES_PER_FALSE_ALARM, Drift, bet, update
from benchmarks import machine
from benchmarks.drift_pool import (
    BURST_RATE,
    CYCLE,
    CYCLE_FRAMES,
    DEFECT_RATE,
    SEVERITIES,
    WANDER,
    Pool,
    Rows,
    Site,
    alarms,
    follow,
    labels_of,
)
from camera.simulation.degradations import KINDS

RAMP, BEFORE, AFTER = 2000, 1000, 1500


def main() -> None:
    """Draw the streams, then write `results/drift_calibration.json` and `.md`."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=5, help="of conditions and defects; clean has 24")
    parser.add_argument("--clean-seeds", type=int, default=24)
    parser.add_argument("--frames", type=int, default=50_000, help="of a clean stream")
    args = parser.parse_args()
    pool = Pool.cached()
    began = time.process_time()
    sites = [Site.commissioned(pool, seed, BEFORE) for seed in range(args.seeds)]
    figures: dict[str, Any] = {
        "seeds": args.seeds,
        "frames": args.frames,
        "clean": [
            _clean(
                pool, args.clean_seeds if (n, cycle) == (3000, CYCLE) else args.seeds, args.frames, n, cycle
            )
            for n, cycle in ((3000, CYCLE), (1500, CYCLE), (1000, CYCLE), (3000, 2 * CYCLE))
        ],
        "defects": [
            _defects(pool, args.seeds, rate, bursts)
            for rate, bursts in ((0.30, BURST_RATE), (0.03, 0.58), (0.30, 0.60))
        ],
        "conditions": [_condition(pool, sites, k, s) for k in KINDS for s in SEVERITIES],
        "cost": _cost(),
    }
    figures["cpu_s"] = round(time.process_time() - began, 1)
    figures["machine"] = machine.describe("numpy", "onnxruntime", "opencv-python-headless")
    machine.write("drift_calibration", figures, _markdown(figures))


def alarms_by_frame(usual: Rows, values: Rows) -> int:
    """Count alarms of the same detector on single frames: either tail, the same bets, the same design rate."""
    middle = np.median(usual)
    ordered = np.sort(np.abs(usual - middle))
    above = len(ordered) - np.searchsorted(ordered, np.abs(values - middle))
    evidence, count = 0.0, 0
    for chance in (1 + above) / (1 + len(ordered)):
        evidence = (1 + evidence) * bet(float(chance))
        if evidence >= FRAMES_PER_FALSE_ALARM:
            evidence, count = 0.0, count + 1
    return count


def _clean(pool: Pool, seeds: int, frames: int, commissioning: int, cycle: float) -> dict[str, Any]:
    blocks, told_of, jumps, most, normal, by_score, by_luma = 0, 0, 0, [], [], 0, 0
    for seed in range(seeds):
        site = Site.commissioned(pool, seed, frames, commissioning, cycle)
        labels = labels_of(frames, DEFECT_RATE, BURST_RATE, site.rng)
        rows = pool.clean(labels, site.light, 1, site.rng)
        _, told = follow(site.reference, rows, Drift())
        blocks += len(told)
        told_of += alarms(told)
        jumps += sum(report.abrupt for report in told)
        most.append(max(report.gradual for report in told))
        normal.append(float(np.mean([report.normal for report in told])))
        by_score += alarms_by_frame(site.scores, rows[:, 0])
        by_luma += alarms_by_frame(site.lumas, rows[:, SCALARS.index("luma")])
    return {
        "commissioning_frames": commissioning,
        "cycle": cycle,
        "seeds": seeds,
        "frames": seeds * frames,
        "blocks": blocks,
        "alarms": told_of,
        "abrupt": jumps,
        "most_gradual": round(max(most), 3),
        "normal": round(float(np.mean(normal)), 4),
        "alarms_by_frame": {"score": by_score, "luma": by_luma},
    }


def _defects(pool: Pool, seeds: int, rate: float, bursts: float, frames: int = 10_000) -> dict[str, Any]:
    share, told_of, jumps, most = [], 0, 0, 0.0
    for seed in range(seeds):
        site = Site.commissioned(pool, seed, frames)
        labels = labels_of(frames, rate, bursts, site.rng)
        _, told = follow(site.reference, pool.clean(labels, site.light, 1, site.rng), Drift())
        share.append(float((labels > 0).mean()))
        told_of += alarms(told)
        jumps += sum(report.abrupt for report in told)
        most = max(most, *(report.gradual for report in told))
    return {
        "rate": rate,
        "bursts": bursts,
        "share": round(float(np.mean(share)), 3),
        "frames": seeds * frames,
        "alarms": told_of,
        "abrupt": jumps,
        "most_gradual": round(most, 3),
    }


def _condition(pool: Pool, sites: list[Site], kind: str, severity: float) -> dict[str, Any]:
    """Step to a severity, or ramp, from somewhere inside a block; then back to normal at once."""
    found: dict[str, Any] = {"kind": kind, "severity": severity}
    for way in ("step", "ramp"):
        delays: list[int | None] = []
        back: list[int | None] = []
        jumps, distances = [], []
        for seed, site in enumerate(sites):
            rng = np.random.default_rng((seed, KINDS.index(kind), round(10 * severity)))
            length = site.reference.block_frames
            labels = labels_of(BEFORE, DEFECT_RATE, BURST_RATE, rng)
            drift, _ = follow(site.reference, pool.clean(labels, site.light, 1, rng), Drift())
            offset = int(rng.integers(length))
            rise = np.linspace(0, severity, RAMP) if way == "ramp" else np.zeros(0)
            severities = np.concatenate([np.zeros(offset), rise, np.full(AFTER, severity)])
            labels = labels_of(len(severities), DEFECT_RATE, BURST_RATE, rng)
            drift, told = follow(site.reference, pool.worse(labels, kind, severities, rng), drift)
            first = next((n for n, report in enumerate(told, 1) if report.drifting), None)
            delays.append(None if first is None else first * length - offset)
            jumps.append(sum(report.abrupt for report in told))
            distances.append(float(np.median([report.distance for report in told[-10:]])))
            labels = labels_of(BEFORE, DEFECT_RATE, BURST_RATE, rng)
            drift, told = follow(site.reference, pool.worse(labels, kind, np.zeros(BEFORE), rng), drift)
            ended = next((n for n, report in enumerate(told, 1) if not report.drifting), None)
            back.append(None if first is None or ended is None else ended * length)
        found[way] = {
            "delays": delays,
            "abrupt": jumps,
            "back": back,
            "distance": round(float(np.median(distances)), 2),
        }
    return found


def _cost() -> dict[str, float]:
    """Return milliseconds of one core per frame of 128 and of 224 pixels, D 512, and per block."""
    rng = np.random.default_rng(0)
    costs = {}
    for side in (128, 224):
        picture = rng.integers(0, 256, (side, side, 3), dtype=np.uint8)
        seen = Observation(0, 0.0, picture, rng.standard_normal(512).astype(np.float32), 0.0, 0, 0.1)
        began = time.process_time()
        for _ in range(200):
            measure(seen)
        costs[f"frame_{side}_ms"] = round((time.process_time() - began) / 200 * 1e3, 2)
    rows = rng.standard_normal((3000, len(SCALARS) + 512))
    began = time.process_time()
    reference = DriftReference.from_rows(rows)
    costs["reference_s"] = round(time.process_time() - began, 2)
    drift = Drift()
    began = time.process_time()
    for start in range(0, 3000, 50):
        drift = update(drift, reference, summarise(rows[start : start + 50]))
    costs["block_ms"] = round((time.process_time() - began) / 60 * 1e3, 2)
    return costs


def _markdown(figures: dict[str, Any]) -> str:
    clean = [
        [
            str(row["commissioning_frames"]),
            f"{100 * row['cycle']:.0f} %",
            f"{row['frames']:,}".replace(",", " "),
            str(row["alarms"]),
            str(row["abrupt"]),
            f"{row['most_gradual']:.2f}",
            f"{100 * row['normal']:.1f} %",
            f"{row['alarms_by_frame']['score']} / {row['alarms_by_frame']['luma']}",
        ]
        for row in figures["clean"]
    ]
    defects = [
        [
            f"{100 * row['share']:.0f} %",
            f"{100 * row['bursts']:.0f} %",
            str(row["frames"]),
            str(row["alarms"]),
            str(row["abrupt"]),
            f"{row['most_gradual']:.2f}",
        ]
        for row in figures["defects"]
    ]
    conditions = [
        [
            row["kind"],
            f"{row['severity']:g}",
            _span(row["step"]["delays"]),
            _times(row["step"]["abrupt"]),
            _span(row["ramp"]["delays"]),
            _severity_found(row),
            _times(row["ramp"]["abrupt"]),
            _span(row["step"]["back"]),
            f"{row['step']['distance']:.1f}",
        ]
        for row in figures["conditions"]
    ]
    first, cost = figures["clean"][0], figures["cost"]
    per_alarm = f"{FRAMES_PER_FALSE_ALARM:,}".replace(",", " ")
    return (
        "# Drift on the simulated line\n\n"
        "Written by `python -m benchmarks.drift_calibration`: `mekiki-line`, ONNX Runtime.\n"
        f"Machine: {machine.in_words(figures['machine'])}.\n\n"
        "Streams are drawn from a pool of rendered parts; no part of commissioning comes again.\n"
        f"3 % defects and bursts, light that wanders by {100 * WANDER:.0f} % and cycles over {CYCLE_FRAMES} frames.\n\n"
        "## Nothing has changed\n\n"
        f"Designed for one alarm in {per_alarm} frames, 100 hours at 3600 parts an hour.\n"
        f"No alarm in {first['frames']} frames would bound the rate, with 95 % confidence,"
        f" by {3 * FRAMES_PER_FALSE_ALARM / first['frames']:.1f} per {per_alarm}.\n"
        "Evidence of 1 is an alarm. The last column is the same detector on single frames, by score / by brightness; it starts afresh after each alarm.\n\n"
        + machine.table(
            [
                "commissioning frames",
                "daily cycle",
                "clean frames",
                "alarms",
                "abrupt",
                "highest evidence",
                "normal",
                "alarms by frame",
            ],
            clean,
        )
        + "\n## Ten times the defects, and more\n\n"
        f"{figures['seeds']} seeds.\n\n"
        + machine.table(
            ["defects", "burst blocks", "frames", "alarms", "abrupt", "highest evidence"], defects
        )
        + "\n## Something has changed\n\n"
        f"Median (lowest to highest) of {figures['seeds']} seeds, in frames; - where some seed does not find it.\n"
        f"A step, or a ramp over {RAMP} frames; the change begins anywhere in a block of 50.\n"
        "Severity is what the ramp had reached when it was found. Back: until a cleaned lens is called normal.\n"
        "Distance 1 is what one clean block in a hundred reaches.\n\n"
        + machine.table(
            [
                "kind",
                "severity",
                "step found after",
                "abrupt",
                "ramp found after",
                "at severity",
                "abrupt",
                "back after",
                "distance",
            ],
            conditions,
        )
        + "\n## Cost\n\n"
        f"One core: {cost['frame_128_ms']} ms per frame of 128 pixels, {cost['frame_224_ms']} ms of 224,"
        f" {cost['block_ms']} ms per block, {cost['reference_s']} s for a reference of 3000 frames, D 512.\n"
    )


def _span(values: list[int | None]) -> str:
    known = [value for value in values if value is not None]
    if len(known) < len(values):
        return f"- ({len(known)} of {len(values)})"
    return f"{np.median(known):.0f} ({min(known)} to {max(known)})"


def _times(values: list[int]) -> str:
    return f"{np.mean(values):.1f}"


def _severity_found(row: dict[str, Any]) -> str:
    delays = row["ramp"]["delays"]
    if None in delays:
        return "-"
    return f"{row['severity'] * min(1.0, float(np.median(delays)) / RAMP):.2f}"


if __name__ == "__main__":
    main()
