"""How long a person waits while a learner computes: ``python -m benchmarks.request_times --model ViT-B-32``.

A station's learner makes one proposal after the other, as large as on a line, and each of them is cut short by a
request: freeze, reset, and a rollback to a version, in turn. Measured from the moment that the request's file is
on the disk to the moment that it has its effect; beside it how long a proposal takes that nobody cuts short,
which a request had to wait for when one thread did both. Weights of a model other than `mekiki-line` are random:
what it answers means nothing, how long it takes does.
"""

from __future__ import annotations

import argparse
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from adapters.baseline.baseline import Commissioning, ReferenceSamples
from adapters.baseline.build import commission
from adapters.core.adapter import Adapter
from adapters.core.observation import Bytes, Observation, as_bytes, as_pixels
from adapters.core.prompts import TextCache
from adapters.core.protocol import Engine
from adapters.core.version import Version, Window
from adapters.core.version_store import AdapterStore
from adapters.engines.factory import ModelSettings
from adapters.gate.promotion_gate import Ruling
from adapters.learner.factory import LearnerModel
from agent.audit.hash_chain import Audit
from agent.config.models_adaptation import Adaptation
from agent.config.recipes import shipped
from agent.inspection.predictor import Predictor
from agent.learning.episode import Ask, Look
from agent.learning.station_learner import StationLearner
from agent.learning.worker import Learning
from agent.versions.commissioned import Commissioned
from agent.versions.operator_requests import Kind, Request, ask
from agent.versions.station_plans import failing, prompts
from agent.versions.version_manager import VersionManager
from benchmarks.machine import describe, in_words, table, write
from camera.core.settings import SimulatedCamera
from camera.pictures.preprocess import InputSpec, prepare
from camera.simulation.source import SimulatedLine

RECIPE = shipped("line")
WORDS, FAILS = prompts(RECIPE), failing(RECIPE)
LINE = SimulatedLine(SimulatedCamera(seed=5))
PARTS = 96
ASKED: tuple[tuple[Kind, int | None], ...] = (("freeze", None), ("reset", None), ("rollback", 1))


def main() -> None:
    """Measure and write the report."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--model", default="mekiki-line", help="a shipped bundle, or an open_clip model")
    parser.add_argument("--rounds", type=int, default=10)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        settings = _settings(arguments.model, Path(name))
        model = LearnerModel(settings)
        rows = _measure(model, Path(name), arguments.rounds)
    figures = {"machine": describe("onnxruntime"), "model": arguments.model, "rounds": arguments.rounds}
    write(f"request_times-{arguments.model}", figures | {"seconds": rows}, _report(figures, rows))


class _Proposals:
    """Makes a learner compute real proposals, one after the other, whatever its pictures are.

    Attributes:
        began: set when one begins.
        whole: seconds of those that nobody cut short.
    """

    def __init__(self, recent: Sequence[Observation]) -> None:
        self.began = threading.Event()
        self.whole: list[float] = []
        self._recent = recent

    def due(self, learner: StationLearner) -> Look | None:
        """Stand for `StationLearner.due`."""
        if learner.why_off is not None:
            return None
        proposals, manager = self, learner._manager

        class Proposing(Look):
            def run(self, ask: Ask) -> Ruling | None:
                return proposals.propose(self)

        episode = replace(learner._episode)
        return Proposing(manager.generation, 0, episode, self._recent, manager.answering, True)

    def propose(self, look: Look) -> Ruling | None:
        """Propose until it is cut short."""
        context, recent = look.episode.context, self._recent
        known, spec = context.clean.known.half(0), context.scorer.engine.info.preprocess
        shown = as_pixels(known.pictures, spec), known.classes
        stream = as_pixels(np.stack([one.picture for one in recent]), spec), np.zeros(len(recent), np.int64)
        assert context.update is not None
        while True:
            self.began.set()
            since = time.monotonic()
            context.update(look.answering.adapter, shown, stream, 0)
            self.whole.append(time.monotonic() - since)


def _settings(model: str, folder: Path) -> ModelSettings:
    if model == "mekiki-line":
        return ModelSettings(threads=1)
    from adapters.build.bundle import build_bundle
    from benchmarks.engine_bundles import random_clip

    built = build_bundle(random_clip(model), folder / model)
    return ModelSettings(bundle=str(built.folder), threads=1)


def _measure(model: LearnerModel, folder: Path, rounds: int) -> dict[str, list[float]]:
    engine, _ = model.load(full=True)
    clean, recent = _commissioned(engine)
    store = AdapterStore(folder / "adapters", engine.source, engine.info.weights)
    moved = {name: tensor + np.float32(1e-4) for name, tensor in engine.source.tensors.items()}
    window = Window(1, 2, 2)
    store.write(
        Version(Adapter(moved), 0, "learned", clean.made_at, window, clean.offset, clean.recipe, {}, {})
    )
    manager = VersionManager(clean, engine.source, store, Audit("line"), str, lambda record: None)
    found = Commissioned(
        "line", Adaptation(duty=1.0), "full", clean, store, Audit("line"), folder / "requests",
        manager.answering,
    )  # fmt: skip
    texts = TextCache(engine).features(WORDS, engine.source)
    frozen = Predictor(0, engine.source, texts, FAILS, clean.offset)
    proposals = _Proposals(recent)
    StationLearner.due = lambda learner: proposals.due(learner)  # type: ignore[method-assign]
    one = Learning(found, model, WORDS, frozen, frozen, "agent", lambda topic, payload: None)
    thread = threading.Thread(target=one.run)
    thread.start()
    try:
        return _rounds(one, proposals, found.requests, rounds)
    finally:
        one.stop()
        thread.join()


def _rounds(one: Learning, proposals: _Proposals, folder: Path, rounds: int) -> dict[str, list[float]]:
    effects: dict[Kind, Callable[[], bool]] = {
        "freeze": lambda: one._manager.frozen_by is not None,
        "resume": lambda: one._manager.frozen_by is None,
        "reset": lambda: one.answering().number == 0,
        "rollback": lambda: one.answering().number == 1,
    }

    def waited(kind: Kind, number: int | None = None) -> float:
        ask(folder, Request(kind=kind, actor="ada", at="now", number=number))
        since = time.monotonic()
        while not effects[kind]():
            time.sleep(0.001)
        return time.monotonic() - since

    while len(proposals.whole) < 3:
        time.sleep(0.1)
    seconds = {"a whole proposal": proposals.whole[:3]}
    for _ in range(rounds):
        for kind, number in ASKED:
            proposals.began.clear()
            proposals.began.wait()
            seconds.setdefault(kind, []).append(waited(kind, number))
            if kind == "freeze":
                waited("resume")
    return seconds


def _commissioned(engine: Engine) -> tuple[Commissioning, list[Observation]]:
    """Return a commissioning of real pictures whose scores are made up, and parts like those."""
    spec = engine.info.preprocess
    plain = InputSpec(**asdict(spec))
    photos: Bytes = as_bytes(np.stack([prepare(LINE.picture(n), plain) for n in range(1, PARTS + 1)]), spec)
    features = np.concatenate(
        [
            engine.encode_image(as_pixels(some, spec), [engine.source] * len(some))
            for some in np.split(photos, 6)
        ]
    )
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    rng = np.random.default_rng(0)
    seen = [
        Observation(n, float(n), photos[n % PARTS], features[n % PARTS], float(rng.normal(-4)), 0, 0.05)
        for n in range(1, 1001)
    ]
    golden = ReferenceSamples(photos[:24], np.arange(24) % (len(FAILS) - 1) + 1)
    clean = commission(
        seen, golden, np.full(24, 4.0, np.float32),
        station="line", weights=engine.info.weights, recipe=WORDS.digest, labels=WORDS.labels, fails=FAILS,
        made_at="2026-01-01T00:00:00.000Z",
    )  # fmt: skip
    return clean, seen[:PARTS]


def _report(figures: dict[str, Any], rows: dict[str, list[float]]) -> str:
    body = [
        [name, str(len(times)), *(f"{float(np.percentile(times, share)):.2f}" for share in (50, 95, 100))]
        for name, times in rows.items()
    ]
    return "\n".join(
        [
            f"# Requests while {figures['model']} learns",
            "",
            f"`python -m benchmarks.request_times --model {figures['model']} --rounds {figures['rounds']}`;"
            f" {in_words(figures['machine'])}.",
            "",
            "Seconds from a request that is on the disk to its effect, in the middle of a proposal.",
            "",
            table(["", "times", "median", "95 %", "most"], body),
            "",
        ]
    )


if __name__ == "__main__":
    main()
