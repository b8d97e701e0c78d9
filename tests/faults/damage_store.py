"""Damage a store, and look at what comes of it: ``python -m tests.faults.damage_store --seeds 200``."""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from agent.store.database import NAME
from agent.store.integrity import check
from agent.store.recovery import put_aside
from tests.support.verdicts import a_store, a_verdict, close_stores

PAGE = 4096
RESULTS = 400
"""Of each of two stations; the first half is delivered."""
_ROWS_OF_A_PAGE = 6


@dataclass(frozen=True)
class Outcome:
    """What came of one damaged page."""

    noticed: bool
    lost: int
    took_s: float


def fill(data: Path) -> int:
    """Make a store and return how many pages it has."""
    store = a_store(data)
    rows = []
    for _ in range(RESULTS // 10):
        rows += store.commit([a_verdict(station) for _ in range(10) for station in ("top", "side")])
    store.commit([], [row.id for row in rows[:RESULTS]])
    for row in rows[:20]:
        event_id = row.payload.split('"event_id":"')[1][:26]
        store.label(event_id, "ok", "yamada", "2026-01-01T00:00:00.000Z")
    store.close()
    return (data / NAME).stat().st_size // PAGE


def overwrite(data: Path, page: int, dice: random.Random) -> bytes:
    """Write noise over a page, whole or torn in its middle; return the file."""
    content = bytearray((data / NAME).read_bytes())
    first = page * PAGE
    last = first + dice.choice((512, 2048, PAGE))
    content[first:last] = dice.randbytes(last - first)
    (data / NAME).write_bytes(content)
    return bytes(content)


def survive(data: Path, seed: int) -> Outcome:
    """Damage one page of a fresh store, start on it twice, and require the promises."""
    dice = random.Random(seed)
    pages = fill(data)
    damaged = overwrite(data, dice.randrange(pages), dice)
    began = time.monotonic()
    store = a_store(data)
    took_s = time.monotonic() - began
    noticed = store.damage is not None
    assert took_s < 10, f"seed {seed}: the start took {took_s:.1f} s"
    if noticed:
        (aside,) = put_aside(data)
        assert aside.read_bytes() == damaged, f"seed {seed}: what was put aside is not what was there"
    waiting = {(row.station, row.seq) for row in store.backlog(0, 10**6)}
    lost = 0
    for station in ("top", "side"):
        assert store.last_seq(station) == RESULTS, (
            f"seed {seed}: numbers of {station} go on at {store.last_seq(station)}"
        )
        kept = {row.seq for row in store.between(station, 1, 10**6, 10**6)}
        lost += RESULTS - len(kept)
        due = {(station, seq) for seq in kept if seq > RESULTS // 2}
        assert due <= waiting, f"seed {seed}: {sorted(due - waiting)[:5]} wait no more"
    assert lost <= _ROWS_OF_A_PAGE, f"seed {seed}: {lost} results are lost with one page"
    rows = store.commit([a_verdict("top"), a_verdict("side")])
    assert [row.seq for row in rows] == [RESULTS + 1] * 2
    store.close()
    problems = [line for line in check(data).problems if "missing" not in line]
    assert problems == [], f"seed {seed}: {problems}"
    aside_before = len(list(data.glob("*.damaged-*")))
    again = a_store(data)
    assert len(list(data.glob("*.damaged-*"))) == aside_before, f"seed {seed}: salvaged twice"
    assert again.last_seq("top") == RESULTS + 1
    close_stores()
    return Outcome(noticed, lost, took_s)


def main() -> None:
    """Damage one store per seed and print what came of it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=200)
    count = parser.parse_args().seeds
    outcomes = []
    for seed in range(count):
        with tempfile.TemporaryDirectory() as folder:
            outcomes.append(survive(Path(folder) / "data", seed))
    lost = dict(sorted(Counter(outcome.lost for outcome in outcomes).items()))
    sys.stdout.write(
        f"{count} seeds: {sum(o.noticed for o in outcomes)} noticed at start, results lost: count {lost}, "
        f"slowest start {max(o.took_s for o in outcomes):.2f} s\n"
    )


if __name__ == "__main__":
    main()
