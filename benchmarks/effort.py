"""What work costs: CPU seconds of this process, and the energy of the processors where the machine tells it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

POWERCAP = Path("/sys/class/powercap")
"""Where Linux shows the energy counters (RAPL) of Intel's and AMD's processors; often to root alone."""

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Effort:
    """Of one piece of work.

    Attributes:
        cpu_s: of all threads of this process.
        joules: of all processors, whoever used them meanwhile; None where the machine does not tell.
    """

    cpu_s: float
    joules: float | None

    def __sub__(self, other: Effort) -> Effort:
        joules = None if self.joules is None or other.joules is None else self.joules - other.joules
        return Effort(self.cpu_s - other.cpu_s, joules)


def effort_of(work: Callable[[], Result], folder: Path = POWERCAP) -> tuple[Result, Effort]:
    """Do `work`; return what it returns and what it cost.

    Args:
        work: what to do; at most some minutes, because the counters begin again at zero.
        folder: where the energy counters are.
    """
    before, cpu_s = _counters(folder), time.process_time()
    result = work()
    cpu_s = time.process_time() - cpu_s
    after = _counters(folder)
    if not before or set(before) != set(after):
        return result, Effort(cpu_s, None)
    used_uj = sum((after[zone][0] - count) % (limit + 1) for zone, (count, limit) in before.items())
    return result, Effort(cpu_s, used_uj / 1e6)


def per_part(rounds: Sequence[Effort], parts: int) -> dict[str, float | None]:
    """Return the medians of rounds of so many parts each, for one part."""
    joules = [effort.joules for effort in rounds if effort.joules is not None]
    return {
        "cpu_ms": round(1e3 * float(np.median([effort.cpu_s for effort in rounds])) / parts, 2),
        "joules": round(float(np.median(joules)) / parts, 3) if joules else None,
    }


def _counters(folder: Path) -> dict[str, tuple[int, int]]:
    """Return energy in microjoules, and where it begins again, of each processor package."""
    found = {}
    # Other zones are parts of a package, or the whole retained, and would be counted twice.
    for zone in sorted(folder.glob("intel-rapl:*")):
        try:
            if not (zone / "name").read_text().startswith("package"):
                continue
            found[zone.name] = (
                int((zone / "energy_uj").read_text()),
                int((zone / "max_energy_range_uj").read_text()),
            )
        except (OSError, ValueError):
            return {}
    return found
