"""Thread `inspector`: THE loop, from a frame to its verdict."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from adapters.adapter import Adapter
from adapters.engine import Engine
from adapters.prompts import Prompts, TextCache, probabilities
from agent.config import Recipe
from agent.ids import ulid
from agent.verdict import Decision, Provenance, Verdict, decide, vote
from camera.frame import Fault, Frame
from camera.mailbox import Mailbox
from camera.quality import is_stale
from camera.settings import QualityLimits

_TAKE_S = 0.5


@dataclass(frozen=True, slots=True)
class StationPlan:
    """Everything that judging one station's frames needs.

    Attributes:
        limits: when a frame is too old to be inspected.
    """

    recipe_name: str
    recipe: Recipe
    prompts: Prompts
    adapter: Adapter
    provenance: Provenance
    limits: QualityLimits


class Inspector:
    """Owns the loop. Asks the mailbox for frames and hands verdicts on; waits for nothing else.

    Args:
        deliver: takes the verdicts of one batch, in order.
        on_fail: gets every frame whose part failed; called in the loop, so it must be quick.
        limit: end after so many frames; None for ever.
    """

    def __init__(
        self,
        agent_id: str,
        engine: Engine,
        plans: Mapping[str, StationPlan],
        mailbox: Mailbox,
        deliver: Callable[[Sequence[Verdict]], None],
        *,
        batch: int,
        on_fail: Callable[[Frame], None] = lambda frame: None,
        limit: int | None = None,
    ) -> None:
        self.inspected = 0
        self._agent_id = agent_id
        self._engine = engine
        self._plans = plans
        self._mailbox = mailbox
        self._deliver = deliver
        self._on_fail = on_fail
        self._batch = batch
        self._limit = limit
        self._texts = TextCache(engine, capacity=len(plans) + 1)
        self._history = {name: deque[Decision](maxlen=_votes(plan)) for name, plan in plans.items()}

    def warm_up(self) -> None:
        """Encode every recipe and judge one grey picture, so that the first part waits for nothing."""
        size = self._engine.info.preprocess.size
        grey = np.zeros((1, 3, size, size), np.float32)
        for plan in self._plans.values():
            self._scores(grey, [plan])

    def run(self, stop: threading.Event) -> None:
        """Inspect until `stop`, the limit, or the end of every station."""
        while not stop.is_set() and not self._mailbox.ended:
            room = self._batch if self._limit is None else min(self._batch, self._limit - self.inspected)
            if room <= 0:
                return
            frames = self._mailbox.take(room, _TAKE_S)
            if frames:
                self._deliver(self.judge(frames))
                self.inspected += len(frames)

    def judge(self, frames: Sequence[Frame]) -> list[Verdict]:
        """Return one verdict per frame, in order; all frames go through the model together."""
        taken_ns = time.monotonic_ns()
        frames = [self._fresh(frame, taken_ns) for frame in frames]
        usable = [frame for frame in frames if frame.pixels is not None]
        scores: Iterator[NDArray[np.float32]] = iter(())
        if usable:
            pixels = np.stack([frame.pixels for frame in usable if frame.pixels is not None])
            scores = iter(self._scores(pixels, [self._plans[frame.station] for frame in usable]))
        decided_ns, decided_at = time.monotonic_ns(), datetime.now(UTC)
        infer_ms = (decided_ns - taken_ns) / 1e6
        return [
            self._verdict(
                frame, None if frame.pixels is None else next(scores), taken_ns, decided_at, infer_ms
            )
            for frame in frames
        ]

    def _fresh(self, frame: Frame, now_ns: int) -> Frame:
        if frame.pixels is None or not is_stale(frame.captured_ns, now_ns, self._plans[frame.station].limits):
            return frame
        return replace(frame, pixels=None, quality=replace(frame.quality, fault=Fault.STALE))

    def _scores(self, pixels: NDArray[np.float32], plans: Sequence[StationPlan]) -> list[NDArray[np.float32]]:
        """Return the class probabilities of each picture, by its own station's recipe and adapter."""
        features = self._engine.encode_image(pixels, [plan.adapter for plan in plans])  # (B, D)
        scale = self._engine.info.logit_scale
        return [
            probabilities(features[i : i + 1], self._texts.features(plan.prompts, plan.adapter), scale)[0]
            for i, plan in enumerate(plans)
        ]

    def _verdict(
        self,
        frame: Frame,
        scores: NDArray[np.float32] | None,
        taken_ns: int,
        decided_at: datetime,
        infer_ms: float,
    ) -> Verdict:
        plan = self._plans[frame.station]
        own = decide(None if scores is None else scores.tolist(), frame.quality, plan.recipe)
        decision = own
        if plan.recipe.votes is not None:
            history = self._history[frame.station]
            history.append(own)
            decision = vote(list(history), plan.recipe.votes)
        if decision.verdict == "fail":
            self._on_fail(frame)
        return Verdict(
            event_id=ulid(),
            agent=self._agent_id,
            station=frame.station,
            captured_at=frame.captured_at,
            decided_at=decided_at,
            part_id=frame.part_id,
            recipe=plan.recipe_name,
            decision=decision,
            # Only the source model answers so far: it is its own yardstick.
            source=own,
            provenance=plan.provenance,
            quality=frame.quality,
            wait_ms=(taken_ns - frame.captured_ns) / 1e6,
            infer_ms=infer_ms,
        )


def _votes(plan: StationPlan) -> int:
    return plan.recipe.votes.n if plan.recipe.votes is not None else 1
