"""Thread `learner-<station>`: takes what the inspector saw, learns within its share of time, tells how."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from threading import Event
from typing import Any

from adapters.adapter import AdapterError
from adapters.eye import Eye
from adapters.halting import Halted
from adapters.open_learner import LearnerModel
from adapters.prompts import Prompts, TextCache
from adapters.version import SOURCE
from agent import payloads
from agent.answering import Answering
from agent.commissioned import Commissioned, require_finite
from agent.handover import HandOver, Witnessed
from agent.health import LearnerStats
from agent.learner import StationLearner
from agent.learner_link import Label
from agent.payloads import JSON
from agent.predictor import Predictor
from agent.requests import Request, finish, take

log = logging.getLogger(__name__)

_WAIT_S = 0.2
_AT_ONCE = 32
_ASK_S = 0.5
_DISK_S = 10.0
_MAX_LABELS = 1000

Tell = Callable[[str, JSON], None]
"""Takes the name of a station's topic and what to publish there."""


class Learning:
    """Owns a station's learner: everything that learns happens in `run`, in one thread.

    The inspector never waits for it: `answering` gives what is complete, and `handover` takes what it saw.
    After work of t seconds it rests, so that it computes no more than its share of the time, and it works
    only while no other station's learner does; it goes on observing meanwhile.

    Args:
        station: as it was found at start.
        model: of all learners.
        prompts: the recipe's words.
        first: what answers until something else is promoted.
        frozen: the model as it was trained, at the commissioned operating point.
        agent: id of the agent, for what is published.
        tell: publishes; called in this thread.
        changed: told where `answering` or `stats` has changed, and once at first; called in this thread.
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
    ) -> None:
        self.station = station.station
        self.handover = HandOver()
        self._found = station
        self._model, self._prompts = model, prompts
        self._predictor, self._frozen = first, frozen
        self._agent, self._tell, self._changed = agent, tell, changed
        self._halt = Event()
        self._labels: deque[Label] = deque(maxlen=_MAX_LABELS)
        self._stats = LearnerStats(self.station)
        self._shown: JSON = {}
        self._disk: str | None = None
        self._answers = station.answering
        self._rest_until = self._ask_at = 0.0
        # A request that was obeyed when the process ended may still lie there.
        self._done: str | None = station.store.active().learner.get("request")
        # Frames count from 1 at each start; what is kept counts on.
        self._before = int(station.store.active().learner.get("frame", 0))

    def answering(self) -> Predictor:
        """Return what to judge with now; any thread may ask."""
        return self._predictor

    def stats(self) -> LearnerStats:
        """Return how it is doing; any thread may ask."""
        return self._stats

    def label(self, label: Label) -> None:
        """Take what a part really was, after the parts that are handed over already; any thread.

        When 1000 wait, the oldest is lost first; the store has them all.
        """
        self._labels.append(label)

    def stop(self) -> None:
        """Let `run` end at the next call of the model, also in the middle of an update."""
        self._halt.set()

    def run(self) -> None:
        """Learn until `stop`. What is promoted is on disk; what is half done is left."""
        try:
            self._run()
        except Halted:
            log.info("learner %s: ends in the middle of its work", self.station)

    def _run(self) -> None:
        learner = self._open()
        self._answers = learner.answering
        self._changed(self)
        self._show(learner)
        self._tell("drift", payloads.drift(self._agent, self.station, learner.drift, None, 0))
        while not self._halt.is_set():
            taken = self.handover.take(_AT_ONCE, _WAIT_S)
            for one in taken:
                self._observe(learner, one)
            if len(taken) < _AT_ONCE:
                self._on_disk(learner, lambda: self._told(learner), proves=False)
            # Also while it rests: what was learned for other pictures is not to answer on.
            self._on_disk(learner, learner.react, proves=False)
            now = time.monotonic()
            if now >= self._ask_at:
                self._on_disk(learner, lambda: self._obey(learner))
                self._ask_at = time.monotonic() + (_ASK_S if self._disk is None else _DISK_S)
            if now >= self._rest_until and self._model.turn.acquire(blocking=False):
                try:
                    self._work(learner)
                finally:
                    self._model.turn.release()
            self._show(learner)

    def _open(self) -> StationLearner:
        """Open what the learner looks and learns with; takes as long as opening the model does."""
        found = self._found
        engine, update = self._model.open(self._prompts, full=found.level == "full", halt=self._halt.is_set)
        self._texts = TextCache(engine)
        self._eye = Eye(engine, self._prompts, found.clean.fails)
        return StationLearner(
            found.clean,
            self._eye,
            update,
            found.store,
            found.audit,
            _now,
            found.learner_settings(),
            self._happened,
        )

    def _observe(self, learner: StationLearner, one: Witnessed) -> None:
        seen = replace(one.seen, number=self._before + one.seen.number)
        report = learner.observe(seen)
        try:
            learner.said(seen.number, adapted_fails=one.rejected, frozen_fails=one.rejected_frozen)
        except OSError as error:
            self._disk_trouble(error)
        if report is not None:
            at, unseen = datetime.now(UTC), self.handover.lost
            self._tell("drift", payloads.drift(self._agent, self.station, report, at, unseen))
            if report.abrupt:
                log.info("learner %s: the pictures changed at a stroke", self.station)

    def _told(self, learner: StationLearner) -> None:
        while self._labels:
            label = self._labels.popleft()
            learner.told(self._before + label.number, defect=label.defect, actor=label.actor)

    def _work(self, learner: StationLearner) -> None:
        started = time.monotonic()
        self._on_disk(learner, learner.work)
        ended = time.monotonic()
        rest = (ended - started) * (1 / self._found.settings.duty - 1)
        self._rest_until = ended + (rest if self._disk is None else _DISK_S)

    def _obey(self, learner: StationLearner) -> None:
        """Do what people asked for, each once and in order."""
        taken = take(self._found.requests, self._done)
        self._done = None
        for line in taken.refused:
            log.warning("learner %s: %s", self.station, line)
            self._record(learner, "request_refused", "agent", line)
        for request in taken.requests:
            try:
                self._allow(request)
                learner.obey(request)
            except AdapterError as error:
                log.warning("learner %s: %s by %s: %s", self.station, request.kind, request.actor, error)
                self._record(learner, "request_refused", request.actor, f"{request.kind}: {error}")
            finish(self._found.requests, request)

    def _allow(self, request: Request) -> None:
        """Raise AdapterError where a request is not to be obeyed, with why."""
        if request.kind == "imported":  # it has happened
            return
        if self._found.settings.mode == "locked":
            raise AdapterError("mode locked: nothing changes what answers")
        if not request.number:
            return
        version = self._found.store.load(request.number)
        if version.recipe != self._found.clean.recipe:
            raise AdapterError(f"version {request.number} was made for another recipe")
        if request.kind in ("rollback", "activate"):
            require_finite(self._eye, self._found.clean, version)

    def _on_disk(self, learner: StationLearner, act: Callable[[], object], *, proves: bool = True) -> None:
        """Do what writes to the disk; is it full, inspection goes on, and this is tried again.

        Args:
            learner: of the station.
            act: what to do.
            proves: that it went well says that the disk is; what seldom writes says nothing.
        """
        try:
            act()
            if self._disk is not None and proves:
                why = f"the disk takes it again; records may be missing since: {self._disk}"
                self._record(learner, "disk_trouble_over", "agent", why)
                log.warning("learner %s: %s", self.station, why)
                self._disk = None
        except OSError as error:
            self._disk_trouble(error)
        # What answers may be another one also where its record could not be written.
        if learner.answering is not self._answers:
            self._predictor = self._complete(learner.answering)
            self._changed(self)

    def _disk_trouble(self, error: OSError) -> None:
        if self._disk is None:
            log.error("learner %s: %s; nothing is learned until the disk takes it", self.station, error)
        self._disk = str(error)

    def _complete(self, answering: Answering) -> Predictor:
        """Return what the inspector needs of what answers now, before the first picture asks for it."""
        self._answers = answering
        log.info(
            "learner %s: version %d answers, offset %.2f", self.station, answering.number, answering.offset
        )
        if answering.number == SOURCE:
            return self._frozen
        features = self._texts.features(self._prompts, answering.adapter)
        return Predictor(answering.number, answering.adapter, features, self._frozen.fails, answering.offset)

    def _record(self, learner: StationLearner, event: str, actor: str, why: str) -> None:
        """Add what is none of the learner's own doing to the audit trail, and tell."""
        answers = learner.answering
        after = {"number": answers.number, "digest": answers.adapter.digest, "offset": answers.offset}
        at = _now()
        self._found.audit.append(at, event, actor=actor, why=why, after=after)
        self._happened(
            {
                "at": at,
                "event": event,
                "actor": actor,
                "why": why,
                "before": None,
                "after": after,
                "numbers": {},
            }
        )

    def _happened(self, record: dict[str, Any]) -> None:
        log.info("learner %s: %s: %s", self.station, record["event"], record["why"])
        self._tell("adapter/event", payloads.adapter_event(self._agent, self.station, record))

    def _show(self, learner: StationLearner) -> None:
        """Publish what answers and how learning goes, where that is something else than before."""
        active, answering = self._found.store.active(), learner.answering
        version = active.version
        phase = "off" if learner.why_off is not None else str(learner.state.phase)
        stats = LearnerStats(
            self.station,
            at_bound=answering.at_bound,
            tripped=phase == "tripped",
            too_many_rejects=learner.rate.raised,
            disk=self._disk,
        )
        if stats != self._stats:
            self._stats = stats
            self._changed(self)
        shown = payloads.adapter(
            self._agent,
            self.station,
            answering,
            mode=self._found.settings.mode,
            level=self._found.level,
            phase=phase,
            parent=version.parent if version is not None and version.number == answering.number else None,
            promoted=active.number,
            since=active.since,
            why_off=learner.why_off,
            frozen_by=learner.frozen_by,
            commissioning=self._found.clean.digest,
            too_many_rejects=learner.rate.raised,
            guard=learner.last_numbers,
        )
        if shown != self._shown:
            self._shown = shown
            self._tell("adapter", shown)


def _now() -> str:
    return payloads.timestamp(datetime.now(UTC))
