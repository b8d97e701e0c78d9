"""What a learner makes of the pictures of one condition: looks, proposals, and what fits them best."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from adapters.baseline.threshold_motion import ThresholdHistory, ThresholdStep, begins, words
from adapters.core.adapter import Adapter
from adapters.core.observation import Observation
from adapters.core.version import SOURCE
from adapters.gate.evaluation import Assessment, Evaluation, distance
from adapters.gate.label_test import LabelTest
from adapters.gate.promotion_gate import HARMFUL, Ruling, judge
from adapters.gate.state_machine import Signals, Turn
from adapters.monitoring.drift_detector import NORMAL_DISTANCE, DriftReport
from adapters.monitoring.nearest_domain import most_alike
from agent.domain.active_version import ActiveVersion
from agent.learning.adaptation_context import AdaptationContext
from agent.versions.version_manager import VersionManager

Change = Callable[[VersionManager], None]
Ask = Callable[[Change], ActiveVersion]
"""Has a change made by the thread that owns the manager, and returns what answers then."""


@dataclass(slots=True)
class Episode:
    """What is forgotten when the pictures are others. Owned by the learner; who computes has a copy.

    Attributes:
        context: what it works with.
        since: frame after which the pictures are of one condition.
        search: whatever is known is to be tried first.
        looked_at: frame of the last look.
        converged, worse, harmed: what was found, for `adapters.gate.state_machine`.
        test: of labels, on what answers; the learner's affair.
        numbers: of the guard's last ruling.
        motion: how the operating point has moved while the pictures were not others abruptly.
        others: they were just now, so that the first search may move it as far as they ask for.
    """

    context: AdaptationContext
    since: int
    looked_at: int
    search: bool = False
    converged: bool = False
    worse: bool = False
    harmed: str | None = None
    test: LabelTest = field(default_factory=LabelTest)
    numbers: dict[str, float] = field(default_factory=dict)
    motion: ThresholdHistory = field(default_factory=ThresholdHistory)
    others: bool = False
    _challenger: Adapter | None = None
    _held_error: float = math.inf

    def look(
        self, recent: Sequence[Observation], answering: ActiveVersion, ask: Ask, *, learning: bool
    ) -> Ruling | None:
        """Hold what answers, and what else could, against the pictures of now.

        Args:
            recent: pictures of one condition, in order.
            answering: what answers at the beginning.
            ask: makes what changes.
            learning: a proposal is to be made.

        Returns:
            What the guard said of a proposal; None where there was none.
        """
        context = self.context
        self.looked_at = recent[-1].number
        trial = context.hold(recent)
        if trial.explained < context.settings.limits.explained:
            return self._unexplained(trial, answering, ask)
        if self.search:
            answering = self._search(trial, recent, answering, ask, free=self.others)
            self.search = self.others = False
        best = trial.assess(answering.adapter)
        # Harm is the adapter's: each at the operating point that suits it best, not where one rests.
        if self._does_harm(trial, best, answering):
            self.harmed = "known parts are told apart worse than by the frozen model"
            return None
        ruling, (now, step) = None, self._settled(trial, best, answering.adapter, answering, recent)
        if learning:
            self.converged = context.is_sound(now)
            if not self.converged:
                ruling, now, answering = self._learn(trial, (best, now), recent, answering, ask)
            self._held_error = now.error
        else:
            self.worse = now.error > self._held_error + context.settings.slack
            self._held_error = min(self._held_error, now.error)
        self._follow(trial, now, step, recent, answering, ask)
        return ruling

    def signals(
        self, frame: int, report: DriftReport, turn: Turn | None = None, *, chosen: bool = False
    ) -> Signals:
        """Return what is known at a frame, for `adapters.gate.state_machine`.

        Args:
            frame: the station's newest.
            report: of drift.
            turn: what a glance says.
            chosen: a person chose what answers: blocks like commissioning do not overrule that.
        """
        return Signals(
            frame=frame,
            # Drift stays confirmed until it is normal again; a block like the clean ones starts nothing.
            drifting=report.drifting and report.distance > NORMAL_DISTANCE,
            abrupt=report.abrupt or report.jump >= self.context.settings.jump,
            normal=report.normal and not chosen,
            turn=turn,
            harmed=self.harmed,
            worse=self.worse,
            converged=self.converged,
        )

    def _settled(
        self,
        trial: Evaluation,
        found: Assessment,
        adapter: Adapter,
        answering: ActiveVersion,
        recent: Sequence[Observation],
        *,
        free: bool = False,
    ) -> tuple[Assessment, ThresholdStep]:
        """Return what an adapter makes of a trial at the operating point that it would answer at."""
        if adapter.digest != answering.adapter.digest:
            return found, begins(found.point.offset)
        settings = self.context.settings
        left = math.inf if free else self.motion.left(recent[-1].at_s, settings.per_hour)
        usual = trial.usual if answering.number == SOURCE else answering.usual
        return trial.settled(found, answering.offset, usual, settings.step, left)

    def _learn(
        self,
        trial: Evaluation,
        answers: tuple[Assessment, Assessment],
        recent: Sequence[Observation],
        answering: ActiveVersion,
        ask: Ask,
    ) -> tuple[Ruling, Assessment, ActiveVersion]:
        """Make one proposal and keep or refuse it; return what answers then, and what is known of it.

        Args:
            answers: what answers now, where its operating point suits it best, and where it is to be.
        """
        context, (before, now) = self.context, answers
        if context.settings.level != "full" or context.update is None:
            return Ruling(False, "no_gain"), now, answering
        adapter, numbers = context.propose(self._challenger or answering.adapter, trial, recent)
        after, step = self._settled(trial, trial.assess(adapter), adapter, answering, recent)
        finite = math.isfinite(numbers.get("loss", math.nan))
        evidence = trial.evidence(before, after, distance(adapter, context.scorer.source), finite)
        ruling = judge(evidence, context.settings.limits)
        self.numbers = evidence.numbers() | {"harm": self.test.evidence[0]}
        details = self.numbers | {f"loss_{k}": v for k, v in numbers.items()} | trial.condition.numbers()
        if not ruling.keep:
            # Several steps that are each too small to tell may be one that is not.
            self._challenger = None if ruling.rule in HARMFUL else adapter
            answering = ask(lambda manager: manager.record("refused", "guard", ruling.rule, details))
            return ruling, now, answering
        self._challenger = None
        why = f"gain on known parts; {words(step, answering.offset, context.settings.per_hour)}"
        details |= self._moves(step, answering, recent)
        answering = ask(lambda manager: manager.promote(adapter, after, trial, recent, details, why))
        return ruling, after, answering

    def _search(
        self,
        trial: Evaluation,
        recent: Sequence[Observation],
        answering: ActiveVersion,
        ask: Ask,
        *,
        free: bool,
    ) -> ActiveVersion:
        """Begin with what fits best: the source, what answers, or what is stored for a like condition."""
        settings = self.context.settings
        alike = most_alike(trial.condition, self.context.manager.versions(), settings.candidates)
        candidates = {version.digest: (version.number, version.adapter) for version in alike}
        candidates.setdefault(answering.adapter.digest, (answering.number, answering.adapter))
        candidates.pop(self.context.scorer.source.digest, None)
        number, adapter, assessed = SOURCE, self.context.scorer.source, trial.frozen
        for other_number, other in candidates.values():
            tried = trial.assess(other)
            # The source is trusted: another must be clearly better.
            if tried.error < assessed.error - (settings.slack / 2 if number == SOURCE else 0):
                number, adapter, assessed = other_number, other, tried
        best, step = self._settled(trial, assessed, adapter, answering, recent, free=free)
        moved = abs(best.point.offset - answering.offset) >= settings.step
        if adapter.digest == answering.adapter.digest and not moved:
            return answering
        details = {"from": float(number), "tried": float(len(candidates) + 1)}
        details |= {} if free else self._moves(step, answering, recent)
        why = f"fits the new condition best; {words(step, answering.offset, settings.per_hour)}"
        return ask(lambda manager: manager.promote(adapter, best, trial, recent, details, why))

    def _follow(
        self,
        trial: Evaluation,
        now: Assessment,
        step: ThresholdStep,
        recent: Sequence[Observation],
        answering: ActiveVersion,
        ask: Ask,
    ) -> None:
        """Let the operating point follow the pictures, in steps that are worth it."""
        settings = self.context.settings
        if abs(now.point.offset - answering.offset) >= settings.step or (
            now.point.at_bound and not answering.at_bound
        ):
            why = f"operating point follows the pictures: {words(step, answering.offset, settings.per_hour)}"
            details = self._moves(step, answering, recent)
            ask(lambda manager: manager.promote(answering.adapter, now, trial, recent, details, why))

    def _moves(
        self, step: ThresholdStep, answering: ActiveVersion, recent: Sequence[Observation]
    ) -> dict[str, float]:
        """Enter a move of the operating point; return what the record says of it, in nats."""
        now_s, per_hour = recent[-1].at_s, self.context.settings.per_hour
        self.motion = self.motion.moved(now_s, step.counted)
        return {
            "threshold_moved": step.offset - answering.offset,
            "threshold_wanted": step.wanted,
            "threshold_counted": step.counted,
            "threshold_hour": self.motion.used(now_s),
            "threshold_per_hour": per_hour,
        }

    def _unexplained(self, trial: Evaluation, answering: ActiveVersion, ask: Ask) -> Ruling:
        """Nothing that is known of the parts says anything about such pictures: the source answers."""
        ruling = Ruling(False, "unexplained")
        details = {"explained": trial.explained} | trial.condition.numbers()
        ask(lambda manager: manager.record("refused", "guard", ruling.rule, details))
        if answering.number != SOURCE:
            why = "the pictures are not those of the commissioned parts"
            ask(lambda manager: manager.go_to(SOURCE, "guard", why))
        return ruling

    def _does_harm(self, trial: Evaluation, now: Assessment, answering: ActiveVersion) -> bool:
        if answering.adapter.digest == self.context.scorer.source.digest:
            return False
        if not now.finite:
            return True
        evidence = trial.evidence(trial.frozen, now, 0.0)
        # What is not a number proves nothing, and answers nothing.
        finite = math.isfinite(evidence.gain) and math.isfinite(evidence.gain_error)
        return not finite or evidence.gain < -self.context.settings.slack - 2 * evidence.gain_error


@dataclass(slots=True)
class Look:
    """A computation that is due. Whoever computes calls `run`; everything else is the learner's.

    Attributes:
        generation: of the manager under which it may change something.
        number: of the version that answered at the beginning.
        episode: a copy, which becomes the learner's own at the end.
        recent: pictures of one condition.
        answering: what answered at the beginning.
        learning: a proposal is to be made.
    """

    generation: int
    number: int
    episode: Episode
    recent: Sequence[Observation]
    answering: ActiveVersion
    learning: bool

    def run(self, ask: Ask) -> Ruling | None:
        """Compute; see `Episode.look`."""
        return self.episode.look(self.recent, self.answering, ask, learning=self.learning)
