"""Freed memory goes back to the system, however many threads have come and gone."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
import tracemalloc
import weakref
from dataclasses import replace

import pytest

from agent.base.event_id import ulid
from agent.base.heaps import Heaps
from agent.commands.result_handlers import RecentParts
from tests.support.verdicts import a_verdict

PROGRAM = """
import ctypes, json, re, sys, threading
from pathlib import Path
from agent.base.event_id import ulid
from agent.base.heaps import Heaps
from agent.commands.result_handlers import RecentParts

libc = ctypes.CDLL(None)
libc.malloc.restype = libc.open_memstream.restype = ctypes.c_void_p
libc.free.argtypes = [ctypes.c_void_p]

def private_mb():
    return sum(int(row.split()[1]) for row in Path("/proc/self/smaps_rollup").read_text().splitlines()
               if row.startswith("Private_Dirty")) / 1024

def heaps():
    text, size = ctypes.c_char_p(), ctypes.c_size_t()
    file = ctypes.c_void_p(libc.open_memstream(ctypes.byref(text), ctypes.byref(size)))
    libc.malloc_info(0, file)
    libc.fclose(file)
    return text.value.count(b"<heap nr=")

held = Heaps() if sys.argv[1] == "ours" else None

def work(together):
    blocks = [libc.malloc(60_000) for _ in range(200)]
    for block in blocks:
        ctypes.memset(block, 1, 60_000)
    together.wait()
    pins.append(libc.malloc(60_000))  # above all others: the heap cannot shrink from its end
    for block in blocks:
        libc.free(block)

pins, together = [], threading.Barrier(8)
before = private_mb()
threads = [threading.Thread(target=work, args=(together,)) for _ in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
if held is not None: held.turn()
print(json.dumps({"heaps": heaps(), "kept_mb": private_mb() - before}))
"""


def _found(whose: str) -> dict[str, float]:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, whose], capture_output=True, text=True, check=True, timeout=60
    )
    return dict(json.loads(done.stdout))


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's heaps")
def test_freed_memory_goes_back_to_the_system() -> None:
    """Eight threads at once need 12 MB each: without us that stays for ever, in a heap for each of them."""
    ours, plain = _found("ours"), _found("plain")
    assert ours["heaps"] <= 2
    assert ours["kept_mb"] < 8
    assert plain["heaps"] > 2
    assert plain["kept_mb"] > 40


def test_what_is_left_behind_in_circles_is_freed_though_most_of_the_memory_is_in_use() -> None:
    class Circle:
        def __init__(self) -> None:
            self.itself = self

    heaps = Heaps()
    gc.disable()
    try:
        heaps.settle()
        assert gc.get_freeze_count() > 10_000
        gone = weakref.ref(Circle())
        heaps.turn()
        assert gone() is None
        heaps.release()
        assert gc.get_freeze_count() == 0
    finally:
        gc.unfreeze()
        gc.enable()


def test_what_is_remembered_of_results_takes_its_memory_at_once() -> None:
    """A slow line fills it within hours: that is no growth that anybody should see."""
    recent = RecentParts(keep=1000)
    parts = [replace(a_verdict(), event_id=ulid(), frame=number) for number in range(1, 1501)]
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        recent.add(parts)
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 20_000
    assert [recent.frame(part.event_id) for part in parts[:500]] == [None] * 500
    assert [recent.frame(part.event_id) for part in parts[500:]] == list(range(501, 1501))
    assert recent.frame("") is recent.frame("\0" * 26) is recent.frame("ä" * 26) is None
