"""The other loop of a station: drift, buffer, update, guard, promote. One thread owns it.

`observe` takes what the frozen model saw of each inspected picture, `work` does at most one piece of work and
`answering` says with what to inspect from then on. The inspector runs in one thread and this in another; in a
replay and in the benchmark both run in lockstep, and then the same pictures give the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from adapters.adapter_store import AdapterStore
from adapters.buffer import Buffer, duplicate_cosine
from adapters.commissioning import Commissioning
from adapters.condition_fit import LEAST
from adapters.drift import NORMAL_DISTANCE, DriftMonitor, DriftReport
from adapters.drift_block import looks, measure
from adapters.eye import Eye
from adapters.glance import Glance
from adapters.guard import HARMFUL
from adapters.lifecycle import Action, Phase, Signals, State, Turn, advance, proposed
from adapters.rate import RateAlarm
from adapters.seen import Seen
from adapters.version import SOURCE
from agent.answering import Answering, Ledger
from agent.audit import Audit
from agent.episode import Episode, Workshop
from agent.learner_settings import LearnerSettings, Update
from agent.places import Met, Places
from agent.requests import Request

REMEMBERED = 10_000
"""Parts whose answers are kept until a label comes."""
_AT_ONCE = -(10**9)


class StationLearner:
    """Owns buffer, drift, state and what answers.

    Args:
        clean: the station's commissioning.
        eye: the learner's own.
        update: makes proposals; None at the level ``operating_point``.
        store: of the station's versions.
        audit: of the station.
        now: UTC time for records, ISO-8601; a replay gives the camera's.
        on_event: told of each record, for MQTT.
        seed: of everything that is drawn.

    Attributes:
        state: of its life cycle.
        rate: alarm about the share of rejects.
        last_numbers: of the guard's last ruling.
    """

    def __init__(
        self,
        clean: Commissioning,
        eye: Eye,
        update: Update | None,
        store: AdapterStore,
        audit: Audit,
        now: Callable[[], str],
        settings: LearnerSettings | None = None,
        on_event: Callable[[dict[str, Any]], None] = lambda event: None,
        seed: int = 0,
    ) -> None:
        self.settings = settings or LearnerSettings()
        self._clean = clean
        self._ledger = Ledger(clean, eye.source, store, audit, now, on_event)
        self._shop = Workshop(clean, eye, update, self._ledger, self.settings, seed)
        # How alike two parts look depends on the model.
        policy = replace(self.settings.buffer, duplicate=duplicate_cosine(self._shop.features))
        self._buffer = Buffer(len(clean.labels), policy, seed)
        self._drift = DriftMonitor(clean.drift)
        self._fresh = DriftReport()
        self._places = Places(Glance(clean.drift, looks(clean.good), self._shop.features))
        self._turn: tuple[Turn, int] | None = None
        self._turned_at = _AT_ONCE
        self.rate = RateAlarm(clean.numbers["rejects"])
        self._said: dict[int, tuple[bool, bool, str]] = {}
        frame = self._ledger.frame
        resumed = self._ledger.answering.number != SOURCE
        self.state = State(Phase.HOLD, frame, born=frame) if resumed else State(since=frame)
        self._episode = Episode(self._shop, since=frame, looked_at=frame)

    @property
    def answering(self) -> Answering:
        """What to inspect with now. Any thread may ask."""
        return self._ledger.source if self.settings.mode == "shadow" else self._ledger.answering

    @property
    def drift(self) -> DriftReport:
        """What is known about drift."""
        return self._drift.report

    @property
    def frozen_by(self) -> str | None:
        """Who has stopped learning; None if nobody has."""
        return self._ledger.frozen_by

    @property
    def why_off(self) -> str | None:
        """Why nothing is learned at all; None where it is."""
        if self.settings.mode in ("frozen", "locked"):
            return f"mode {self.settings.mode}"
        return f"frozen by {self.frozen_by}" if self.frozen_by is not None else self._clean.missing

    @property
    def last_numbers(self) -> dict[str, float]:
        """Numbers of the guard's last ruling on these pictures."""
        return self._episode.numbers

    def observe(self, seen: Seen) -> DriftReport | None:
        """Take one picture that was fit to be judged; return a report when it completes a block."""
        self._ledger.frame = max(self._ledger.frame, seen.number)
        self._buffer.offer(seen)
        row = measure(seen)
        report = self._drift.add_row(row, seen.number, seen.at_s)
        self._places.add(row)
        if report is not None:
            self._fresh = report
        return report

    def said(self, number: int, *, adapted_fails: bool, frozen_fails: bool) -> None:
        """Take what was said of a part: for the alarm about rejects, and until its label comes."""
        before = self.rate
        self.rate = self.rate.judged(rejected=adapted_fails)
        if self.rate.raised != before.raised:
            event = "rate_alarm" if self.rate.raised else "rate_alarm_over"
            self._ledger.record(
                event,
                "guard",
                f"rejects against {self.rate.usual:.1%} at commissioning",
                {"limit": self.rate.limit, "drifting": float(self.drift.drifting)},
            )
        if adapted_fails != frozen_fails:
            self._said[number] = adapted_fails, frozen_fails, self._ledger.answering.adapter.digest
            if len(self._said) > REMEMBERED:
                del self._said[next(iter(self._said))]

    def told(self, number: int, *, defect: bool, actor: str = "operator") -> None:
        """Take a label: what a part really was, and who says so."""
        adapted, frozen, digest = self._said.pop(number, (False, False, ""))
        here = self._ledger.answering
        if here.number == SOURCE or digest != here.adapter.digest:
            return  # it says nothing about what answers now
        test = self._episode.test.told(defect=defect, adapted_fails=adapted, frozen_fails=frozen)
        self._episode.test = test
        harm, gain = test.evidence
        numbers = {"part": number, "harm": harm, "gain": gain, "labels": test.labels}
        self._ledger.record("label", actor, "defective" if defect else "good", numbers)
        if test.verdict == "harm":
            self._episode.harmed = f"labels prove harm at alpha {test.alpha}"

    def react(self) -> bool:
        """Do what cannot wait for `work`, and takes no time: choose among what is known when pictures turn.

        Returns:
            Whether `answering` is another one now.
        """
        before = self._ledger.answering
        if self.why_off is None and self.state.phase is not Phase.TRIPPED:
            if self._turn is None:
                turn, number = self._places.turn(before.number)
                self._turn = None if turn is None else (turn, number)
            if self._turn is not None:
                self._advance(DriftReport(), *self._turn)
                # Only now: where the disk was full, it is tried again.
                self._turn, self._turned_at = None, self._ledger.frame
        return self._ledger.answering is not before

    def work(self) -> bool:
        """Do what is due, at most one look; return whether `answering` is another one now."""
        before = self._ledger.answering
        self.react()
        if self.why_off is None:
            report = self._fresh
            if not report.normal:
                self._places.changed()
            if report.frame - 3 * self._clean.drift.block_frames <= self._turned_at:
                # It is known already, and of a block that began before it nothing else is true.
                old = report.frame - self._clean.drift.block_frames < self._turned_at
                report = replace(report, abrupt=False, jump=0.0)
                report = replace(report, drifting=False, normal=False) if old else report
            changed = self._advance(report)
            self._fresh = replace(self._fresh, abrupt=False, jump=0.0)
            if not changed:
                self._look_when_due()
        return self._ledger.answering is not before

    def obey(self, request: Request) -> None:
        """Do what an operator asks; an unknown version raises and changes nothing.

        The request's id is kept in the same durable write as its effect: it is obeyed once.

        Raises:
            AdapterError: there is no such version, or it is damaged.
        """
        why, done = request.why or f"operator: {request.kind}", {"request": request.id}
        if request.kind in ("freeze", "resume"):
            by = request.actor if request.kind == "freeze" else None
            self._ledger.freeze(by, request.actor, why, done)
            return
        if request.kind == "imported":
            self._ledger.imported(request.number or SOURCE, request.actor, why, done)
            return
        number = SOURCE if request.kind == "reset" else request.number or SOURCE
        if request.kind in ("pin", "unpin"):
            self._ledger.pin(number, request.actor, why, done, pinned=request.kind == "pin")
            return
        self._ledger.go_to(number, request.actor, why, done)
        frame = self._ledger.frame
        self._enter(State(since=frame) if number == SOURCE else State(Phase.HOLD, frame, born=frame))
        self._turn = None
        self._places.choose()
        self._remember()

    def _advance(self, report: DriftReport, turn: Turn | None = None, number: int = SOURCE) -> bool:
        """Change the state as the signals say; return whether anything changed."""
        episode = self._episode
        signals = Signals(
            frame=self._ledger.frame,
            # Drift stays confirmed until it is normal again; a block like the clean ones starts nothing.
            drifting=report.drifting and report.distance > NORMAL_DISTANCE,
            abrupt=report.abrupt or report.jump >= self.settings.jump,
            normal=report.normal and not self._places.chosen,
            turn=turn,
            harmed=episode.harmed,
            worse=episode.worse,
            converged=episode.converged,
        )
        change = advance(self.state, signals, self.settings.patience)
        if change.why is None:
            self.state = change.state
            return False
        here = self._ledger.answering.number
        state, action, met = change.state, change.action, None
        if action is Action.RECALL and self._ledger.recall(number, change.why):
            met = self._places.find(number)
            born = met.state.born or state.born
            state = replace(met.state, since=state.since, trips=state.trips, born=born)
        elif action not in (Action.NONE, Action.SEARCH) and here != SOURCE:
            # Also for a rollback: the last good version was good under other conditions.
            self._ledger.go_to(SOURCE, "guard", change.why)
        numbers = (self._drift.report if turn else report).numbers() | {"trips": state.trips}
        self._ledger.record(f"{self.state.phase}->{state.phase}", "guard", change.why, numbers)
        # From here on nothing is written: what failed before is tried again, and nothing is half done.
        if action is Action.RECALL and met is None:
            self._places.forget(number)
        self._places.leave(here, self.state, episode, self._ledger.frame)
        self._change(state, action, signals, met)
        return True

    def _change(self, state: State, action: Action, signals: Signals, met: Met | None) -> None:
        frame = self._ledger.frame
        if action is Action.NONE and state.phase in (Phase.HOLD, Phase.LEARN):
            self.state = state
            self._episode.worse = self._episode.converged = False
            self._episode.looked_at = frame
            return
        back = self._places.count if signals.turn else 2 * self._clean.drift.block_frames
        since = frame - back if signals.turn or signals.abrupt else self._episode.since
        if met is None:
            self._enter(state, since, search=action in (Action.SEARCH, Action.LEAVE, Action.RECALL))
        else:
            waited = met.left_at - met.episode.looked_at
            self.state, self._episode = state, replace(met.episode, since=since, looked_at=frame - waited)
        if action in (Action.RESET, Action.ROLLBACK):
            self._buffer.clear()
        if action is Action.ROLLBACK or (
            action is Action.RESET and signals.turn is None and not signals.normal
        ):
            self._places.clear()

    def _enter(self, state: State, since: int | None = None, *, search: bool = False) -> None:
        since, looked_at = since or self._episode.since, _AT_ONCE if search else self._ledger.frame
        self.state, self._episode = state, Episode(self._shop, since, looked_at, search)

    def _look_when_due(self) -> None:
        episode, phase = self._episode, self.state.phase
        number, waited = self._ledger.answering.number, self._ledger.frame - episode.looked_at
        if phase not in (Phase.LEARN, Phase.HOLD) or waited < self.settings.every:
            return
        if phase is Phase.HOLD and waited < self.settings.recheck and not self._places.crept(number):
            return
        newest = self._buffer.recent(self.settings.buffer.recent)
        recent = [one for one in newest if one.number > episode.since]
        if len(recent) < LEAST * 3 // 2 or self._buffer.distinct.frames < LEAST // 2:
            return  # too little evidence
        if (ruling := episode.look(recent, learning=phase is Phase.LEARN)) is not None:
            self.state = proposed(self.state, kept=ruling.keep, harmful=ruling.rule in HARMFUL)
            if ruling.rule == "unexplained":
                self._places.forget(number)
        self._remember()

    def _remember(self) -> None:
        ledger, episode = self._ledger, self._episode
        if episode.harmed is None:
            number, frame = ledger.answering.number, ledger.frame
            self._places.remember(number, self.state, episode, frame, ledger.numbers())
