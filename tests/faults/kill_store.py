"""Kill a program while it writes into an adapter store, again and again, and look at what is left.

`python -m tests.faults.kill_store --kills 500` kills at random moments; `--steps` kills before every single
step that touches the disk. A forked child promotes, goes back, pins, prunes and remembers; it says on a pipe
what it is about to do and what it has done. After the kill the store must open, answer with a verified
version that is the one last done or the one being done, and never give a number again.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from adapters.core.adapter import Adapter
from adapters.core.version import Version, Window
from adapters.core.version_store import AdapterStore

WEIGHTS = "sha256:" + "0" * 64
AT = "2026-01-01T00:00:00.000Z"
SIZE = 4096
"""Numbers per tensor: files of 50 kB, so that a kill may fall into a write."""

_STEPS = {"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "fcntl.flock", "tempfile.mkdtemp"}


def an_adapter(seed: int = 0) -> Adapter:
    random_numbers = np.random.default_rng(seed)
    names = ("visual.ln_pre.weight", "visual.ln_pre.bias", "ln_final.weight")
    return Adapter({name: random_numbers.normal(size=SIZE).astype(np.float32) for name in names})


def a_version(seed: int, parent: int = 0) -> Version:
    return Version(
        adapter=an_adapter(seed),
        parent=parent,
        origin="learned",
        made_at=AT,
        window=Window(seed, seed + 10, 9),
        offset=seed / 8,
        recipe="sha256:recipe",
        condition={"lamp": "dim", "severity": 1.5},
        numbers={"gain": seed / 3},
    )


def open_store(folder: Path) -> AdapterStore:
    return AdapterStore(folder, an_adapter(), WEIGHTS, keep=3)


def work(folder: Path, say: Callable[[dict[str, Any]], None], rounds: int, begin: int) -> None:
    """Do what a learner does; `say` hears of each change before and after it."""
    store = open_store(folder)
    for turn in range(begin, begin + rounds):

        def change(number: int, body: Callable[[], object], turn: int = turn) -> None:
            # Two changes of a turn may have the same number: the turn is half, then whole.
            say({"begin": number, "turn": turn})
            body()
            say({"done": store.active().number, "last": store.last, "turn": turn})

        active = store.active().number
        memory = {"turn": turn}
        change(store.last + 1, lambda: store.promote(a_version(turn, active), AT, memory))  # noqa: B023
        if turn % 4 == 3:
            back = store.numbers()[0]
            store.pin(back)
            change(back, lambda: store.activate(back, AT, memory))  # noqa: B023
            store.unpin(back)
        store.prune()


@dataclass
class Observation:
    """What the parent has heard of the child, and may expect after its death."""

    active: int = 0
    last: int = 0
    turn: int = -1
    begun: dict[str, int] | None = None

    def hear(self, line: dict[str, int]) -> None:
        if "begin" in line:
            self.begun = line
        else:
            self.active, self.last, self.turn, self.begun = line["done"], line["last"], line["turn"], None


def run_child(
    folder: Path, seen: Observation, rounds: int, kill: Callable[[int], None] | None, step: int = 0
) -> bool:
    """Fork a child that works, kill it, hear what it said; return whether it came to its end."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.close(reader)
            if step:
                kill_before(step)
            work(
                folder,
                lambda line: os.write(writer, json.dumps(line).encode() + b"\n") and None,
                rounds,
                seen.turn + 1,
            )
            code = 0
        finally:
            os._exit(code)
    os.close(writer)
    if kill is not None:
        kill(child)
    with os.fdopen(reader, "rb") as pipe:
        for line in pipe.read().splitlines():
            seen.hear(json.loads(line))
    _, status = os.waitpid(child, 0)
    if os.WIFEXITED(status):
        assert os.WEXITSTATUS(status) == 0, "the child failed by itself: see its traceback"
        return True
    assert os.WTERMSIG(status) == signal.SIGKILL
    return False


def kill_before(step: int) -> None:
    """Make this process kill itself before its n-th step that touches the disk."""
    left = step

    def count() -> None:
        nonlocal left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    sync = os.fsync

    def fsync(handle: int) -> None:
        count()
        sync(handle)

    os.fsync = fsync
    sys.addaudithook(lambda event, _: count() if event in _STEPS else None)


def check(folder: Path, seen: Observation) -> str:
    """Open what a killed child left and require the promises; return what the kill met."""
    before = open_store_for_looking(folder)
    halves = [path for path in folder.iterdir() if path.name.startswith(".")] if folder.exists() else []
    store = open_store(folder)
    active = store.active()
    assert not [path for path in folder.iterdir() if path.name.startswith(".")], "half files are left"
    assert before.active().number == active.number, "looking and opening differ"
    # Before the first pointer was written, a version may lie there and nothing say that it answers.
    assert store.found == () or seen.turn == -1, store.found
    assert active.fallen_from is None
    possible = {seen.active} | ({seen.begun["begin"]} if seen.begun else set())
    assert active.number in possible, f"{active.number} answers, not one of {possible}"
    assert store.last >= seen.last, f"numbers went back from {seen.last} to {store.last}"
    turns = {seen.turn} | ({seen.begun["turn"]} if seen.begun else set())
    assert active.learner.get("turn", -1) in turns, (
        f"the learner's memory is {active.learner}, not of {turns}"
    )
    for number in store.numbers():
        store.load(number)
    met = "between" if seen.begun is None else "new" if active.number == seen.begun["begin"] else "old"
    seen.active, seen.last, seen.begun = active.number, store.last, None
    seen.turn = active.learner.get("turn", -1)
    return f"{met}, {'half a file' if halves else 'no half file'}"


def open_store_for_looking(folder: Path) -> AdapterStore:
    return AdapterStore(folder, an_adapter(), WEIGHTS, keep=3, reading=True)


def kill_at_random(folder: Path, kills: int, seed: int) -> dict[str, int]:
    """Return how often a kill met what."""
    rng = random.Random(seed)
    seen, met = Observation(), dict[str, int]()
    for _ in range(kills):

        def kill(child: int) -> None:
            time.sleep(rng.uniform(0, 0.06))
            os.kill(child, signal.SIGKILL)

        assert not run_child(folder, seen, 1_000_000, kill)
        what = check(folder, seen)
        met[what] = met.get(what, 0) + 1
    return met | {"versions promoted": seen.last}


def kill_at_every_step(root: Path) -> dict[str, int]:
    """Return how many steps there are, and what the kills met; each starts with a store of four versions."""
    met = dict[str, int]()
    for step in range(1, 10_000):
        folder = root / f"{step}"
        seen = Observation()
        assert run_child(folder, seen, 3, None)
        check(folder, seen)
        if run_child(folder, seen, 1, None, step):
            return met | {"steps": step - 1}
        what = check(folder, seen)
        met[what] = met.get(what, 0) + 1
    raise AssertionError("the child never came to its end")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", action="store_true", help="before every step instead")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if arguments.steps:
            met = kill_at_every_step(Path(folder))
        else:
            met = kill_at_random(Path(folder) / "adapters", arguments.kills, arguments.seed)
    sys.stdout.write(f"{json.dumps(met)}\n")


if __name__ == "__main__":
    main()
