"""Errands: what another thread is to do in between, and whoever asked for it waits for the outcome."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Generic, TypeVar

T = TypeVar("T")
CAPACITY = 256


class CallQueue(Generic[T]):
    """When 256 wait, or after `close`, the next one is not taken: its outcome is `refused` at once.

    Owns what waits. Any thread may leave an errand; one thread runs them.

    Args:
        refused: outcome of an errand that is not taken.
        wake: called when there is one.
    """

    def __init__(self, refused: T, wake: Callable[[], object]) -> None:
        self._refused = refused
        self._wake = wake
        self._lock = threading.Lock()
        self._waiting: deque[tuple[Callable[[], T], Future[T]]] = deque()
        self._closed = False

    def leave(self, act: Callable[[], T]) -> Future[T]:
        """Let `act` be called in the other thread; the future has what it returns or raises."""
        future: Future[T] = Future()
        with self._lock:
            taken = not self._closed and len(self._waiting) < CAPACITY
            if taken:
                self._waiting.append((act, future))
        if taken:
            self._wake()
        else:
            future.set_result(self._refused)
        return future

    def run(self, limit_s: float = math.inf) -> None:
        """Do what waits, and leave to the next call what comes after `limit_s`."""
        until = time.monotonic() + limit_s
        while (errand := self._next()) is not None:
            _do(*errand)
            if time.monotonic() >= until:
                return

    def close(self, limit_s: float = math.inf) -> None:
        """Do what waits within `limit_s`, refuse the rest, and take nothing more."""
        with self._lock:
            self._closed = True
        self.run(limit_s)
        while (errand := self._next()) is not None:
            errand[1].set_result(self._refused)

    def _next(self) -> tuple[Callable[[], T], Future[T]] | None:
        with self._lock:
            return self._waiting.popleft() if self._waiting else None


def _do(act: Callable[[], Any], future: Future[Any]) -> None:
    try:
        outcome = act()
    except BaseException as error:  # noqa: BLE001 - raised again where the outcome is asked for
        future.set_exception(error)
    else:
        future.set_result(outcome)
