"""Which engine is the fastest for a bundle on this machine: every one that runs here is checked and timed."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np

from adapters.bundle.reader import read_bundle
from adapters.core.protocol import Engine, ModelError
from adapters.engines.bundle_model import KINDS, BundleModel, Kind, open_kind

BATCHES = (1, 8)
"""One picture is what a part waits for; eight are what the inspector takes at once by default."""

BUDGET_S = 20.0
"""For the timing of each batch size."""
MOST_ROUNDS = 30

NEARLY = 1.05
"""Within this factor of the fastest, the more exact engine is taken: so much is noise."""


@dataclass(frozen=True, slots=True)
class EngineTiming:
    """What was found out about one engine.

    Attributes:
        problem: why it cannot be used here; None where it can.
        agreement: with torch, in words.
        ms: median milliseconds for each of `BATCHES` pictures together.
    """

    kind: Kind
    problem: str | None = None
    agreement: str | None = None
    ms: tuple[float, ...] = ()


def run_trials(model: BundleModel) -> tuple[list[EngineTiming], dict[Kind, Engine]]:
    """Open, check and time every kind of engine; all that work are in memory together.

    Rounds are taken in turn, so that what else the machine does hits all alike. It takes about a minute at
    most, unless a model needs seconds for a picture.

    Returns:
        What was found out, in the order of `KINDS`, and the engines that work.

    Raises:
        ModelError: the bundle itself is no good.
    """
    read_bundle(model.folder, model.sha256)
    problems: dict[Kind, str] = {}
    words: dict[Kind, str] = {}
    engines: dict[Kind, Engine] = {}
    for kind in KINDS:
        try:
            engines[kind], agreement = open_kind(kind, model)
            words[kind] = agreement.says(kind.precision)[1]
        except ModelError as error:
            problems[kind] = str(error)
    times = {batch: _timed(engines, batch) for batch in BATCHES}
    trials = [
        EngineTiming(
            kind,
            problems.get(kind),
            words.get(kind),
            tuple(1e3 * times[batch][kind] for batch in BATCHES) if kind in engines else (),
        )
        for kind in KINDS
    ]
    return trials, engines


def fastest(trials: Sequence[EngineTiming]) -> Kind:
    """Return the engine to use: the fastest for one picture, or a more exact one that is nearly as fast.

    Raises:
        ModelError: none works; with what is wrong with each.
    """
    working = {trial.kind: trial.ms[0] for trial in trials if trial.problem is None}
    if not working:
        raise ModelError("engine auto: none works: " + "; ".join(f"{t.kind}: {t.problem}" for t in trials))
    return fastest_of(working)


def fastest_of(ms: Mapping[Kind, float]) -> Kind:
    """Return the same of engines that work, by their milliseconds for one picture; at least one."""
    limit_ms = NEARLY * min(ms.values())
    return next(kind for kind in KINDS if ms.get(kind, math.inf) <= limit_ms)


def _timed(engines: Mapping[Kind, Engine], batch: int) -> dict[Kind, float]:
    """Return the median seconds of each engine for a batch."""
    calls = {kind: _call(engine, batch) for kind, engine in engines.items()}
    times: dict[Kind, list[float]] = {kind: [] for kind in engines}
    for call in calls.values():  # the first call of a shape plans memory
        call()
    until = time.perf_counter() + BUDGET_S
    for _ in range(MOST_ROUNDS):
        for kind, call in calls.items():
            began = time.perf_counter()
            call()
            times[kind].append(time.perf_counter() - began)
        if time.perf_counter() > until:
            break
    return {kind: median(taken) for kind, taken in times.items()}


def _call(engine: Engine, batch: int) -> Callable[[], object]:
    side = engine.info.preprocess.size
    pictures = np.random.default_rng(0).standard_normal((batch, 3, side, side), dtype=np.float32)
    return lambda: engine.encode_image(pictures, [engine.source] * batch)
