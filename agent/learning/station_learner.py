"""The other loop of a station: drift, buffer, update, guard, promote. One thread owns it.

`observe` takes what the frozen model saw of each inspected picture, `decide` does what takes no time, `due`
says what is to be computed, and `answering` with what to inspect from then on. On the line one thread
decides and another computes; in a replay and in the benchmark `work` does both in lockstep, and then the same
pictures give the same bytes.
"""

from __future__ import annotations

from dataclasses import replace

from adapters.baseline.baseline import Commissioning
from adapters.baseline.threshold_motion import ThresholdHistory
from adapters.core.observation import Observation
from adapters.core.scorer import Scorer
from adapters.core.version import SOURCE
from adapters.gate.label_test import LabelTest
from adapters.gate.promotion_gate import HARMFUL, Ruling
from adapters.gate.state_machine import Action, Phase, Signals, State, Turn, advance, proposed
from adapters.gate.state_machine import Change as Decision
from adapters.learner.sample_buffer import Buffer, duplicate_cosine
from adapters.monitoring.block_statistics import looks, measure
from adapters.monitoring.change_point import ChangePointDetector
from adapters.monitoring.degradation_fit import LEAST
from adapters.monitoring.drift_detector import DriftReport
from adapters.monitoring.reject_rate import RejectRateMonitor
from agent.domain.active_version import ActiveVersion
from agent.learning.adaptation_context import AdaptationContext
from agent.learning.drift_watch import NEVER, DriftWatch
from agent.learning.episode import Change, Episode, Look
from agent.learning.known_domains import KnownDomain, KnownDomains
from agent.learning.labelled_parts import LabelledParts, Said
from agent.versions.execute import execute
from agent.versions.learner_settings import LearnerSettings, Update, why_off
from agent.versions.operator_requests import Request
from agent.versions.version_manager import VersionManager


class StationLearner:
    """Owns buffer, drift, state and what answers.

    Args:
        clean: the station's commissioning.
        scorer: the learner's own.
        update: makes proposals; None at the level ``operating_point``.
        manager: of the station.
        seed: of everything that is drawn.

    Attributes:
        rate: alarm about the share of rejects.
    """

    def __init__(
        self,
        clean: Commissioning,
        scorer: Scorer,
        update: Update | None,
        manager: VersionManager,
        settings: LearnerSettings | None = None,
        seed: int = 0,
    ) -> None:
        self.settings = settings or LearnerSettings()
        self._clean = clean
        self._manager = manager
        self._context = AdaptationContext(clean, scorer, update, manager, self.settings, seed)
        # How alike two parts look depends on the model.
        features = self._context.features
        policy = replace(self.settings.buffer, duplicate=duplicate_cosine(features))
        self._buffer = Buffer(len(clean.labels), policy, seed)
        self._drift = DriftWatch(clean.drift)
        self._domains = KnownDomains(ChangePointDetector(clean.drift, looks(clean.good), features))
        self._turn: tuple[Turn | None, int] | None = None
        self.rate = RejectRateMonitor(clean.numbers["rejects"])
        self._said = LabelledParts()
        self._episode = Episode(self._context, manager.frame, manager.frame, test=manager.test)

    @property
    def answering(self) -> ActiveVersion:
        """What to inspect with now. Any thread may ask."""
        return self._manager.source if self.settings.mode == "shadow" else self._manager.answering

    @property
    def state(self) -> State:
        """Of its life cycle."""
        return self._manager.state

    @property
    def why_off(self) -> str | None:
        """Why nothing is learned at all; None where it is."""
        return why_off(self.settings.mode, self._manager.frozen_by)

    @property
    def last_numbers(self) -> dict[str, float]:
        """Numbers of the guard's last ruling on these pictures."""
        return self._episode.numbers

    def observe(self, seen: Observation) -> DriftReport | None:
        """Take one picture that was fit to be judged; return a report when it completes a block.

        Args:
            seen: with the number that the camera gave it. One that comes after a newer one is not looked at.
        """
        number = self._manager.kept.count(seen.number, seen.at_s)
        if number is None:
            return None
        self._buffer.offer(replace(seen, number=number))
        row = measure(seen)
        self._domains.add(row)
        return self._drift.add(row, number, seen.at_s)

    def said(self, number: int, *, adapted_fails: bool, frozen_fails: bool, by: str | None = None) -> None:
        """Take what was said of a part, and by which adapter; None is the one that answers now."""
        before = self.rate
        self.rate = self.rate.judged(rejected=adapted_fails)
        if self.rate.raised != before.raised:
            event = "rate_alarm" if self.rate.raised else "rate_alarm_over"
            numbers = {"limit": self.rate.limit, "drifting": float(self._drift.report.drifting)}
            why = f"rejects against {self.rate.usual:.1%} at commissioning"
            self._manager.record(event, "guard", why, numbers)
        by = by or self._manager.answering.adapter.digest
        self._said.add(self._manager.number_of(number), Said(adapted_fails, frozen_fails, by))

    def told(self, number: int, *, defect: bool, actor: str = "operator") -> None:
        """Take a label: what a part really was, and who says so."""
        number = self._manager.number_of(number)
        said, here = self._said.take(number), self._manager.answering
        if said is None or here.number == SOURCE or said.adapter != here.adapter.digest:
            return  # it says nothing about what answers now
        before = self._episode.test
        test = before.told(defect=defect, adapted_fails=said.adapted_fails, frozen_fails=said.frozen_fails)
        self._episode.test = test
        if test.verdict == "harm":
            self._episode.harmed = f"labels prove harm at alpha {test.alpha}"
        self._keep(self.state)
        harm, gain = test.evidence
        numbers = {"part": number, "harm": harm, "gain": gain, "labels": test.labels}
        self._manager.record("label", actor, "defective" if defect else "good", numbers)

    def decide(self) -> bool:
        """Do what takes no time: go by what is known of the pictures, and choose among what is known.

        Returns:
            Whether what is known of drift, and of what was computed, has changed anything.
        """
        if self.why_off is not None:
            return False
        self._react()
        report = self._drift.news()
        if not report.normal:
            self._domains.changed()
        changed = self._advance(report)
        self._drift.told()
        return changed

    def due(self) -> Look | None:
        """Return what is to be computed now; None where nothing is."""
        episode, phase, manager = self._episode, self.state.phase, self._manager
        number, waited = manager.answering.number, manager.frame - episode.looked_at
        off = self.why_off is not None or phase not in (Phase.LEARN, Phase.HOLD)
        if off or waited < self.settings.every:
            return None
        if phase is Phase.HOLD and waited < self.settings.recheck and not self._domains.drifted(number):
            return None
        newest = self._buffer.recent(self.settings.buffer.recent)
        recent = [one for one in newest if one.number > episode.since]
        if len(recent) < LEAST * 3 // 2 or self._buffer.distinct.frames < LEAST // 2:
            return None  # too little evidence
        learning = phase is Phase.LEARN
        return Look(manager.generation, number, replace(episode), recent, manager.answering, learning)

    def wants(self, look: Look) -> bool:
        """Whether nobody has decided anything since that makes a computation worth nothing."""
        return look.generation == self._manager.generation

    def make(self, change: Change, look: Look) -> ActiveVersion:
        """Make what a computation asks for; return what answers then. Only while it is wanted.

        Raises:
            OSError: the disk does not take it; nothing has changed.
        """
        before = self._manager.answering.adapter.digest
        change(self._manager)
        if self._manager.answering.adapter.digest != before:
            self._episode.test = LabelTest()
        look.generation = self._manager.generation
        return self._manager.answering

    def adopt(self, look: Look, ruling: Ruling | None) -> None:
        """Go on with what a computation has found. Only while it is wanted."""
        mine = self._episode
        self._episode = replace(look.episode, test=mine.test, harmed=mine.harmed or look.episode.harmed)
        if ruling is not None:
            self._keep(proposed(self.state, kept=ruling.keep, harmful=ruling.rule in HARMFUL))
            if ruling.rule == "unexplained":
                self._domains.forget(look.number)
        self._remember()

    def work(self) -> bool:
        """Do what is due, at most one look, here and now; return whether `answering` is another one now."""
        before = self._manager.answering
        if not self.decide() and (look := self.due()) is not None:
            self.adopt(look, look.run(lambda change: self.make(change, look)))
        return self._manager.answering is not before

    def obey(self, request: Request) -> None:
        """Do what an operator asks; see `agent.versions.execute.execute`."""
        if execute(self._manager, request):
            self.chosen()

    def chosen(self) -> None:
        """Begin anew, because a person chose what answers."""
        self._enter(self._episode.since)
        self._turn = None
        self._domains.choose()
        self._remember()

    def _react(self) -> None:
        """Choose among what is known when pictures turn."""
        if self.state.phase is Phase.TRIPPED:
            return
        if self._turn is None:
            self._turn = self._domains.turn(self._manager.answering.number)
        if self._turn[0] is not None:
            self._advance(DriftReport(), *self._turn)
            self._drift.turned(self._manager.frame)
        self._turn = None  # only now: where the disk was full, it is tried again

    def _advance(self, report: DriftReport, turn: Turn | None = None, number: int = SOURCE) -> bool:
        """Change the state as the signals say; return whether anything changed."""
        episode = self._episode
        signals = episode.signals(self._manager.frame, report, turn, chosen=self._domains.chosen)
        change = advance(self.state, signals, self.settings.patience)
        if change.why is None:
            self._keep(change.state)
            return False
        manager, before, here = self._manager, self.state, self._manager.answering.number
        state, action, met = change.state, change.action, None
        if action is Action.RECALL:
            found = self._domains.find(number)
            born = state.born if found.state.born is None else found.state.born
            recalled = replace(found.state, since=state.since, trips=state.trips, born=born)
            if manager.recall(number, change.why, recalled):
                state, met = recalled, found
        elif action not in (Action.NONE, Action.SEARCH) and here != SOURCE:
            # Also for a rollback: the last good version was good under other conditions.
            manager.go_to(SOURCE, "guard", change.why, state=state)
        numbers = (self._drift.report if turn else report).numbers() | {"trips": state.trips}
        manager.record(f"{before.phase}->{state.phase}", "guard", change.why, numbers)
        if action is Action.RECALL and met is None:
            self._domains.forget(number)
        self._domains.leave(here, before, episode, manager.frame)
        self._change(state, change, signals, met, turn is not None or report.abrupt)
        return True

    def _change(
        self, state: State, change: Decision, signals: Signals, met: KnownDomain | None, others: bool
    ) -> None:
        frame, action = self._manager.frame, change.action
        if action is Action.NONE and state.phase in (Phase.HOLD, Phase.LEARN):
            self._episode.worse = self._episode.converged = False
            self._episode.looked_at = frame
            self._keep(state)
            return
        self._manager.supersede(change.why or "")
        back = self._domains.count if signals.turn else 2 * self._clean.drift.block_frames
        since = frame - back if signals.turn or signals.abrupt else self._episode.since
        if met is None:
            self._enter(since, others, search=action in (Action.SEARCH, Action.LEAVE, Action.RECALL))
        else:
            waited = met.left_at - met.episode.looked_at
            self._episode = replace(met.episode, since=since, looked_at=frame - waited)
        self._keep(state)
        if action in (Action.RESET, Action.ROLLBACK):
            self._buffer.clear()
        if action is Action.ROLLBACK or (
            action is Action.RESET and signals.turn is None and not signals.normal
        ):
            self._domains.clear()

    def _enter(self, since: int, others: bool = False, *, search: bool = False) -> None:
        """Begin an episode; its threshold has no history where the pictures changed abruptly."""
        motion = ThresholdHistory() if others else self._episode.motion
        looked_at = NEVER if search else self._manager.frame
        self._episode = Episode(self._context, since, looked_at, search, motion=motion, others=others)

    def _keep(self, state: State) -> None:
        test = self._episode.test
        self._manager.kept.remember(state, test if test.labels else None)

    def _remember(self) -> None:
        manager = self._manager
        if self._episode.harmed is None:
            here, stored = manager.answering.number, manager.numbers()
            self._domains.remember(here, self.state, self._episode, manager.frame, stored)
