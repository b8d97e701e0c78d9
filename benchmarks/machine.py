"""What a figure was measured on, and how figures are written down."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"


def describe(*packages: str) -> dict[str, Any]:
    """Return the machine, the day, and the versions of `packages`."""
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        "system": platform.platform(terse=True),
        "python": platform.python_version(),
        "measured_on": datetime.now(UTC).date().isoformat(),
        **{package: metadata.version(package) for package in packages},
    }


def in_words(description: Mapping[str, Any]) -> str:
    """Return what `describe` found as one line of a report."""
    return ", ".join(f"{key} {value}" for key, value in description.items())


def in_turn(
    ways: Mapping[str, Callable[[], Any]], rounds: int, synchronize: Callable[[], None] | None = None
) -> dict[str, list[float]]:
    """Return seconds of each way, one per round, taken in turn; a first round warms up.

    CPU time, so that a busy machine counts less; with `synchronize`, which waits for a GPU, wall time.
    """
    clock = time.perf_counter if synchronize else time.process_time
    times: dict[str, list[float]] = {way: [] for way in ways}
    for round_ in range(rounds + 1):
        for way, call in ways.items():
            began = clock()
            call()
            if synchronize:
                synchronize()
            if round_:
                times[way].append(clock() - began)
    return times


def write(name: str, figures: dict[str, Any], markdown: str) -> None:
    """Write ``results/<name>.json`` and ``.md``, and print the latter."""
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    (RESULTS / f"{name}.md").write_text(markdown, encoding="utf-8")
    print(markdown)


def table(heads: list[str], rows: list[list[str]]) -> str:
    """Return a Markdown table."""
    lines = [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
    return "\n".join(lines + [f"| {' | '.join(row)} |" for row in rows]) + "\n"


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.machine()
