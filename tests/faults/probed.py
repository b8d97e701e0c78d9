"""The agent with two ears for the plant: ``python -m tests.faults.probed run -c config.yaml``.

On SIGUSR2 it writes what its memory consists of as one line of JSON to the file named by ``PROBE``; with
``PROBE_TRACE`` also which lines of Python hold most. On SIGUSR1 it keeps ``PROBE_LEAK`` bytes for ever: a
leak on purpose, which the soak has to find.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import signal
import sys
import threading
import tracemalloc
from collections import Counter
from pathlib import Path
from types import FrameType
from typing import Any

from agent.__main__ import main

_kept: list[bytes] = []


class _MallInfo(ctypes.Structure):
    _fields_ = [
        (name, ctypes.c_size_t)
        for name in [
            "arena",
            "ordblks",
            "smblks",
            "hblks",
            "hblkhd",
            "usmblks",
            "fsmblks",
            "uordblks",
            "fordblks",
            "keepcost",
        ]
    ]


def _leak(_signal: int, _frame: FrameType | None) -> None:
    _kept.append(os.urandom(int(os.environ.get("PROBE_LEAK", "0"))))


def _tell(_signal: int, _frame: FrameType | None) -> None:
    libc = ctypes.CDLL(None)
    libc.mallinfo2.restype = _MallInfo
    gc.collect()
    if os.environ.get("PROBE_TRIM"):
        libc.malloc_trim(0)
    info = libc.mallinfo2()
    found: dict[str, Any] = {
        "malloc_used": info.uordblks,
        "malloc_free": info.fordblks,
        "malloc_arenas": info.arena,
        "malloc_mmap": info.hblkhd,
        "blocks": sys.getallocatedblocks(),
        "threads": sorted(thread.name for thread in threading.enumerate()),
        "objects": Counter(type(one).__qualname__ for one in gc.get_objects()).most_common(60),
    }
    if tracemalloc.is_tracing():
        top = tracemalloc.take_snapshot().statistics("lineno")
        found["traced"] = tracemalloc.get_traced_memory()[0]
        found["lines"] = [(str(one.traceback), one.size, one.count) for one in top[:60]]
    with Path(os.environ["PROBE"]).open("a", encoding="utf-8") as file:
        file.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    signal.signal(signal.SIGUSR1, _leak)
    signal.signal(signal.SIGUSR2, _tell)
    if os.environ.get("PROBE_TRACE"):
        tracemalloc.start()
    sys.exit(main())
