"""A station whose model is a few numbers: a whole learner in milliseconds, whose computation can be held."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from adapters.baseline.baseline import Commissioning, ReferenceSamples
from adapters.baseline.build import commission
from adapters.core.adapter import Adapter
from adapters.core.observation import Bytes, Labelled, Observation
from adapters.core.prompts import Prompts
from adapters.core.protocol import Floats, ModelInfo, Preprocess, Tokens
from adapters.core.scorer import Scorer
from adapters.core.version_store import AdapterStore
from adapters.encoders.cancellation import CancellableEngine, Cancelled
from agent.audit.hash_chain import Audit
from agent.config.models_adaptation import Adaptation
from agent.inspection.frame_count import InForce
from agent.inspection.sample_queue import InspectedSample
from agent.learning.worker import Learning
from agent.versions.commissioned import Commissioned
from agent.versions.learner_settings import Level
from agent.versions.station_plans import Predictor
from agent.versions.version_manager import VersionManager

SIDE = 16
LABELS = ("good", "scratch")
FAILS = np.array([False, True])
WORDS = Prompts((("good", ("good",)), ("scratch", ("scratch",))), ("{}",))
WEIGHTS = "sha256:" + "1" * 64
SPEC = Preprocess(SIDE, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), "bicubic", "squash")


class SmallEngine:
    """An `Engine`: a picture is four by four means of its grey, and a scratch is a bright row."""

    info = ModelInfo("small", WEIGHTS, 16, 20.0, 8, SPEC, "numpy")
    source = Adapter({"shift": np.zeros(16, np.float32), "scale": np.ones(1, np.float32)})

    def tokenize(self, texts: Sequence[str]) -> Tokens:
        return np.array([[LABELS.index(text)] for text in texts])

    def encode_image(self, images: Floats, adapters: Sequence[Adapter]) -> Floats:
        cells = images.mean(axis=1).reshape(len(images), 4, SIDE // 4, 4, SIDE // 4).mean(axis=(2, 4))
        shifts = np.stack([adapter.tensors["shift"] for adapter in adapters])
        return np.asarray(cells.reshape(len(images), 16) + 0.2 + shifts, np.float32)

    def encode_text(self, tokens: Tokens, adapter: Adapter) -> Floats:
        plain, bright = np.full(16, 0.25), np.zeros(16)
        bright[4:8] = 0.5
        return np.stack([(plain, bright)[token] for token in tokens[:, 0]]).astype(np.float32)


def pictures(labels: Sequence[str], seed: int, light: float = 120.0) -> Bytes:
    """Return parts as the model's input shows them; noise is new in each."""
    rng = np.random.default_rng(seed)
    drawn = rng.normal(light, 8, (len(labels), SIDE, SIDE, 3)) + rng.normal(0, 6, (len(labels), 1, 1, 1))
    for row, label in enumerate(labels):
        if label == "scratch":
            drawn[row, 4:8] += 80
            drawn[row, 8:] -= 30
    return np.clip(drawn, 0, 255).astype(np.uint8)


def scorer() -> Scorer:
    return Scorer(SmallEngine(), WORDS, FAILS)


def seen(shown: Bytes, first: int = 1) -> list[Observation]:
    """Return what the frozen model sees, numbered from `first`, one a second."""
    view = scorer().look(shown, SmallEngine.source)
    chances = np.exp(view.logits - view.logits.max(axis=1, keepdims=True)).astype(np.float64)
    chances /= chances.sum(axis=1, keepdims=True)
    entropies = -(chances * np.log(np.maximum(chances, 1e-12))).sum(axis=1)
    facts = zip(shown, view.features, view.scores, view.logits.argmax(axis=1), entropies, strict=True)
    return [
        Observation(number, float(number), picture, feature, float(score), int(label), float(entropy))
        for number, (picture, feature, score, label, entropy) in enumerate(facts, first)
    ]


def stream(count: int, first: int = 1, *, defects: int = 20, light: float = 120.0) -> list[Observation]:
    """Return parts of the line, every so many defective; 0: none."""
    labels = ["scratch" if defects and n % defects == 0 else "good" for n in range(first, first + count)]
    return seen(pictures(labels, first, light), first)


def commissioned(
    frames: Sequence[Observation], golden: ReferenceSamples | None, made_at: str = "2026-01-01"
) -> Commissioning:
    scores = None if golden is None else scorer().look(golden.pictures, SmallEngine.source).scores
    return commission(
        frames, golden, scores,
        station="line", weights=WEIGHTS, recipe=WORDS.digest, labels=LABELS, fails=FAILS, made_at=made_at,
    )  # fmt: skip


@cache
def clean() -> Commissioning:
    """The line with known defects."""
    golden = ReferenceSamples(pictures(["scratch"] * 20, 7), np.ones(20, np.int64))
    return commissioned(stream(1000), golden)


@dataclass
class Model:
    """What `LearnerModel` is to a learner, with a proposal that waits where a test says so.

    Attributes:
        entered: set once a proposal is being computed.
        go_on: not set, the proposal is held.
        proposals: how many came to their end.
    """

    turn: threading.Lock = field(default_factory=threading.Lock)
    entered: threading.Event = field(default_factory=threading.Event)
    go_on: threading.Event = field(default_factory=threading.Event)
    proposals: int = 0
    fail: Callable[[], None] = lambda: None

    def load(self, *, full: bool) -> tuple[SmallEngine, None]:
        return SmallEngine(), None

    def open(self, prompts: Prompts, *, full: bool, halt: Callable[[], bool]) -> tuple[Any, Any]:
        self.fail()

        def update(adapter: Adapter, known: Labelled, stream: Labelled, seed: int) -> Any:
            self.entered.set()
            while not self.go_on.wait(0.01):
                if stopping():
                    raise Cancelled
            self.proposals += 1
            moved = {name: tensor + np.float32(0.001) for name, tensor in adapter.tensors.items()}
            return Adapter(moved, adapter.number + 1, adapter.digest), {"loss": 0.1}

        # A model in native code hears of nothing before it comes back; only the end of a test ends this one.
        stopping = self.ending.is_set
        return CancellableEngine(SmallEngine(), halt), update

    ending: threading.Event = field(default_factory=threading.Event)


@dataclass
class Site:
    """A station's folder, and what its learner has told."""

    folder: Path
    settings: Adaptation = field(default_factory=lambda: Adaptation(duty=1.0))
    level: Level = "full"
    clean: Commissioning = field(default_factory=clean)
    model: Model = field(default_factory=Model)
    told: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    run: str = "run"

    @property
    def requests(self) -> Path:
        return self.folder / "requests"

    def store(self, *, reading: bool = True) -> AdapterStore:
        adapters = self.folder / "adapters"
        return AdapterStore(adapters, SmallEngine.source, WEIGHTS, self.settings.keep, reading=reading)

    def audit(self) -> Audit:
        return Audit("line", self.folder / "audit.jsonl")

    def manager(
        self,
        happened: Callable[[dict[str, Any]], None] = lambda record: None,
        now: Callable[[], str] = lambda: "2026-01-02T00:00:00.000Z",
    ) -> VersionManager:
        store = self.store(reading=False)
        return VersionManager(
            self.clean, SmallEngine.source, store, self.audit(), now, happened, InForce(self.run)
        )

    def events(self) -> list[str]:
        return [payload["event"] for name, payload in list(self.told) if name == "adapter/event"]

    def last(self, name: str) -> dict[str, Any]:
        return next((payload for topic, payload in reversed(list(self.told)) if topic == name), {})

    @contextmanager
    def learning(self) -> Iterator[Learning]:
        """Run the station's learner; the test is the inspector."""
        store = self.store(reading=False)
        manager = VersionManager(
            self.clean, SmallEngine.source, store, self.audit(), str, lambda record: None
        )
        found = Commissioned(
            "line",
            self.settings,
            self.level,
            self.clean,
            store,
            self.audit(),
            self.requests,
            manager.answering,
        )
        texts = scorer().engine.encode_text(np.array([[0], [1]]), SmallEngine.source)
        texts /= np.linalg.norm(texts, axis=1, keepdims=True)
        frozen = Predictor(0, SmallEngine.source, texts, FAILS, self.clean.offset)
        now = manager.answering
        first = Predictor(now.number, now.adapter, texts, FAILS, now.offset) if now.number else frozen
        one = Learning(
            found, self.model, WORDS, first, frozen, "agent",
            lambda name, payload: self.told.append((name, payload)), since=InForce(self.run),
        )  # fmt: skip
        crashes: list[BaseException] = []

        def run() -> None:
            try:
                one.run()
            except BaseException as error:  # noqa: BLE001 - shown by the test
                crashes.append(error)

        self.model.ending.clear()
        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield one
        finally:
            one.stop()
            thread.join(60)
            self.model.ending.set()
            assert not thread.is_alive()
            assert crashes == []


def hand_over(one: Learning, parts: Sequence[Observation], *, missed: bool = False) -> None:
    """Show parts to a learner, as the inspector does; `missed`: only the frozen model rejects them."""
    for part in parts:
        one.handover.put(InspectedSample(part, rejected=False, rejected_frozen=missed))
