"""The figures of `gpu` in words."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.gpu_beside import LOAD, WITHOUT
from benchmarks.machine import in_words, table


def markdown(figures: dict[str, Any]) -> str:
    """Return the report of one run."""
    roof = figures["roofline"]
    rates = ", ".join(f"{rate:.3g} TFLOP/s in {precision}" for precision, rate in roof["tflops"].items())
    onnx = figures["onnxruntime"]
    said = (
        onnx
        if isinstance(onnx, str)
        else f"{onnx['provider']}, pictures a second by batch: {in_words(onnx['per_s'])}"
    )
    small = "A try of the script with a tiny model: says nothing about speed.\n\n" if figures["small"] else ""
    return (
        f"# {figures['card']['name']}\n\nWritten by `python -m benchmarks.gpu`. Wall time, medians of rounds in"
        f" turn. {figures['model']} inspects, {figures['step_model']} takes the steps, random weights but for"
        f" mekiki-line. Card: {in_words(figures['card'])}. Machine: {in_words(figures['machine'])}.\n\n{small}"
        f"Measured roof: {rates}; copies {roof['gbytes']:.0f} GB/s.\n\n"
        "## Pictures on torch\n\nAsked: at least 0.5 of the roofline.\n\n"
        + table(
            ["precision", "batch", "1/s", "1/s, whole call", "roofline, 1/s", "of it", "of it, whole call"],
            [[str(value) for value in row.values()] for row in figures["pictures"]],
        )
        + "\nThe tower alone has its pictures on the card; the whole call brings them there and its features back."
        "\n\n## Adapters in one batch\n\nAsked: at most 1.05.\n\n"
        + table(
            ["precision", "adapters", "one for all, ms", "one each, ms", "ratio"],
            [[str(value) for value in row.values()] for row in figures["adapters"]],
        )
        + "\n## One update step\n\nAsked: in fp32 at most 0.6 of the authors' at batch 16 and 0.75 at 64; the best"
        " 0.5.\n\n"
        + table(
            ["batch", "step", "ms", "of the authors'", "peak MiB above the model"],
            [["" if value is None else str(value) for value in row.values()] for row in figures["steps"]],
        )
        + f"\n## Inspection while a second thread learns\n\nAt {LOAD:.0%} of"
        f" {figures['beside']['top_per_s']} pictures a second, from when a picture is due; asked: p99 at most 1.2"
        " of that without.\n\n" + _beside(figures["beside"]["rounds"]) + f"\n## ONNX Runtime\n\n{said}\n"
    )


def _beside(rounds: dict[str, list[dict[str, float]]]) -> str:
    rows = []
    for way, of_way in rounds.items():
        ratios = [one["p99"] / alone["p99"] for one, alone in zip(of_way, rounds[WITHOUT], strict=True)]
        rows.append(
            [
                way,
                *(f"{np.median([one[key] for one in of_way]):.2f}" for key in ("p50", "p99")),
                f"{np.median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f})",
                *(f"{np.median([one[key] for one in of_way]):.0f}" for key in ("lost", "steps")),
            ]
        )
    return table(["learning", "p50, ms", "p99, ms", "p99 of that without (range)", "lost", "steps"], rows)
