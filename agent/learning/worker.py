"""Thread `learner-<station>`: takes what the inspector saw, decides, and has computed what is due.

What takes long is computed in a thread of its own, which this one asks whether its result is still wanted. So
labels, proofs of harm and what people ask for take effect at once, whatever is being computed.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from threading import Event

from adapters.core.prompts import Prompts, TextCache
from adapters.core.scorer import Scorer
from adapters.encoders.cancellation import CancellableEngine, Cancelled
from adapters.gate.promotion_gate import Ruling
from adapters.learner.factory import LearnerModel
from adapters.monitoring.drift_detector import DriftReport
from agent.domain.active_version import ActiveVersion
from agent.domain.learner_stats import LearnerStats
from agent.inspection.frame_count import InForce
from agent.inspection.predictor import Predictor
from agent.inspection.sample_queue import InspectedSample, SampleQueue
from agent.learning.background_task import Background
from agent.learning.episode import Ask, Change, Look
from agent.learning.failure import Failure, failure_of
from agent.learning.ipc import Label
from agent.learning.station_desk import StationDesk, Tell
from agent.learning.station_learner import StationLearner
from agent.payloads import learning_payload
from agent.versions.commissioned import Commissioned

log = logging.getLogger(__name__)

_WAIT_S = 0.2
_AT_ONCE = 32
_MAX_LABELS = 1000
_SHOWN_S = 60.0
_WELL_S = 600.0


@dataclass(frozen=True, slots=True, eq=False)
class _Job:
    """What is being computed: a look, or at first the learner itself, which is None here."""

    work: Background[Change, ActiveVersion, StationLearner | Ruling | None]
    look: Look | None
    started: float


class Learning:
    """Owns a station's learner: all that is decided and written happens in `run`, in one thread.

    The inspector never waits for it: `answering` gives what is complete, and `handover` takes what it saw.
    After a computation of t seconds the next one waits, so that it takes no more than its share of the time,
    and one begins only while no other station's learner computes. An error in what learns is told, and
    learning begins again after a pause that grows; what people ask for is done meanwhile.

    Args:
        station: as it was found at start.
        model: of all learners.
        prompts: the recipe's words.
        first: what answers until something else is promoted.
        frozen: the model as it was trained, at the commissioned operating point.
        agent: id of the agent, for what is published.
        tell: publishes; called in this thread.
        changed: told where `answering` or `stats` has changed, and once at first; called in this thread.
        since: since when the product is in force; None: it is from here on, in a run of its own.
    """

    def __init__(
        self,
        station: Commissioned,
        model: LearnerModel,
        prompts: Prompts,
        first: Predictor,
        frozen: Predictor,
        agent: str,
        tell: Tell,
        changed: Callable[[Learning], None] = lambda learning: None,
        since: InForce | None = None,
    ) -> None:
        self.station = station.station
        self.handover = SampleQueue()
        self._found, self._model, self._prompts = station, model, prompts
        self._agent, self._tell = agent, tell
        self._halt = Event()
        self._labels: deque[Label] = deque(maxlen=_MAX_LABELS)
        self._texts: TextCache | None = None
        self._desk = StationDesk(
            station, prompts, frozen, first, self._class_features, agent, since, tell, lambda: changed(self)
        )
        self._manager = self._desk.manager
        self._learner: StationLearner | None = None
        self._job: _Job | None = None
        self._fault: Failure | None = None
        self._open_at = self._opened_at = self._rest_until = 0.0

    def answering(self) -> Predictor:
        """Return what to judge with now; any thread may ask."""
        return self._desk.predictor

    def stats(self) -> LearnerStats:
        """Return how it is doing; any thread may ask."""
        return self._desk.stats

    def label(self, label: Label) -> None:
        """Take what a part really was, after the parts that are handed over already; any thread.

        When 1000 wait, the oldest is lost first; the store has them all.
        """
        self._labels.append(label)

    def stop(self) -> None:
        """Let `run` end; what is being computed ends at its next call of the model."""
        self._halt.set()

    def run(self) -> None:
        """Learn until `stop`. What is promoted is on disk; what is half done is left."""
        try:
            self._desk.begin()
            self._tell("drift", learning_payload.drift(self._agent, self.station, DriftReport(), None, 0))
            while not self._halt.is_set():
                self._turn()
        except Cancelled:
            log.info("learner %s: ends in the middle of its work", self.station)
        finally:
            self._end()

    def _turn(self) -> None:
        taken: Sequence[InspectedSample] = ()
        if self._learner is None:
            self._halt.wait(_WAIT_S)
        else:
            taken = self.handover.take(_AT_ONCE, _WAIT_S)
        self._desk.serve(self._chosen)
        try:
            self._learn(taken)
        except OSError as error:
            self._manager.kept.failed(error)
        except Exception as error:  # noqa: BLE001 - whatever it is: a person can still freeze, reset and go back
            self._unless_it_ends(error)
        self._desk.show(self._learner, self._failed())

    def _learn(self, taken: Sequence[InspectedSample]) -> None:
        if self._learner is None:
            if self._job is not None:
                self._go_on(self._job)
            elif time.monotonic() >= self._open_at:
                self._begin(lambda ask: self._open(), None)
            return
        for one in taken:
            self._observe(self._learner, one)
        if len(taken) < _AT_ONCE:
            self._told(self._learner)
        self._learner.decide()
        self._work(self._learner)
        self._manager.kept.save_in_time()

    def _chosen(self) -> None:
        try:
            if self._learner is not None:
                self._learner.chosen()
        except Exception as error:  # noqa: BLE001 - what answers was chosen all the same
            self._unless_it_ends(error)

    def _open(self) -> StationLearner:
        """Open what the learner looks and learns with; takes as long as opening the model does."""
        found = self._found
        engine, update = self._model.open(self._prompts, full=found.level == "full", halt=self._unwanted)
        scorer = Scorer(engine, self._prompts, found.clean.fails, self._class_features())
        return StationLearner(found.clean, scorer, update, self._manager, found.learner_settings())

    def _unwanted(self) -> bool:
        job = self._job
        return self._halt.is_set() or (job is not None and job.work.cancelled)

    def _class_features(self) -> TextCache:
        """Return what this thread and the one that computes have in common; only the end ends it."""
        if self._texts is None:
            engine, _ = self._model.load(full=False)
            self._texts = TextCache(CancellableEngine(engine, self._halt.is_set))
        return self._texts

    def _observe(self, learner: StationLearner, one: InspectedSample) -> None:
        if not one.seen.finite:  # it was not inspected either, and says nothing of the line
            self.handover.lose(1)
            return
        report = learner.observe(one.seen)
        rejected, before, number = one.rejected, one.rejected_frozen, one.seen.number
        learner.said(number, adapted_fails=rejected, frozen_fails=before, by=one.adapter)
        if report is not None:
            at, unseen = datetime.now(UTC), self.handover.lost
            self._tell("drift", learning_payload.drift(self._agent, self.station, report, at, unseen))
            if report.abrupt:
                log.info("learner %s: the pictures changed abruptly", self.station)

    def _told(self, learner: StationLearner) -> None:
        while self._labels:
            label = self._labels.popleft()
            learner.told(label.number, defect=label.defect, actor=label.actor)

    def _work(self, learner: StationLearner) -> None:
        """Have computed what is due, and go on with what was."""
        if self._job is not None:
            self._go_on(self._job)
            return
        rested = time.monotonic() >= self._rest_until and self._manager.kept.trouble is None
        if rested and self._model.turn.acquire(blocking=False):
            try:
                look = learner.due()
                if look is not None:
                    self._begin(look.run, look)
            finally:
                if self._job is None:  # nothing is due, or no thread can be had
                    self._model.turn.release()

    def _begin(self, compute: Callable[[Ask], StationLearner | Ruling | None], look: Look | None) -> None:
        work = Background(f"computes-{self.station}", compute)
        self._job = _Job(work, look, time.monotonic())

    def _go_on(self, job: _Job) -> None:
        """Make what a computation asks for, take its result, or let it go where nobody wants it any more."""
        learner, look = self._learner, job.look
        if look is not None and not job.work.cancelled and not (learner is not None and learner.wants(look)):
            self._discard(job, self._manager.superseded_by)
        change = job.work.asked()
        if change is not None and learner is not None and look is not None and not job.work.cancelled:
            try:
                job.work.answer(learner.make(change, look))
            except OSError:
                job.work.cancel()
                raise
        done = job.work.done()
        if done is None:
            return
        self._job = None
        if look is not None:
            self._rest(job)
        if job.work.cancelled or isinstance(done.error, Cancelled):
            return
        if done.error is not None:
            raise done.error
        if isinstance(done.result, StationLearner):
            self._learner, self._opened_at = done.result, time.monotonic()
        elif learner is not None and look is not None:
            learner.adopt(look, done.result)

    def _rest(self, job: _Job) -> None:
        self._model.turn.release()
        ended = time.monotonic()
        self._rest_until = ended + (ended - job.started) * (1 / self._found.settings.duty - 1)

    def _discard(self, job: _Job, why: str) -> None:
        job.work.cancel()
        self._manager.record("discarded", "agent", f"what was being computed is not used: {why}")

    def _unless_it_ends(self, error: Exception) -> None:
        """Take an error for one of learning, unless it is what `stop` ends a call of the model with."""
        if isinstance(error, Cancelled) and self._halt.is_set():
            raise error
        self._fail(error)

    def _fail(self, error: Exception) -> None:
        """Do without a learner for a while; what answers, and what people ask for, is not its affair."""
        now = time.monotonic()
        before = self._fault if self._learner is None or now - self._opened_at < _WELL_S else None
        self._fault = failure_of(error, before)
        log.error(
            "learner %s: failed for the %d. time at %s, begins again in %.0f s",
            self.station, self._fault.times, self._fault.place, self._fault.pause_s, exc_info=error,
        )  # fmt: skip
        self._open_at, self._learner = now + self._fault.pause_s, None
        self._manager.supersede("learning failed")

    def _failed(self) -> str | None:
        """Return what health says: until it has been well for a minute, so that it does not come and go."""
        if self._fault is None or (
            self._learner is not None and time.monotonic() - self._opened_at > _SHOWN_S
        ):
            return None
        return self._fault.why

    def _end(self) -> None:
        job = self._job
        if job is not None:
            if job.look is None or job.work.cancelled:
                job.work.cancel()
            else:
                self._discard(job, "the learner ends")
        self._manager.kept.save()
        if job is not None and job.look is not None:
            self._model.turn.release()
