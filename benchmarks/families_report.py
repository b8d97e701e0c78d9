"""What `benchmarks.open_clip_families` found, as a table: ``results/open_clip_families``."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.machine import describe, in_words, table, write

HEADS = [
    "family",
    "architecture",
    "million parameters",
    "outcome",
    "error",
    "gradient error",
    "MB",
    "s",
    "peak GB",
]
_ORDER = ("works", "refused", "not tried", "ended", "broken", "no checkpoint")
_CACHE = re.compile(r"copy \S+ here")


def report(records: Sequence[Mapping[str, Any]], listed: int, seed: int) -> None:
    """Write JSON and Markdown of all records; the newest of an architecture counts.

    Args:
        records: lines of the output file.
        listed: how many architectures open_clip has.
        seed: of the random weights.
    """
    newest = {record["name"]: record for record in records}
    found = sorted(
        newest.values(), key=lambda one: (_ORDER.index(one["outcome"]), one["family"], one["name"])
    )
    machine = describe("open_clip_torch", "timm", "torch", "onnx", "onnxscript", "onnxruntime")
    write(
        "open_clip_families",
        {"machine": machine, "seed": seed, "listed": listed, "architectures": found},
        markdown(found, in_words(machine), listed, seed),
    )


def markdown(found: Sequence[Mapping[str, Any]], machine: str, listed: int, seed: int) -> str:
    """Return the report."""
    counts = Counter(one["outcome"] for one in found)
    totals = ", ".join(f"{counts[kind]} {kind}" for kind in _ORDER if counts[kind])
    return (
        "# Which architectures of open_clip become a bundle\n\nWritten by `python -m"
        f" benchmarks.open_clip_families`. Random weights, seed {seed}, LayerNorm gains of 0.5 to 1.5 and biases of"
        f" -0.5 to 0.5; `mekiki model build` in a process of its own. Machine: {machine}.\n\n"
        f"{len(found)} of open_clip's {listed} architectures: {totals}. A family is a kind of image tower and a kind"
        " of text tower, by open_clip's config. error: largest difference of ONNX Runtime to torch, relative to the"
        " largest feature, at most 2e-5 allowed; gradient error: of the gradient by a LayerNorm, at most 1e-4"
        " allowed.\n\n" + table(HEADS, [_row(one) for one in found]) + "\n## What the refused ones say\n\n"
        "Exit code 78, and one sentence:\n\n" + "".join(_said(one) for one in found if one.get("sentence"))
    )


def _row(one: Mapping[str, Any]) -> list[str]:
    parameters = f"{one['parameters'] / 1e6:,.0f}" if one.get("parameters") else "-"
    begun = [one["family"], one["name"], parameters, one["outcome"]]
    if one["outcome"] != "works":
        return [*begun, "-", "-", "-", f"{one['seconds']:.0f}" if "seconds" in one else "-", "-"]
    figures = [f"{one['error']:.1e}", f"{one['gradient_error']:.1e}", f"{one['size'] / 1e6:,.0f}"]
    return [*begun, *figures, f"{one['seconds']:.0f}", f"{one['peak'] / 1e9:.1f}"]


def _said(one: Mapping[str, Any]) -> str:
    # The folder of the cache is that of the user who ran it.
    sentence = _CACHE.sub("copy ~/.cache/huggingface/hub here", one["sentence"])
    return f"* {one['name']} ({one['outcome']}): {sentence.removeprefix('model: ')}\n"
