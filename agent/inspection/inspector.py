"""Thread `inspector`: THE loop, from a frame to its verdict."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np

from adapters.core.observation import as_bytes
from adapters.core.protocol import Engine, Floats, directions
from agent.base.event_id import ulid
from agent.config.recipes import CLIP
from agent.domain.part_pictures import PartPictures, PictureSaid, part_pictures
from agent.domain.verdict import Decision, Verdict
from agent.inspection.ballot import Ballot
from agent.inspection.comparing import compare_parts
from agent.inspection.frame_count import OthersCount
from agent.inspection.judging import MOST_PICTURES, JudgedPart, judge_parts
from agent.inspection.sample_queue import InspectedSample, as_inspected
from agent.inspection.seen_part import Part, SeenPart
from agent.inspection.shadow import is_shadowed
from agent.inspection.station_plan import StationPlan
from camera.core.frame import Fault, Frame
from camera.feed.mailbox import Mailbox
from camera.pictures.quality import is_stale

_TAKE_S = 0.5


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
        self._ballots: dict[str, dict[str, Ballot]] = {}  # station -> recipe's name -> ballot
        self._parts: dict[str, PartPictures] = {}  # station -> the part that was judged last
        self._counts: dict[str, OthersCount] = {}
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
        """Judge one grey part per station and product, so that the first one waits for nothing."""
        size = self._engine.info.preprocess.size
        for plan in (each for one in self._plans.values() for each in _products(one)):
            if plan.recipe.has_words:
                self._look([np.zeros((plan.tiles, 3, size, size), np.float32)], [plan], [True])
            if plan.reference is not None and not (plan.recipe.has_words and plan.reference.features == CLIP):
                extractor = plan.reference.extractor
                side = extractor.info.preprocess.size
                extractor.patches(np.zeros((plan.tiles, 3, side, side), np.float32))

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
            before, count = self._plans.get(name), self._counts.get(name)
            if count is None or count.since != plan.since:
                self._counts[name] = OthersCount(plan.since)
            judged_by = {} if before is None else {o.recipe_name: o.recipe.digest for o in _products(before)}
            old, ballots = self._ballots.get(name, {}), dict[str, Ballot]()
            for one in _products(plan):
                same = judged_by.get(one.recipe_name) == one.recipe.digest
                ballots[one.recipe_name] = old[one.recipe_name] if same else Ballot(one.recipe.votes)
            self._ballots[name] = ballots
        self._plans = self._adopted = wanted

    def judge(self, frames: Sequence[Frame]) -> list[Verdict]:
        """Return one verdict per frame, in order; as many as it takes go through the model together."""
        taken_ns = time.monotonic_ns()
        frames = [self._fresh(frame, taken_ns) for frame in frames]
        parts = [self._part(frame) for frame in frames]
        usable = [part for part in parts if part.usable]
        judged = self._judged([part for part in parts if part.asks_words])
        by_words = iter(judged)
        patches = [next(by_words).patches if part.asks_words else None for part in usable]
        references = [part.plan.reference for part in usable]
        compared = compare_parts([part.frame for part in usable], references, patches)
        words, beside = iter(judged), iter(compared)
        seen = [
            SeenPart(part, next(words) if part.asks_words else None, next(beside) if part.usable else None)
            for part in parts
        ]
        decided_ns, decided_at = time.monotonic_ns(), datetime.now(UTC)
        infer_ms = (decided_ns - taken_ns) / 1e6
        verdicts = [self._verdict(one, taken_ns, decided_at, infer_ms) for one in seen]
        for one in seen:
            if one.judged is not None:
                self._tell(one.part, one.judged)
        return verdicts

    def _judged(self, parts: Sequence[Part]) -> list[JudgedPart]:
        """Return what the model says of parts by words."""
        if not parts:
            return []
        shadowed = [
            is_shadowed(part.frame.station, part.number or part.frame.number, part.plan.shadow)
            for part in parts
        ]
        pixels = [part.frame.pixels for part in parts if part.frame.pixels is not None]
        return self._look(pixels, [part.plan for part in parts], shadowed)

    def _part(self, frame: Frame) -> Part:
        """Return a frame with what it is judged with."""
        in_force = self._plans[frame.station]
        plan = in_force.of(frame.part_id)
        number = self._counts[frame.station].own(frame.number, other=plan is not in_force)
        return Part(frame, plan, number)

    def _fresh(self, frame: Frame, now_ns: int) -> Frame:
        limits = self._plans[frame.station].limits
        if frame.quality.fault is not None or not is_stale(frame.known_ns, now_ns, limits):
            return frame
        return replace(frame, quality=replace(frame.quality, fault=Fault.STALE))

    def _look(
        self, parts: Sequence[Floats], plans: Sequence[StationPlan], shadowed: Sequence[bool]
    ) -> list[JudgedPart]:
        # No more pictures at once than the batch would have without tiles, the source model's included.
        return judge_parts(self._engine, parts, plans, shadowed, max(MOST_PICTURES, 2 * self._batch))

    def _tell(self, part: Part, judged: JudgedPart) -> None:
        """Show the station's learner what decides by the frozen model, and what was said of the part."""
        frame, plan = part.frame, part.plan
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
            as_bytes(frame.pixels[judged.source_tile][None], info.preprocess)[0],
            part.number,
            frame.captured_ns / 1e9,
        )
        rejected, before = (bool(scores[fails].sum() >= limit) for scores in (judged.scores, judged.source))
        plan.on_sample(InspectedSample(seen, rejected, before, judged.predictor.adapter.digest))

    def _verdict(self, seen: SeenPart, taken_ns: int, decided_at: datetime, infer_ms: float) -> Verdict:
        part, own = seen.part, seen.decision()
        frame, plan = part.frame, part.plan
        event_id = ulid()
        return Verdict(
            event_id=event_id,
            agent=self._agent_id,
            station=frame.station,
            captured_at=frame.captured_at,
            decided_at=decided_at,
            part_id=frame.part_id,
            recipe=plan.recipe_name,
            decision=self._ballots[frame.station][plan.recipe_name].cast(own, frame.trigger),
            source=seen.source(own),
            provenance=seen.provenance(),
            quality=frame.quality,
            wait_ms=(taken_ns - frame.captured_ns) / 1e6,
            infer_ms=infer_ms,
            trigger=frame.trigger,
            frame=part.number,
            production=plan.production(),
            view=seen.view(),
            tile=seen.tile(own),
            compared=seen.comparison,
            difference=None if seen.compared is None else seen.compared.difference,
            part=self._part_pictures(frame, event_id, own),
            receipt=frame.receipt,
        )

    def _part_pictures(self, frame: Frame, event_id: str, own: Decision) -> PartPictures | None:
        """Return the part that a picture is of, with what its pictures have said so far."""
        if frame.part is None:
            return None
        said = PictureSaid(event_id, frame.captured_at, frame.station, own.verdict, own.label)
        made = part_pictures(frame.part, said, self._parts.get(frame.station))
        self._parts[frame.station] = made
        return made


def _products(plan: StationPlan) -> tuple[StationPlan, ...]:
    """Return the plans of all products of a station, the one in force first."""
    return (plan, *plan.others.values())
