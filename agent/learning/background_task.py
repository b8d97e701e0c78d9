"""A long computation in a thread of its own; what others own it changes through their thread alone."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Generic, TypeVar

from adapters.encoders.cancellation import Cancelled

Result = TypeVar("Result")
Change = TypeVar("Change")
Reply = TypeVar("Reply")


@dataclass(frozen=True, slots=True)
class Computed(Generic[Result]):
    """The computation has come to its end.

    Attributes:
        result: None where it failed.
        error: what it failed with; `Cancelled` where it was cancelled.
    """

    result: Result | None = None
    error: BaseException | None = None


class Background(Generic[Change, Reply, Result]):
    """Owns the thread. One other thread, which owns what is changed, polls it, answers it and may cancel it.

    Args:
        name: of the thread.
        compute: is given a function that asks for a change, waits until the owner has made it, and returns
            what is so from then on; it raises `Cancelled` once this is cancelled.
    """

    def __init__(self, name: str, compute: Callable[[Callable[[Change], Reply]], Result]) -> None:
        self._cancelled = threading.Event()
        self._asked: SimpleQueue[Change] = SimpleQueue()
        self._replies: SimpleQueue[Reply | None] = SimpleQueue()
        self._done: Computed[Result] | None = None
        threading.Thread(target=self._run, args=(compute,), name=name, daemon=True).start()

    @property
    def cancelled(self) -> bool:
        """Whether nobody wants the result any more; any thread may ask."""
        return self._cancelled.is_set()

    def asked(self) -> Change | None:
        """Return the change that is waited for, once; None where there is none."""
        try:
            return self._asked.get_nowait()
        except Empty:
            return None

    def answer(self, reply: Reply) -> None:
        """Let the computation go on, because the change was made."""
        self._replies.put(reply)

    def cancel(self) -> None:
        """Let it end at its next call of the model, or at once where it waits for an answer."""
        self._cancelled.set()
        self._replies.put(None)

    def done(self) -> Computed[Result] | None:
        """Return how it ended; None while it has not."""
        return self._done

    def _run(self, compute: Callable[[Callable[[Change], Reply]], Result]) -> None:
        try:
            self._done = Computed(compute(self._ask))
        except BaseException as error:  # noqa: BLE001 - the owner raises it in its own thread
            self._done = Computed(error=error)

    def _ask(self, change: Change) -> Reply:
        if self.cancelled:
            raise Cancelled
        self._asked.put(change)
        reply = self._replies.get()
        if reply is None or self.cancelled:
            raise Cancelled
        return reply
