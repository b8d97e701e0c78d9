"""What a person asks of a station's learning, and what is told of it: never waits for what is computed."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from adapters.core.adapter import AdapterError
from adapters.core.prompts import Prompts, TextCache
from adapters.core.scorer import Scorer
from adapters.core.version import SOURCE, Version
from adapters.encoders.cancellation import Cancelled
from agent.base.codec import JSON, timestamp
from agent.domain.active_version import ActiveVersion
from agent.domain.learner_stats import LearnerStats
from agent.inspection.frame_count import InForce
from agent.inspection.predictor import Predictor
from agent.learning.station_learner import StationLearner
from agent.payloads import learning_payload
from agent.versions.commissioned import Commissioned, require_finite
from agent.versions.execute import execute, needs_disk, overtakes, require_allowed
from agent.versions.learner_settings import why_off
from agent.versions.operator_requests import Request, finish, take
from agent.versions.version_manager import VersionManager

log = logging.getLogger(__name__)

_ASK_S = 0.5
_DISK_S = 10.0

Tell = Callable[[str, JSON], None]
"""Takes the name of a station's topic and what to publish there."""


class StationDesk:
    """Owns what answers at a station and what is shown of it. For the thread of `Learning`.

    Args:
        found: the station as it was found at start.
        prompts: the recipe's words.
        frozen: the model as it was trained, at the commissioned operating point.
        first: what answers until something else is promoted.
        texts: makes class features of what is to answer.
        agent: id of the agent, for what is published.
        since: since when the product is in force; None: it is from here on, in a run of its own.
        tell: publishes.
        changed: told where `predictor` or `stats` has changed, and once at first.

    Attributes:
        manager: what answers, and what is remembered.
        predictor: what to judge with now; any thread may look.
        stats: how it is doing; any thread may look.
    """

    def __init__(
        self,
        found: Commissioned,
        prompts: Prompts,
        frozen: Predictor,
        first: Predictor,
        texts: Callable[[], TextCache],
        agent: str,
        since: InForce | None,
        tell: Tell,
        changed: Callable[[], None],
    ) -> None:
        self.predictor, self.stats = first, LearnerStats(found.station)
        self.manager = VersionManager(
            found.clean, frozen.adapter, found.store, found.audit, now, self._happened, since
        )
        self._found, self._prompts, self._frozen, self._texts = found, prompts, frozen, texts
        self._agent, self._tell, self._changed = agent, tell, changed
        self._prepared = first
        self._shown: JSON = {}
        self._ask_at = self._retry_at = self._write_at = 0.0
        self._obeyed = set(self.manager.kept.memory.requests)  # also more than the disk remembers

    def begin(self) -> None:
        """Make good what was left undone, and tell what answers."""
        self.manager.begin(self._answers, self._prepare)
        self._changed()

    def serve(self, chosen: Callable[[], None]) -> None:
        """Do what people have asked for, and try again what the disk did not take.

        Args:
            chosen: called where a person chose what answers.
        """
        kept = self.manager.kept
        if kept.trouble is not None and time.monotonic() >= self._retry_at:
            self.manager.retry()
            self._retry_at = time.monotonic() + _DISK_S
        if time.monotonic() >= self._ask_at:
            try:
                self._execute(chosen)
            except OSError as error:
                kept.failed(error)
            self._ask_at = time.monotonic() + _ASK_S

    def show(self, learner: StationLearner | None, failed: str | None) -> None:
        """Publish what answers and how learning goes, where that is something else than before.

        Args:
            learner: None while there is none.
            failed: what learning failed with.
        """
        found, manager = self._found, self.manager
        active, answering = found.store.active(), self._answering()
        version, mode = active.version, found.settings.mode
        why = why_off(mode, manager.frozen_by)
        phase = "off" if why is not None else str(manager.state.phase)
        raised = learner is not None and learner.rate.raised
        stats = LearnerStats(
            found.station,
            at_bound=answering.at_bound,
            tripped=phase == "tripped",
            too_many_rejects=raised,
            disk=manager.kept.trouble,
            failed=failed,
        )
        if stats != self.stats:
            self.stats = stats
            self._changed()
        shown = learning_payload.adapter(
            self._agent,
            found.station,
            answering,
            mode=mode,
            level=found.level,
            phase=phase,
            parent=version.parent if version is not None and version.number == answering.number else None,
            promoted=active.number,
            since=active.since,
            why_off=why,
            frozen_by=manager.frozen_by,
            commissioning=found.clean.digest,
            too_many_rejects=raised,
            guard=None if learner is None else learner.last_numbers,
            unwatched=found.clean.sight.unwatched,
            samples=found.clean.counts,
        )
        if shown != self._shown:
            self._shown = shown
            self._tell("adapter", shown)

    def _execute(self, chosen: Callable[[], None]) -> None:
        """Do what people asked for, each once and in order; but nothing waits for what waits for the disk."""
        kept = self.manager.kept
        taken = take(self._found.requests, kept.memory.requests if kept.saved else ())
        for line in taken.refused:
            log.warning("learner %s: %s", self._found.station, line)
            self.manager.record("request_refused", "agent", line)
        if taken.trouble is not None:
            kept.failed(taken.trouble)
        held: list[Request] = []
        for request in taken.requests:
            if request.id not in self._obeyed:
                if needs_disk(request) and (held or time.monotonic() < self._write_at):
                    held.append(request)
                    continue
                try:
                    self._do(request, held, chosen)
                except OSError as error:
                    kept.failed(error)
                    self._write_at = time.monotonic() + _DISK_S
                    held.append(request)
                    continue
            self._done(request)

    def _do(self, request: Request, held: list[Request], chosen: Callable[[], None]) -> None:
        """Do or refuse what somebody asked for.

        Args:
            request: what is asked.
            held: what was asked before, and waits for the disk; what this overtakes is refused.
            chosen: see `serve`.

        Raises:
            OSError: the disk does not take it; nothing has changed.
        """
        try:
            self._allow(request)
            for other in [one for one in held if overtakes(request, one)]:
                held.remove(other)
                why = f"{request.kind} by {request.actor} came while it waited for the disk"
                self._refuse(other, why)
                self._done(other)
            if execute(self.manager, request):
                chosen()
        except AdapterError as error:
            self._refuse(request, str(error))

    def _refuse(self, request: Request, why: str) -> None:
        log.warning("learner %s: %s by %s: %s", self._found.station, request.kind, request.actor, why)
        self.manager.refuse(request.actor, f"{request.kind}: {why}", request.id)

    def _done(self, request: Request) -> None:
        """Let a request go once the disk knows that it was obeyed or refused; nothing does it again."""
        self._obeyed.add(request.id)
        if not self.manager.kept.saved:
            return
        try:
            finish(self._found.requests, request)
        except OSError as error:
            self.manager.kept.failed(error)
        else:
            self._obeyed.remove(request.id)

    def _allow(self, request: Request) -> None:
        """Raise AdapterError where a request is not to be obeyed; have ready what its version needs."""
        named = request.number if request.kind != "imported" else None
        version = self._found.store.load(named) if named else None
        recipe_of = None if version is None else version.recipe
        require_allowed(request, self._found.settings.mode, self._found.clean.recipe, recipe_of)
        if version is not None and request.kind in ("rollback", "activate"):
            self._try(self.manager.kept.version(version.number))

    def _try(self, version: Version) -> None:
        """Raise AdapterError where what a version makes of known parts is no answer."""
        texts = self._texts()
        scorer = Scorer(texts.engine, self._prompts, self._found.clean.fails, texts)
        try:
            require_finite(scorer, self._found.clean, version)
        except (AdapterError, Cancelled):
            raise
        except Exception as error:  # whatever a model raises: it would end us each time that we begin
            said = f"version {version.number} cannot be tried: {type(error).__name__}: {error}"
            raise AdapterError(said) from error

    def _answering(self) -> ActiveVersion:
        return self.manager.source if self._found.settings.mode == "shadow" else self.manager.answering

    def _prepare(self, version: ActiveVersion) -> None:
        """Make what the inspector needs to judge with a version; where that fails, it does not answer."""
        if self._found.settings.mode != "shadow":
            features = self._texts().features(self._prompts, version.adapter)
            self._prepared = Predictor(
                version.number, version.adapter, features, self._frozen.fails, version.offset
            )

    def _answers(self) -> None:
        """Let the inspector have what answers now, complete before the first picture asks for it."""
        answering = self._answering()
        log.info(
            "learner %s: version %d answers, offset %.2f",
            self._found.station,
            answering.number,
            answering.offset,
        )
        self.predictor = self._frozen if answering.number == SOURCE else self._prepared
        self._changed()

    def _happened(self, record: dict[str, Any]) -> None:
        log.info("learner %s: %s: %s", self._found.station, record["event"], record["why"])
        if record["event"] == "commissioned":  # by a command that was killed; it changes no version
            return
        self._tell("adapter/event", learning_payload.adapter_event(self._agent, self._found.station, record))


def now() -> str:
    """Return the time for records."""
    return timestamp(datetime.now(UTC))
