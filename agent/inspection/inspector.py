"""Thread `inspector`: THE loop, from a frame to its verdict."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import numpy as np

from adapters.core.observation import as_bytes
from adapters.core.protocol import Engine, Floats, directions
from agent.base.event_id import ulid
from agent.domain.verdict import Decision, Verdict, decide
from agent.inspection.ballot import Ballot
from agent.inspection.predictor import Predictor
from agent.inspection.sample_queue import InspectedSample, as_inspected
from agent.inspection.shadow import is_shadowed
from agent.inspection.station_plan import StationPlan
from camera.core.frame import Fault, Frame
from camera.feed.mailbox import Mailbox
from camera.pictures.quality import is_stale

_TAKE_S = 0.5


@dataclass(frozen=True, slots=True, eq=False)
class _Judged:
    """One picture through the model.

    Attributes:
        predictor: what answers.
        scores: ``(C,)`` what it says.
        source: ``(C,)`` what the frozen model says at the commissioned operating point; None where it did
            not see the picture.
        feature: ``(D,)`` by the frozen model, or None.
    """

    predictor: Predictor
    scores: Floats
    source: Floats | None
    feature: Floats | None


class Inspector:
    """Owns the loop. Asks the mailbox for frames and hands verdicts on; waits for nothing else.

    Args:
        deliver: takes the verdicts of one batch, in order, and returns those that count: a trigger may have
            had its result already.
        on_fail: gets every frame whose part failed; called in the loop, so it must be quick.
        keep: gets every frame with its verdict, behind `deliver`; in the loop too.
        limit: end after so many frames; None for ever.

    Attributes:
        inspected: how many frames.
        turned_at: when the loop last turned, by `time.monotonic`.
    """

    def __init__(
        self,
        agent_id: str,
        engine: Engine,
        plans: Mapping[str, StationPlan],
        mailbox: Mailbox,
        deliver: Callable[[Sequence[Verdict]], Sequence[Verdict]],
        *,
        batch: int,
        on_fail: Callable[[Frame], None] = lambda frame: None,
        keep: Callable[[Frame, Verdict], None] = lambda frame, verdict: None,
        limit: int | None = None,
    ) -> None:
        self.inspected = 0
        self.turned_at = time.monotonic()
        self._agent_id = agent_id
        self._engine = engine
        self._plans: dict[str, StationPlan] = {}
        self._mailbox = mailbox
        self._deliver = deliver
        self._on_fail = on_fail
        self._keep = keep
        self._batch = batch
        self._limit = limit
        self._ballots: dict[str, Ballot] = {}
        self._wanted = dict(plans)
        self._adopted: dict[str, StationPlan] | None = None
        self._adopt()

    def use(self, plans: Mapping[str, StationPlan], batch: int) -> None:
        """Judge by these plans from the next batch on; any thread.

        Args:
            plans: of all stations that run.
            batch: frames that may go through the model together.
        """
        # A station that comes and goes within one batch may have left a picture in the mailbox.
        self._wanted, self._batch = {**self._wanted, **plans}, batch

    def warm_up(self) -> None:
        """Judge one grey picture per station, so that the first part waits for nothing."""
        size = self._engine.info.preprocess.size
        grey = np.zeros((1, 3, size, size), np.float32)
        for plan in self._plans.values():
            self._look(grey, [plan], [True])

    def run(self, stop: threading.Event) -> None:
        """Inspect until `stop`, the limit, or the end of every station."""
        while not stop.is_set() and not self._mailbox.ended:
            self.turned_at = time.monotonic()
            room = self._batch if self._limit is None else min(self._batch, self._limit - self.inspected)
            if room <= 0:
                return
            frames = self._mailbox.take(room, _TAKE_S)
            self._adopt()
            if frames:
                self._hand_on(frames, self.judge(frames))
                self.inspected += len(frames)

    def _hand_on(self, frames: Sequence[Frame], verdicts: Sequence[Verdict]) -> None:
        """Deliver verdicts, then show and keep the pictures of those that count."""
        counted = {verdict.event_id for verdict in self._deliver(verdicts)}
        for frame, verdict in zip(frames, verdicts, strict=True):
            if verdict.event_id not in counted:
                if frame.receipt is not None:
                    frame.receipt.lost()
                continue
            if verdict.decision.verdict == "fail":
                self._on_fail(frame)
            self._keep(frame, verdict)

    def _adopt(self) -> None:
        """Take over the plans that are wanted; of stations that are gone the last ones stay."""
        wanted = self._wanted
        if wanted is self._adopted:
            return
        for name, plan in wanted.items():
            before = self._plans.get(name)
            other = before is None or before.recipe_name != plan.recipe_name
            if other or (before is not None and before.recipe.digest != plan.recipe.digest):
                self._ballots[name] = Ballot(plan.recipe.votes)
        self._plans = self._adopted = wanted

    def judge(self, frames: Sequence[Frame]) -> list[Verdict]:
        """Return one verdict per frame, in order; all frames go through the model together."""
        taken_ns = time.monotonic_ns()
        frames = [self._fresh(frame, taken_ns) for frame in frames]
        usable = [frame for frame in frames if frame.pixels is not None]
        judged: list[_Judged] = []
        if usable:
            pixels = np.stack([frame.pixels for frame in usable if frame.pixels is not None])
            plans = [self._plans[frame.station] for frame in usable]
            shadowed = [
                is_shadowed(frame.station, frame.number, plan.shadow)
                for frame, plan in zip(usable, plans, strict=True)
            ]
            judged = self._look(pixels, plans, shadowed)
        decided_ns, decided_at = time.monotonic_ns(), datetime.now(UTC)
        infer_ms = (decided_ns - taken_ns) / 1e6
        rows = iter(judged)
        verdicts = [
            self._verdict(frame, None if frame.pixels is None else next(rows), taken_ns, decided_at, infer_ms)
            for frame in frames
        ]
        for frame, one in zip(usable, judged, strict=True):
            self._tell(frame, one)
        return verdicts

    def _fresh(self, frame: Frame, now_ns: int) -> Frame:
        if frame.pixels is None or not is_stale(frame.captured_ns, now_ns, self._plans[frame.station].limits):
            return frame
        return replace(frame, pixels=None, quality=replace(frame.quality, fault=Fault.STALE))

    def _look(self, pixels: Floats, plans: Sequence[StationPlan], shadowed: Sequence[bool]) -> list[_Judged]:
        """Judge ``(B, 3, S, S)`` pictures, each by its own station's recipe and adapter.

        Args:
            pixels: as the model takes them.
            plans: of their stations.
            shadowed: which of them the frozen model sees too, where it is not the one that answers.
        """
        # One look at what answers per station: no frame of the batch gets a mixture of two versions.
        now = {id(plan): plan.answering() for plan in plans}
        predictors = [now[id(plan)] for plan in plans]
        same = [
            predictor.adapter.digest == plan.frozen.adapter.digest
            for plan, predictor in zip(plans, predictors, strict=True)
        ]
        other = [row for row, is_same in enumerate(same) if shadowed[row] and not is_same]
        adapters = [predictor.adapter for predictor in predictors]
        adapters += [plans[row].frozen.adapter for row in other]
        images = np.concatenate([pixels, pixels[other]]) if other else pixels
        features = self._engine.encode_image(images, adapters)  # (B + number of others, D)
        frozen: list[Floats | None] = [
            feature if is_same else None for feature, is_same in zip(features, same, strict=False)
        ]
        for row, feature in zip(other, features[len(plans) :], strict=True):
            frozen[row] = feature
        return [
            self._judged(plan, predictor, feature, before)
            for plan, predictor, feature, before in zip(plans, predictors, features, frozen, strict=False)
        ]

    def _judged(
        self, plan: StationPlan, predictor: Predictor, feature: Floats, frozen: Floats | None
    ) -> _Judged:
        scale = self._engine.info.logit_scale
        scores = predictor.probabilities(feature, scale)
        if frozen is None:
            return _Judged(predictor, scores, None, None)
        same = predictor.answers_like(plan.frozen)
        return _Judged(
            predictor, scores, scores if same else plan.frozen.probabilities(frozen, scale), frozen
        )

    def _tell(self, frame: Frame, judged: _Judged) -> None:
        """Show the station's learner what the frozen model saw, and what was said."""
        plan = self._plans[frame.station]
        if plan.on_sample is None or frame.pixels is None or judged.source is None or judged.feature is None:
            return
        if not (np.isfinite(judged.scores).all() and directions(judged.feature)):
            return  # nobody can learn from what is no number
        info, fails, limit = self._engine.info, plan.frozen.fails, plan.recipe.threshold
        seen = as_inspected(
            judged.feature,
            plan.frozen.class_features,
            fails,
            info,
            as_bytes(frame.pixels[None], info.preprocess)[0],
            frame.number,
            frame.captured_ns / 1e9,
        )
        rejected, before = (bool(scores[fails].sum() >= limit) for scores in (judged.scores, judged.source))
        plan.on_sample(InspectedSample(seen, rejected, before, judged.predictor.adapter.digest))

    def _verdict(
        self, frame: Frame, judged: _Judged | None, taken_ns: int, decided_at: datetime, infer_ms: float
    ) -> Verdict:
        plan = self._plans[frame.station]
        own = decide(None if judged is None else judged.scores.tolist(), frame.quality, plan.recipe)
        source: Decision | None = own
        if judged is not None and judged.source is not judged.scores:
            source = (
                None if judged.source is None else decide(judged.source.tolist(), frame.quality, plan.recipe)
            )
        decision = self._ballots[frame.station].cast(own, frame.trigger)
        return Verdict(
            event_id=ulid(),
            agent=self._agent_id,
            station=frame.station,
            captured_at=frame.captured_at,
            decided_at=decided_at,
            part_id=frame.part_id,
            recipe=plan.recipe_name,
            decision=decision,
            source=source,
            provenance=plan.made_by(None if judged is None else judged.predictor),
            quality=frame.quality,
            wait_ms=(taken_ns - frame.captured_ns) / 1e6,
            infer_ms=infer_ms,
            trigger=frame.trigger,
            frame=frame.number,
            production=plan.production(),
            receipt=frame.receipt,
        )
