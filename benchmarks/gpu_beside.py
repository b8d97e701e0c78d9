"""Latency of inspection on a device that learns in a second thread: a part of `gpu`."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from threading import Event
from typing import Any

import numpy as np
import torch

from adapters.engine import Engine
from agent.priority import LEARNING, step_back
from benchmarks.step_time import Stepper

LOAD = 0.8
STEP_BATCH = 64
WITHOUT = "without"


@dataclass(frozen=True, slots=True)
class Way:
    """How inspection and learning share a device.

    Attributes:
        duty: share of the time that the learner computes; None does not learn.
        own_stream: inspection has a stream of high priority; otherwise both use torch's default, as the
            agent does.
    """

    duty: float | None = None
    own_stream: bool = False


WAYS = {WITHOUT: Way(), "duty 0.25": Way(0.25), "duty 1": Way(1.0)}
CUDA_WAYS = {
    "duty 0.25, inspection on a stream of its own": Way(0.25, own_stream=True),
    "duty 1, inspection on a stream of its own": Way(1.0, own_stream=True),
}


def beside(
    engine: Engine, learner: Stepper, device: torch.device, step_batch: int, seconds: float, rounds: int
) -> dict[str, Any]:
    """Return latency of single pictures at `LOAD` of what the engine can, by way, each round in turn.

    Args:
        engine: inspects.
        learner: has a model of its own, as in the agent.
        device: of both.
        step_batch: pictures of a step.
        seconds: of each way in each round.
        rounds: how often each way has its turn.
    """
    side = engine.info.preprocess.size
    picture = np.random.default_rng(0).standard_normal((1, 3, side, side), dtype=np.float32)
    pictures = torch.randn(step_batch, 3, side, side, generator=torch.Generator().manual_seed(0)).to(device)
    learner.step(pictures)
    top = _rate(lambda: engine.encode_image(picture, [engine.source]), seconds / 2)
    ways = WAYS | (CUDA_WAYS if device.type == "cuda" else {})
    found: dict[str, list[dict[str, float]]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            stream = _stream(way)

            def look(stream: AbstractContextManager[object] = stream) -> None:
                with stream:
                    engine.encode_image(picture, [engine.source])

            found[name].append(_one(look, learner, pictures, way, LOAD * top, seconds))
            print(name, found[name][-1], flush=True)
    return {"top_per_s": round(top, 1), "rounds": found}


def _stream(way: Way) -> AbstractContextManager[object]:
    return torch.cuda.stream(torch.cuda.Stream(priority=-1)) if way.own_stream else nullcontext()


def _one(
    look: Callable[[], None],
    learner: Stepper,
    pictures: torch.Tensor,
    way: Way,
    per_s: float,
    seconds: float,
) -> dict[str, float]:
    stop = Event()
    with ThreadPoolExecutor(1) as pool:
        steps = None if way.duty is None else pool.submit(_learn, learner, pictures, way.duty, stop)
        try:
            latencies_ms, lost = _inspect(look, 1 / per_s, seconds)
        finally:
            stop.set()
        return {
            "p50": round(float(np.percentile(latencies_ms, 50)), 3),
            "p99": round(float(np.percentile(latencies_ms, 99)), 3),
            "lost": lost,
            "steps": 0 if steps is None else steps.result(timeout=600),
        }


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


def _learn(learner: Stepper, pictures: torch.Tensor, duty: float, stop: Event) -> int:
    """Take steps until `stop`; return how many."""
    step_back(LEARNING)
    steps = 0
    while not stop.is_set():
        began = time.perf_counter()
        learner.step(pictures)
        steps += 1
        stop.wait((time.perf_counter() - began) * (1 / duty - 1))
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
