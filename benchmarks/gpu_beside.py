"""Latency of inspection on a device that another process learns on: a part of `gpu`."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from threading import Event
from typing import Any

import numpy as np
import torch

from adapters.core.protocol import Engine
from agent.base.thread_priority import LEARNING, lower_priority
from benchmarks.step_time import Stepper

LOAD = 0.8
STEP_BATCH = 64
WITHOUT = "without"


@dataclass(frozen=True, slots=True)
class Way:
    """How inspection and learning share a device.

    Attributes:
        duty: share of the time that the learner computes; None does not learn.
        thread: it is a thread beside inspection, which has a stream of high priority; otherwise a process of
            its own, as in the agent.
    """

    duty: float | None = None
    thread: bool = False


WAYS = {WITHOUT: Way(), "duty 0.25": Way(0.25), "duty 1": Way(1.0)}
CUDA_WAYS = {
    "duty 0.25, a thread; inspection on a stream of its own": Way(0.25, thread=True),
    "duty 1, a thread; inspection on a stream of its own": Way(1.0, thread=True),
}


class _Apart:
    """Owns a process that takes update steps while it is asked to.

    Args:
        make: what takes the steps; called over there.
        pictures: of a step.
    """

    def __init__(self, make: Callable[[], Stepper], pictures: torch.Tensor) -> None:
        context = multiprocessing.get_context("spawn")
        self._ours, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(make, pictures, theirs), daemon=True)
        self._process.start()
        theirs.close()
        self._ours.recv()  # it has made its first step

    def learn(self, duty: float) -> Callable[[], int]:
        """Begin; return what ends it and tells how many steps there were."""
        self._ours.send(duty)

        def end() -> int:
            self._ours.send(None)
            return int(self._ours.recv())

        return end

    def close(self) -> None:
        """End the process."""
        self._ours.close()
        self._process.join(60)


def _serve(make: Callable[[], Stepper], pictures: torch.Tensor, theirs: Connection) -> None:
    learner = make()
    learner.step(pictures)
    theirs.send(None)
    with suppress(EOFError, OSError):  # nobody is there any more
        while True:
            duty = theirs.recv()
            theirs.send(_learn(learner, pictures, duty, theirs.poll))
            theirs.recv()


def beside(
    engine: Engine, make: Callable[[], Stepper], step_batch: int, seconds: float, rounds: int, *, cuda: bool
) -> dict[str, Any]:
    """Return latency of single pictures at `LOAD` of what the engine can, by way, each round in turn.

    Args:
        engine: inspects.
        make: what learns, with a model of its own; called in its process, so it has to be a top-level
            function or a partial one.
        step_batch: pictures of a step.
        seconds: of each way in each round.
        rounds: how often each way has its turn.
        cuda: the device is a card.
    """
    side = engine.info.preprocess.size
    picture = np.random.default_rng(0).standard_normal((1, 3, side, side), dtype=np.float32)
    pictures = _pictures(step_batch, side)
    apart, here = _Apart(make, pictures), make() if cuda else None
    top = _rate(lambda: engine.encode_image(picture, [engine.source]), seconds / 2)
    ways = WAYS | (CUDA_WAYS if cuda else {})
    found: dict[str, list[dict[str, float]]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            stream = _stream(way)

            def look(stream: AbstractContextManager[object] = stream) -> None:
                with stream:
                    engine.encode_image(picture, [engine.source])

            if way.duty is None:
                end: Callable[[], int] = lambda: 0  # noqa: E731
            elif way.thread and here is not None:
                end = _learn_here(here, pictures, way.duty)
            else:
                end = apart.learn(way.duty)
            latencies_ms, lost = _inspect(look, 1 / (LOAD * top), seconds)
            found[name].append(
                {
                    "p50": round(float(np.percentile(latencies_ms, 50)), 3),
                    "p99": round(float(np.percentile(latencies_ms, 99)), 3),
                    "lost": lost,
                    "steps": end(),
                }
            )
            print(name, found[name][-1], flush=True)
    apart.close()
    return {"top_per_s": round(top, 1), "rounds": found}


def _pictures(count: int, side: int) -> torch.Tensor:
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(0))


def _learn_here(learner: Stepper, pictures: torch.Tensor, duty: float) -> Callable[[], int]:
    """Take steps in a thread; return what ends it and tells how many there were."""
    stop, pool = Event(), ThreadPoolExecutor(1)
    steps = pool.submit(_learn, learner, pictures, duty, stop.wait)

    def end() -> int:
        stop.set()
        pool.shutdown()
        return steps.result()

    return end


def _stream(way: Way) -> AbstractContextManager[object]:
    return torch.cuda.stream(torch.cuda.Stream(priority=-1)) if way.thread else nullcontext()


def _inspect(look: Callable[[], None], period_s: float, seconds: float) -> tuple[list[float], int]:
    """Return ms from when each picture was due to its answer, and how many a newer one pushed out."""
    latencies_ms, lost, began = [], 0, time.perf_counter()
    due = began
    while due < began + seconds:
        wait_s = due - time.perf_counter()
        if wait_s > 0:
            time.sleep(wait_s)
        elif -wait_s >= period_s:
            # The newest wins, as in the agent's mailbox.
            missed = int(-wait_s / period_s)
            lost, due = lost + missed, due + missed * period_s
        look()
        latencies_ms.append(1e3 * (time.perf_counter() - due))
        due += period_s
    return latencies_ms, lost


def _learn(learner: Stepper, pictures: torch.Tensor, duty: float, stop: Callable[[float], bool]) -> int:
    """Take steps until `stop`, which waits for so long, says so; return how many."""
    lower_priority(LEARNING)
    steps, rest_s = 0, 0.0
    while not stop(rest_s):
        began = time.perf_counter()
        learner.step(pictures)
        steps += 1
        rest_s = (time.perf_counter() - began) * (1 / duty - 1)
    return steps


def _rate(look: Callable[[], object], seconds: float) -> float:
    """Return how many looks a second there are with nothing in between, after the first few."""
    for _ in range(3):
        look()
    count, began = 0, time.perf_counter()
    while time.perf_counter() < began + seconds:
        look()
        count += 1
    return count / (time.perf_counter() - began)
