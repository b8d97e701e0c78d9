"""The learner of the agent before a stream of the benchmark, in lockstep."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from adapters.baseline.baseline import ReferenceSamples
from adapters.baseline.build import commission
from adapters.bundle.reader import bundle_path
from adapters.core.observation import Bytes, log_odds
from adapters.core.protocol import Engine
from adapters.core.scorer import Scorer
from adapters.core.version_store import AdapterStore
from adapters.encoders.protocol import Encoders
from adapters.encoders.torch_encoders import TorchEncoders
from adapters.engines.open_bundle import open_bundle, open_encoders
from adapters.engines.torch_engine import TorchEngine
from adapters.learner.losses import Words
from adapters.learner.rehearsal_update import Proposer, RehearsalUpdate
from agent.audit.hash_chain import Audit
from agent.learning.station_learner import StationLearner
from agent.versions.learner_settings import LearnerSettings
from agent.versions.version_manager import VersionManager
from benchmarks.stream_methods import Answers, Setting
from benchmarks.stream_site import Site, seen_of
from benchmarks.stream_worlds import World

UPDATES = {
    "line": RehearsalUpdate(),
    "steel": RehearsalUpdate(),
    "clip": RehearsalUpdate(),
    "diffclip": RehearsalUpdate(),
}
"""By model."""


class Ours:
    """Commissions the site as `mekiki commission` does, then learns as a station does.

    Args:
        world: what is inspected.
        golden: whether a person labelled golden pictures; otherwise the frozen model names its own.
        labels_a_day: how many labels operators give.
        settings: of the learner.
        update: of the learner; None for the training-free level.
        engine: that the learner looks and learns with; ``onnx`` needs the shipped bundle's model.
    """

    call_frames = 1

    def __init__(
        self,
        world: World,
        *,
        golden: bool,
        labels_a_day: float = 0.0,
        settings: LearnerSettings | None = None,
        update: RehearsalUpdate | None = None,
        engine: Literal["torch", "onnx"] = "torch",
    ) -> None:
        self.labels_a_day = labels_a_day
        self._world, self._golden = world, golden
        self._settings = settings or LearnerSettings()
        self._update = update
        self._engine = engine
        self.fingerprint = f"{golden} {labels_a_day} {self._settings} {update} {engine}"

    def start(self, site: Site) -> None:
        """Commission."""
        self._site = site
        engine, encoders = self._open(site)
        scorer = Scorer(engine, self._world.prompts, site.fails)
        pictures = site.commissioning
        known = ReferenceSamples(pictures.golden, pictures.golden_labels) if self._golden else None
        clean = commission(
            seen_of(pictures.reference, site.reference, site.fails, 0),
            known,
            log_odds(site.golden.logits, site.fails) if self._golden else None,
            station=site.model,
            weights=engine.info.weights,
            recipe=self._world.prompts.digest,
            labels=self._world.labels,
            fails=site.fails,
            made_at="2026-01-01T00:00:00Z",
        )
        # One operating point for all contenders: what differs is what they learn.
        clean = replace(clean, offset=site.offset)
        self._scorer = scorer
        self._frame = 0
        self._folder = tempfile.TemporaryDirectory(prefix="mekiki-streams-")
        self._events: list[dict[str, Any]] = []
        self._trace: dict[str, list[float]] = {}
        self._learner = StationLearner(
            clean,
            scorer,
            Proposer(encoders, Words.of(engine, self._world.prompts), self._update) if self._update else None,
            VersionManager(
                clean,
                scorer.source,
                AdapterStore(Path(self._folder.name), scorer.source, engine.info.weights, keep=20),
                Audit(site.model),
                lambda: f"2026-01-01T00:00:00Z+{self._frame}s",
                self._happened,
            ),
            self._settings,
            seed=site.seed,
        )

    def _open(self, site: Site) -> tuple[Engine, Encoders]:
        if self._engine == "torch":
            return TorchEngine(site.clip), TorchEncoders(site.clip)
        folder = bundle_path(site.clip.info.name)
        engine = open_bundle(folder, device="cpu", threads=1)
        if engine.info.weights != site.clip.info.weights:
            raise ValueError(f"{folder} was built from other weights than the model's")
        return engine, open_encoders(folder, device="cpu", threads=1)

    def see(self, first: int, pictures: Bytes, usable: NDArray[np.bool_]) -> Answers:
        """Answer with what is promoted, then let the learner work."""
        site, learner = self._site, self._learner
        frozen = site.frozen.rows(first, len(pictures))
        answering = learner.answering
        logits = np.array(frozen.logits)
        if answering.adapter.digest != self._scorer.source.digest and usable.any():
            logits[usable] = self._scorer.look(pictures[usable], answering.adapter).logits
        raw = log_odds(logits, site.fails)
        limit = answering.offset + math.log(site.threshold / (1 - site.threshold))
        scores = raw - np.float32(limit)
        before = log_odds(frozen.logits, site.fails) - np.float32(site.limit)
        for row, seen in enumerate(seen_of(pictures, frozen, site.fails, first + 1)):
            if not usable[row]:
                continue
            self._frame = first + row
            learner.said(first + row, adapted_fails=scores[row] >= 0, frozen_fails=before[row] >= 0)
            if (report := learner.observe(seen)) is not None:
                self._note(report.distance, report.gradual)
        self._frame = first + len(pictures) - 1
        learner.work()
        return Answers(scores, raw, logits.argmax(1))

    def tell(self, number: int, label: int) -> None:
        """Pass an operator's label on."""
        self._learner.told(number, defect=bool(self._site.fails[label]))

    def events(self) -> list[dict[str, Any]]:
        """Return updates, promotions, changes of state; from the audit trail."""
        return self._events

    def trace(self) -> dict[str, list[float]]:
        """Return drift evidence and operating point after each block."""
        return self._trace

    def _note(self, distance: float, gradual: float) -> None:
        row = {
            "frame": float(self._frame),
            "drift distance": distance,
            "drift evidence": gradual,
            "operating point": self._learner.answering.offset,
            "error of known parts": self._learner.last_numbers.get("error", math.nan),
        }
        for name, value in row.items():
            self._trace.setdefault(name, []).append(value)

    def _happened(self, record: dict[str, Any]) -> None:
        frame, event = self._frame, record["event"]
        said = {"frame": frame, "why": record["why"]}
        if "->" in event:
            self._events.append({**said, "event": "state", "state": event.partition("->")[2]})
        elif event in ("refused", "promoted"):
            if "gain" in record["numbers"]:
                self._events.append({**said, "event": "update", "kept": event == "promoted"})
            if event == "promoted":
                self._events.append({**said, "event": "promotion", "numbers": record["numbers"]})
        elif event in ("rate_alarm", "rate_alarm_over"):
            self._events.append({**said, "event": event})
        elif event in ("reset", "rolled_back"):
            self._events.append({**said, "event": "rollback"})
        elif event == "recalled":
            self._events.append({**said, "event": "recall"})


def _made(**options: Any) -> Callable[[Setting], Ours]:
    return lambda setting: Ours(setting.world, update=UPDATES[setting.model], **options)


OURS: dict[str, Callable[[Setting], Ours]] = {
    "ours, label-free": _made(golden=False),
    "ours, golden": _made(golden=True),
    "ours, golden, ONNX Runtime": _made(golden=True, engine="onnx"),
    "ours, golden, 5 labels a day": _made(golden=True, labels_a_day=5.0),
    "ours, golden, 20 labels a day": _made(golden=True, labels_a_day=20.0),
    "ours, operating point only": lambda setting: Ours(
        setting.world, golden=True, settings=replace(LearnerSettings(), level="operating_point")
    ),
}
"""As a table names them; golden is 20 pictures of each class."""
