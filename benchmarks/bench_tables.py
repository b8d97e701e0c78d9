"""Answers of `bench_batclip` to tables with intervals, a plot, and JSON."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from numpy.typing import NDArray

from benchmarks.bootstrap import RESAMPLES, interval
from benchmarks.corruptions import KINDS
from benchmarks.machine import describe, in_words, table, write

mpl.use("Agg")
from matplotlib import pyplot as plt

PLOTS = Path(__file__).parents[1] / "docs" / "img"
SHORT = ("gauss", "shot", "impulse", "defocus", "glass", "motion", "zoom", "snow", "frost", "fog", "bright", "contrast", "elastic", "pixelate", "jpeg")  # fmt: skip

HARD = 0.6
"""Kinds of which the frozen model names fewer right are called hard, the others mild."""

Job = tuple[str, str, str]
"""Model kind, mode, method."""

Right = NDArray[np.bool_]
"""``(15, N)``: corruption, photo."""


def write_tables(args: argparse.Namespace, found: Mapping[Job, Mapping[str, Any]]) -> None:
    """Write ``results/bench_batclip-<severity>`` and the plot; print one of the two forms."""
    labels = np.load(args.out / "labels.npy")
    right = {job: of["answers"] == labels[: of["answers"].shape[1]] for job, of in found.items()}
    figures: dict[str, Any] = {
        "machine": describe("torch", "open_clip_torch", "timm"),
        "severity": args.severity,
        "photos": {"reset": args.photos, "continual": args.continual_photos},
        "training_seed": args.seed,
        "results": [result(job, right, found[job]["step_s"]) for job in found],
    }
    machine = in_words(figures["machine"])
    parts = [
        f"# BATCLIP and others on corrupted photos, severity {args.severity}\n",
        f"Written by `python -m benchmarks.bench_batclip --severity {args.severity}`. Models: photo-clip-{args.seed}"
        f" and photo-diffclip-{args.seed}, trained here on CIFAR-10 photos by `train_clip`; pictures: `test-dev`"
        f" corrupted by our own code, {args.photos} of each kind with resets and {args.continual_photos} without,"
        f" batches of 200. The numbers compare methods with each other; they are not CIFAR-10-C's. Intervals: 95 %,"
        f" bootstrap over photos, {RESAMPLES} resamples, paired for differences; they do not cover the chance of"
        f" training or of the order of photos. Gains in points; hard kinds are those of which the frozen model names fewer"
        f" than {HARD:.0%} right, the last fifth is that of each kind's photos. Machine: {machine}.\n",
    ]
    parts += [_mode(mode, figures["results"]) for mode in args.modes]
    name = args.name or f"bench_batclip-{args.severity}" + (f"-seed{args.seed}" if args.seed else "")
    if args.json:
        print(json.dumps(figures, indent=1))
    else:
        write(name, figures, "\n".join(parts))
        if "frozen" in args.methods:
            draw(args, right, PLOTS / f"{name}.png")


def result(job: Job, right: Mapping[Job, Right], step_s: NDArray[np.float64]) -> dict[str, Any]:
    """Return accuracy of one method with one model in one mode, in percent, and against the frozen model."""
    kind, mode, method = job
    mine = right[job]
    frozen = right.get((kind, mode, "frozen"))
    of_photo = mine.mean(0)
    answer: dict[str, Any] = {
        "model": kind,
        "mode": mode,
        "method": method,
        "accuracy": interval(of_photo),
        "of_kind": {name: interval(mine[row]) for row, name in enumerate(KINDS)},
        "step_ms": round(1e3 * float(np.median(step_s)), 1),
    }
    if frozen is not None and method != "frozen":
        answer["gain"] = interval(of_photo - frozen.mean(0))
        gains = 100 * (1.0 * mine - frozen)  # (15, N)
        hard = frozen.mean(1) < HARD
        answer["gain_hard"] = _mean(gains[hard])
        answer["gain_mild"] = _mean(gains[~hard])
        answer["gain_last_fifth"] = _mean(gains[:, -mine.shape[1] // 5 :])
        answer["gain_of_kind"] = {name: interval(1.0 * mine[r] - frozen[r]) for r, name in enumerate(KINDS)}
    return answer


def _mean(values: NDArray[np.float64]) -> float | None:
    return round(float(values.mean()), 2) if values.size else None


def draw(args: argparse.Namespace, right: Mapping[Job, Right], file: Path) -> None:
    """Plot how far each method is above or below the frozen model, per corruption in the order it came."""
    figure, axes = plt.subplots(len(args.modes), len(args.kinds), figsize=(13, 3.4 * len(args.modes)), squeeze=False, sharey=True)  # fmt: skip
    for row, mode in enumerate(args.modes):
        order = list(range(len(KINDS)))[:: -1 if mode.endswith("reversed") else 1]
        for column, kind in enumerate(args.kinds):
            axis = axes[row][column]
            for method in args.methods:
                if method != "frozen" and (kind, mode, method) in right:
                    gain = 100 * (right[kind, mode, method].mean(1) - right[kind, mode, "frozen"].mean(1))
                    axis.plot(gain[order], marker=".", label=method)
            axis.axhline(0, color="black", linewidth=1)
            axis.set_title(f"{kind}, {mode}")
            axis.set_xticks(range(len(KINDS)), [SHORT[number] for number in order], rotation=60)
            axis.set_ylabel("points above frozen")
    axes[0][0].legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(file, dpi=80)
    plt.close(figure)


def _mode(mode: str, results: list[dict[str, Any]]) -> str:
    heads = ["model", "method", "mean", "against frozen", "hard kinds", "mild kinds", "last fifth", "worst kind", "CPU ms a step"]  # fmt: skip
    rows, kinds, widest = [], [], 0.0
    for of in (result for result in results if result["mode"] == mode):
        row = [of["model"], of["method"], "{:.1f} ({:.1f}-{:.1f})".format(*of["accuracy"])]
        if "gain" in of:
            gains = of["gain_of_kind"]
            worst = min(gains, key=lambda name: gains[name][0])
            row.append("{:+.1f} ({:+.1f}..{:+.1f})".format(*of["gain"]))
            row += [_signed(of[part]) for part in ("gain_hard", "gain_mild", "gain_last_fifth")]
            row.append(f"{gains[worst][0]:+.1f} {worst}")
        else:
            row += [""] * 5
        rows.append([*row, f"{of['step_ms']:.0f}"])
        kinds.append([of["model"], of["method"]] + [f"{of['of_kind'][name][0]:.1f}" for name in KINDS])
        widest = max(widest, *(high - low for _, low, high in of["of_kind"].values()))
    title = "With a reset before each corruption" if mode == "reset" else f"Without resets: {mode}"
    return (
        f"## {title}\n\n{table(heads, rows)}\nAccuracy per kind, % (no interval is wider than"
        f" +-{widest / 2:.1f}):\n\n{table(['model', 'method', *SHORT], kinds)}"
    )


def _signed(points: float | None) -> str:
    return "" if points is None else f"{points:+.1f}"
