"""A recording judged and learned from again: inspector and learner in lockstep, on the camera's own time.

Equal recordings, configs and machines give equal verdicts, adapters and audit trails, to the last bit: no
clock, no id and no order of threads is in them. The agent's own data are only read.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import islice
from typing import Any, Final

from adapters.core.prompts import TextCache
from adapters.core.protocol import Engine
from adapters.core.scorer import Scorer
from adapters.core.version import SOURCE
from adapters.engines.factory import ModelSettings
from adapters.learner.factory import LearnerModel
from adapters.monitoring.drift_detector import DriftReport
from agent.base.codec import timestamp
from agent.base.event_id import ulid_of
from agent.config.loader import Loaded
from agent.config.recipes import Recipe
from agent.domain.verdict import Verdict
from agent.inspection.inspector import Inspector
from agent.inspection.predictor import Predictor
from agent.inspection.reference_plan import ReferencePlan, info_of
from agent.inspection.sample_queue import InspectedSample
from agent.inspection.shadow import is_shadowed
from agent.inspection.station_plan import StationPlan
from agent.learning.station_learner import StationLearner
from agent.versions.commissioned import Commissioned, Uncommissioned
from agent.versions.product_plans import OtherProduct, with_others
from agent.versions.station_plans import predictors, prompts, provenance
from agent.versions.version_manager import VersionManager
from camera.core.frame import Frame
from camera.feed.mailbox import Mailbox

BATCH: Final = 25
"""Frames that are judged together, after which the learner may work once."""

Judged = Sequence[tuple[Frame, Verdict]]


@dataclass(frozen=True, slots=True)
class Moment:
    """What the learner was up to after a batch.

    Attributes:
        frame: number of the batch's last frame.
        phase: of the learner; ``off`` where nothing is learned.
        number: of the version that answers.
        offset: its operating point.
    """

    frame: int
    phase: str
    number: int
    offset: float


@dataclass(slots=True)
class Course:
    """How a replay went. Owned by `Replay`, complete when its `run` has ended.

    Attributes:
        events: records of the audit trail, each with the number of the ``frame`` before which it was written.
        drift: a report per block.
        moments: one per batch.
    """

    events: list[dict[str, Any]] = field(default_factory=list)
    drift: list[DriftReport] = field(default_factory=list)
    moments: list[Moment] = field(default_factory=list)

    @property
    def adapters(self) -> list[dict[str, Any]]:
        """Number, digest and operating point of every version that was promoted, in their order."""
        return [event["after"] for event in self.events if event["event"] == "promoted"]


class Replay:
    """Owns inspector and learner; everything happens in the thread that iterates `run`.

    Args:
        loaded: the config.
        found: the station with a store and an audit trail that are the replay's own.
        recipe: of the station.
        engine: that inspects.
        recording: digest of what is replayed; the ids of the verdicts come from it.
        others: products of the station that are judged by their part ids.
        references: recipe's name -> what parts of it are compared with.

    Attributes:
        plan: what the station's parts are judged with.
    """

    def __init__(
        self,
        loaded: Loaded,
        found: Commissioned | Uncommissioned,
        recipe: Recipe,
        engine: Engine,
        recording: str,
        others: Mapping[str, OtherProduct] | None = None,
        references: Mapping[str, ReferencePlan] | None = None,
    ) -> None:
        self.course = Course()
        self._recording, self._station = recording, found.station
        self._shadow = found.settings.shadow_share
        self._engine, self._recipe = engine, recipe
        self._texts = TextCache(engine)
        self._frozen, self._predictor = predictors(engine, recipe, found)
        self._witnessed: list[InspectedSample] = []
        self._now = ""
        self._ids: dict[str, str] = {}  # of results of the part that is looked at: as made -> as given here
        self._learner = None
        if isinstance(found, Commissioned):
            self._learner = self._open(found, loaded.config.model)
        name = loaded.config.stations[found.station]
        reference = (references or {}).get(name.recipe)
        plan = StationPlan(
            recipe_name=name.recipe,
            recipe=recipe,
            provenance=provenance(loaded, engine, recipe, found, info_of(reference)),
            # Nothing is too old: each frame is judged at the time at which it was captured.
            limits=name.quality.model_copy(update={"stale_s": None}),
            frozen=self._frozen,
            answering=lambda: self._predictor,
            on_sample=self._on_sample,
            reference=reference,
        )
        self.plan = with_others(plan, loaded, found.station, engine, others or {}, references)
        self._inspector = Inspector(
            loaded.config.agent.id,
            engine,
            {found.station: self.plan},
            Mailbox(),
            lambda verdicts: verdicts,
            batch=BATCH,
        )

    @property
    def why_off(self) -> str | None:
        """Why nothing is learned; None where it is. A station that is not commissioned says so itself."""
        return None if self._learner is None else self._learner.why_off

    def run(self, frames: Iterable[Frame], stop: threading.Event | None = None) -> Iterator[Judged]:
        """Yield frames with their verdicts, batch by batch; learn from each batch after it was judged."""
        frames = iter(frames)
        while (stop is None or not stop.is_set()) and (batch := list(islice(frames, BATCH))):
            verdicts = self._inspector.judge(batch)
            yield [
                (frame, self._restamped(frame, verdict))
                for frame, verdict in zip(batch, verdicts, strict=True)
            ]
            # The learner knows parts by their number among those of its product.
            self._learn(batch, {verdict.frame: verdict.captured_at for verdict in verdicts})

    def _restamped(self, frame: Frame, verdict: Verdict) -> Verdict:
        """Return a verdict without anything of this day: a replay has no time and no chance of its own."""
        given = event_id(self._recording, self._station, frame.number, frame.captured_at)
        part = verdict.part
        if part is not None:
            self._ids = {verdict.event_id: given, **({} if part.place == 1 else self._ids)}
        return replace(
            verdict,
            event_id=given,
            part=None if part is None else part.renamed(self._ids),
            decided_at=frame.captured_at,
            wait_ms=0.0,
            infer_ms=0.0,
        )

    def _open(self, found: Commissioned, model: ModelSettings) -> StationLearner:
        words = prompts(self._recipe)
        opened = LearnerModel(model).open(words, full=found.level == "full", halt=lambda: False)
        engine, update = opened
        scorer = Scorer(engine, words, found.clean.fails)
        manager = VersionManager(
            found.clean, scorer.source, found.store, found.audit, lambda: self._now, self._happened
        )
        return StationLearner(found.clean, scorer, update, manager, found.learner_settings())

    def _happened(self, record: dict[str, Any]) -> None:
        self.course.events.append({**record, "frame": int(record["numbers"]["frame"])})

    def _on_sample(self, one: InspectedSample) -> None:
        """Take what a learner on the line would get: there the frozen model does not see every frame."""
        same = self._predictor.adapter.digest == self._frozen.adapter.digest
        if same or is_shadowed(self._station, one.seen.number, self._shadow):
            self._witnessed.append(one)

    def _learn(self, batch: Sequence[Frame], times: Mapping[int, datetime]) -> None:
        learner = self._learner
        witnessed, self._witnessed[:] = list(self._witnessed), []
        if learner is None:
            return
        for one in witnessed:
            self._now = timestamp(times[one.seen.number])
            report = learner.observe(one.seen)
            learner.said(one.seen.number, adapted_fails=one.rejected, frozen_fails=one.rejected_frozen)
            if report is not None:
                self.course.drift.append(report)
        self._now = timestamp(batch[-1].captured_at)
        learner.work()
        answering = learner.answering
        if answering.number != self._predictor.number or answering.offset != self._predictor.offset:
            self._predictor = self._complete(learner)
        phase = "off" if learner.why_off is not None else str(learner.state.phase)
        self.course.moments.append(Moment(batch[-1].number, phase, answering.number, answering.offset))

    def _complete(self, learner: StationLearner) -> Predictor:
        now = learner.answering
        if now.number == SOURCE:
            return self._frozen
        features = self._texts.features(prompts(self._recipe), now.adapter)
        return Predictor(now.number, now.adapter, features, self._frozen.fails, now.offset)


def event_id(recording: str, station: str, number: int, captured_at: datetime) -> str:
    """Return the id of a frame's verdict: a ULID of its time, and of what was recorded instead of chance."""
    chance = hashlib.sha256(f"{recording}/{station}/{number}".encode()).digest()[:10]
    return ulid_of(round(captured_at.timestamp() * 1000), int.from_bytes(chance))
