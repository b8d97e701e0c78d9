"""Everything breaks, again and again, for so many minutes: ``python -m tests.faults.soak --minutes 120``.

Writes ``benchmarks/results/soak.md``. At the end each result that was stored must have arrived, once more
where a broker forgot it, under one number and one event id, nothing may have been given up, and neither the
agent nor the process of its learners may have grown. Exit code 1 where that does not hold.

The time is divided: 40 % with every fault but the agent's death, 50 % without the learners' death either, so
that their process too grows old enough to be judged, 10 % with all. With ``--only`` one kind of fault is
repeated, which shows what it leaves behind, and nothing is killed besides.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import yaml

from tests.faults.growth import Trend, growing, trends
from tests.faults.kinds import FAULTS
from tests.faults.plant import Plant, plant


@dataclass
class Soak:
    """A run: what was broken, and what came of it.

    Attributes:
        leak: have the agent lose memory at each fault.
        recovery: of each kind, the seconds that each recovery took.
        moved: of each kind, by how many MB the agent's own memory changed each time.
        judged: the spans of time over which nothing may have grown.
    """

    one: Plant
    rng: random.Random
    leak: bool = False
    resent: int = 0
    recovery: dict[str, list[float]] = field(default_factory=dict)
    moved: dict[str, list[float]] = field(default_factory=dict)
    judged: list[tuple[float, float]] = field(default_factory=list)

    def run(self, minutes: float, names: Sequence[str]) -> None:
        """Break these things at random."""
        until = time.monotonic() + 60 * minutes
        while time.monotonic() < until:
            self.breaks(self.rng.choice(names))

    def breaks(self, name: str) -> None:
        """Break and mend one thing, and note what it cost."""
        before = self._private_mb()
        self.recovery.setdefault(name, []).append(broken(self.one, name, self.rng))
        if self.leak:
            os.kill(self.one.pid, signal.SIGUSR1)
        if name == "broker_killed":  # before retention takes what it has forgotten
            self.resent += self.one.ask_for_missing()
        time.sleep(self.rng.uniform(0, 2))
        after = self._private_mb()
        if name != "agent_killed" and before and after:
            self.moved.setdefault(name, []).append(after - before)
        print(f"{name}: {self.recovery[name][-1]:.2f} s, {after:.1f} MB", flush=True)

    def grown(self) -> list[dict[str, Trend]]:
        """Return the trends over each span that is judged."""
        samples = [each for life in self.one.lives for each in life]
        return [trends([each for each in samples if a <= each.at_s < b]) for a, b in self.judged]

    def by_minute(self) -> list[dict[str, float]]:
        """Return one sample for each minute."""
        samples = [each for life in self.one.lives for each in life]
        return [asdict(each) for each in samples[::30]]

    def _private_mb(self) -> float:
        life = self.one.lives[-1]
        return float(np.median([each.private_mb for each in life[-3:]])) if life else 0.0


def broken(one: Plant, name: str, rng: random.Random) -> float:
    """Break and mend one thing; returns the seconds from then to the arrival of a result decided since."""
    FAULTS[name](one, rng)
    mended_s, began = time.time(), time.monotonic()
    one.recovered(mended_s)
    return time.monotonic() - began


@contextmanager
def small_disk(folder: Path) -> Iterator[Path | None]:
    """Mount a disk of 96 MB for the data; None where that may not be done here."""
    place = folder / "disk"
    place.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=96m", "tmpfs", place], capture_output=True)
    if done.returncode:
        yield None
        return
    try:
        yield place / "data"
    finally:
        subprocess.run(["umount", "--lazy", place], check=True)


def main() -> int:
    """Run, report, and return the exit code."""
    arguments = _arguments()
    if arguments.leak:
        os.environ |= {"PROBE": os.devnull, "PROBE_LEAK": str(arguments.leak)}
    folder = Path(tempfile.mkdtemp(prefix="soak-"))
    with small_disk(folder) as data, plant(folder, data) as one:
        soak = Soak(one, random.Random(arguments.seed), bool(arguments.leak))
        names = [name for name in FAULTS if name != "disk_full" or data is not None]
        began = time.monotonic()
        if arguments.only:
            soak.run(arguments.minutes, arguments.only)
            soak.judged.append((time.monotonic() - 30 * arguments.minutes, time.monotonic()))
        else:
            # Nothing can be said about the growth of what does not live for long.
            surviving = [name for name in names if name != "agent_killed"]
            soak.run(0.4 * arguments.minutes, surviving)
            half = time.monotonic()
            soak.run(0.5 * arguments.minutes, [name for name in surviving if name != "learner_killed"])
            soak.judged += [((began + half) / 2, half), (half, time.monotonic())]
            soak.run(0.1 * arguments.minutes, names)
        for _ in range(arguments.kills):
            soak.breaks("agent_killed")
        soak.resent += one.ask_for_missing()
        lost = _lost(one)
        code = one.stop()
        stored, missing, wrong = one.stored(), one.missing(), one.subscriber.wrong
    shutil.rmtree(folder, ignore_errors=True)
    problems = judge(stored, missing, wrong, lost, code)
    for found in soak.grown():
        problems += growing(found)
    _report(arguments.report, " ".join(sys.argv[1:]), soak, sum(map(len, stored.values())), lost, problems)
    print("\n".join(problems) or "nothing lost, nothing grown")
    return 1 if problems else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=120.0)
    parser.add_argument("--kills", type=int, default=0, help="kill -9 so often, on top")
    parser.add_argument("--only", choices=FAULTS, action="append", help="repeat this kind of fault alone")
    parser.add_argument("--leak", type=int, default=0, help="bytes that the agent is to lose at each fault")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--report", default="soak")
    return parser.parse_args()


def judge(
    stored: dict[str, dict[int, str]], missing: dict[str, list[int]], wrong: list[str], lost: int, code: int
) -> list[str]:
    """Return what broke a promise."""
    problems = [f"{station}: {len(numbers)} never arrived" for station, numbers in missing.items() if numbers]
    for station, rows in stored.items():
        gaps = max(rows) - min(rows) + 1 - len(rows)
        if gaps:
            problems.append(f"{station}: {gaps} numbers are not in the store")
    problems += wrong[:5]
    if lost:
        problems.append(f"{lost} results were lost or given up")
    if code:
        problems.append(f"the agent ended with exit code {code}")
    return problems


def _lost(one: Plant) -> int:
    port = yaml.safe_load(one.config.read_text())["metrics"]["port"]
    text = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10).read().decode()
    found = [line.split() for line in text.splitlines() if line.startswith("mekiki_results_")]
    numbers = {name: float(value) for name, value in found}
    return int(numbers.get("mekiki_results_lost_total", -1) + numbers.get("mekiki_results_given_up_total", 0))


def _report(name: str, how: str, soak: Soak, count: int, lost: int, problems: list[str]) -> None:
    from benchmarks.machine import describe, in_words, table, write

    machine = describe("onnxruntime", "paho-mqtt")
    rows = [
        [
            fault,
            str(len(times)),
            *(f"{np.percentile(times, q):.2f}" for q in (50, 99, 100)),
            f"{1024 * float(np.mean(soak.moved[fault])):+.0f}" if fault in soak.moved else "",
        ]
        for fault, times in sorted(soak.recovery.items())
    ]
    everything = [one for times in soak.recovery.values() for one in times]
    after = (
        "; ".join(problems) or "all have arrived, each under one number and one event id, nothing has grown"
    )
    grown = soak.grown()
    spans = "".join(
        f"\n\nOver {(until - since) / 60:.0f} minutes of one life of the agent:\n\n" + _trends(found, table)
        for (since, until), found in zip(soak.judged, grown, strict=True)
    )
    text = (
        f"# Soak\n\nWritten by `python -m tests.faults.soak {how}`. Machine: {in_words(machine)}.\n\n"
        f"{count} results stored, {lost} lost or given up;"
        f" {soak.resent} that a killed broker had acknowledged and forgotten were asked for again."
        f" Then: {after}.\n\nFrom the mending of a fault to the arrival of a result decided since, and by how"
        " much the agent's own memory was another one then, which a later fault may undo:\n\n"
        + table(["fault", "times", "p50, s", "p99, s", "slowest, s", "kB each"], rows)
        + f"\n\nAll: {len(everything)} faults, p99 {np.percentile(everything, 99):.2f} s.{spans}\n"
    )
    facts = {"machine": machine, "recovery_s": soak.recovery, "stored": count, "resent": soak.resent}
    told = [{key: asdict(one) for key, one in found.items()} for found in grown]
    more = {"lost": lost, "growth": told, "by_minute": soak.by_minute(), "problems": problems}
    write(name, {**facts, **more}, text)


def _trends(found: dict[str, Trend], table: Callable[[list[str], list[list[str]]], str]) -> str:
    rows = [
        [
            name,
            f"{one.first:.1f}",
            f"{one.last:.1f}",
            f"{one.per_h:+.2f}",
            f"{one.low:+.2f} to {one.high:+.2f}",
        ]
        for name, one in found.items()
    ]
    return table(["what", "first quarter", "last quarter", "an hour", "interval of 95 %"], rows)


if __name__ == "__main__":
    sys.exit(main())
