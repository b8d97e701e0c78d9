"""What the line can do without: a server that cannot be had now is tried again beside inspection."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Self

from agent.base.errors import AgentError
from agent.domain.conditions import Code, Condition

log = logging.getLogger(__name__)

_AGAIN_S = 5.0
_FIRST_S = 15.0
_END_S = 2.0


class OptionalService:
    """Owns a thread that enters a context, again and again until it can, and leaves it at the end.

    Args:
        name: of the condition while it cannot.
        enter: makes the context; raises where it cannot be had now: an AgentError that says why, or a bug.

    Attributes:
        problem: why it cannot be had, in one sentence; None while it can.
    """

    def __init__(self, name: Code, enter: Callable[[], AbstractContextManager[object]]) -> None:
        self.problem: str | None = None
        self._name, self._enter = name, enter
        self._stop, self._tried = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"{name}-server", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self._tried.wait(_FIRST_S)  # so that what can be had is there when inspection begins
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(_END_S)

    def conditions(self) -> list[Condition]:
        """Return what is wrong; any thread may ask."""
        problem = self.problem
        return [] if problem is None else [Condition(self._name, self._name, f"{problem}; it is tried again")]

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                with self._enter():
                    if self.problem is not None:
                        log.info("%s: is served now", self._name)
                    self.problem = None
                    self._tried.set()
                    self._stop.wait()
            except Exception as error:  # whatever it is, the line does without it
                ours = isinstance(error, AgentError)
                problem = str(error) if ours else f"{self._name}: {type(error).__name__}: see the journal"
                if problem != self.problem:
                    log.error("%s; inspection goes on without it", problem, exc_info=None if ours else error)
                self.problem = problem
                self._tried.set()
                self._stop.wait(_AGAIN_S)
