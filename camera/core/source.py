"""What every camera promises the feed, and which one a piece of config.yaml means."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import PurePath
from threading import Event
from typing import Protocol, TypeVar

from camera.core.frame import Capture, Fault, Image, Receipt
from camera.core.kept_region import KeptRegion

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class SourceStats:
    """How a source is doing, counted since it was made.

    Attributes:
        connected: pictures are coming, or have come to their regular end.
        frames: pictures that were handed on.
        dropped: pictures of a camera that a newer one pushed out before they were handed on.
        reconnects: times that a camera delivered again after it was offline.
        stalls: times that an open camera stayed silent for its read time-out.
        problem: why it cannot be opened at all, in words that end without a full stop; None where it can.
        trouble: what is wrong beside the pictures, which go on coming, in such words; None where nothing is.
    """

    connected: bool = False
    frames: int = 0
    dropped: int = 0
    reconnects: int = 0
    stalls: int = 0
    problem: str | None = None
    trouble: str | None = None


class Source(Protocol):
    """Where captures come from. One thread iterates; any thread may look at `stats`."""

    @property
    def live(self) -> bool:
        """True: time goes on without us, the newest frame wins. False: it waits for the inspector."""

    @property
    def stats(self) -> SourceStats:
        """The counters as they are now."""

    def captures(self, stop: Event) -> Iterator[Capture]:
        """Yield captures until the end of a file, or until `stop`; a camera has no end."""


def paced(
    items: Iterable[tuple[float, Item]],
    stop: Event,
    *,
    catch_up: bool = False,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[Item]:
    """Yield each item when its time has come, the first at once, until `stop`.

    Args:
        items: times in s with what is due then; only the differences of the times count, and equal times
            mean at once. An item is made before its turn is waited for.
        catch_up: True: a delay is made up for, however long, as a camera goes on without us. False: one of
            up to the gap before an item is, a longer one moves everything that follows.
        clock: the time in s that `stop.wait` waits in.
    """
    due_s = released_s = clock()
    last_s: float | None = None
    for at_s, item in items:
        due_s += 0.0 if last_s is None else at_s - last_s
        if not catch_up:
            due_s = max(due_s, released_s)
        last_s, wait_s = at_s, due_s - clock()
        if wait_s > 0:
            stop.wait(wait_s)
        if stop.is_set():
            return
        released_s = clock()
        yield item


def stamp(
    image: Image | None = None,
    *,
    part_id: str | None = None,
    fault: Fault | None = None,
    detail: str = "",
    kept: KeptRegion | None = None,
    receipt: Receipt | None = None,
) -> Capture:
    """Return a capture of this moment; its picture is read-only from here on."""
    if image is not None:
        image.setflags(write=False)
    return Capture(image, datetime.now(UTC), time.monotonic_ns(), part_id, fault, detail, kept, receipt)


def file_id(path: PurePath) -> str:
    """Return `path` as a part id: forward slashes, and always text that UTF-8 can carry."""
    return os.fsencode(path.as_posix()).decode("utf-8", "replace")


def is_text(path: PurePath) -> bool:
    """Whether `path` is text that UTF-8 can carry, as libraries want it."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return False
    return True
