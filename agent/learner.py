"""The other loop of a station: drift, buffer, update, guard, promote. One thread owns it.

`observe` takes what the frozen model saw of each inspected picture, `work` does at most one piece of work and
`answering` says with what to inspect from then on. The inspector runs in one thread and this in another; in a
replay and in the benchmark both run in lockstep, and then the same pictures give the same bytes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from adapters.adapter import Adapter
from adapters.adapter_store import AdapterStore
from adapters.alike import most_alike
from adapters.betting import LabelTest
from adapters.buffer import Buffer
from adapters.commissioning import Commissioning
from adapters.condition_fit import LEAST
from adapters.drift import DriftMonitor, DriftReport
from adapters.eye import Eye
from adapters.guard import HARMFUL, judge
from adapters.lifecycle import Action, Phase, Signals, State, advance, proposed
from adapters.rate import RateAlarm
from adapters.seen import Seen, as_pixels
from adapters.trial import Assessment, Trial, distance
from adapters.version import SOURCE
from agent.answering import Answering, Ledger
from agent.audit import Audit
from agent.learner_settings import Labelled, LearnerSettings, Update
from agent.requests import Request

REMEMBERED = 10_000
"""Parts whose answers are kept until a label comes."""


@dataclass(slots=True)
class _Course:
    """What is forgotten when an episode ends."""

    challenger: Adapter | None = None
    since: int = 0
    """Frame from which on the pictures are of one condition."""
    search: bool = False
    looked_at: int = -(10**9)
    held_error: float = math.inf
    converged: bool = False
    worse: bool = False
    harmed: str | None = None
    test: LabelTest = field(default_factory=LabelTest)


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
        self.last_numbers: dict[str, float] = {}
        self._clean, self._eye, self._update = clean, eye, update
        self._ledger = Ledger(clean, eye.source, store, audit, now, on_event)
        self._buffer = Buffer(len(clean.labels), self.settings.buffer, seed)
        self._drift = DriftMonitor(clean.drift)
        self._fresh = DriftReport()
        self._seed = seed
        self._sound = Trial.clean(eye, clean)
        usual = eye.look(clean.good, eye.source).scores
        self._usual_margin = clean.offset - float(np.median(usual))
        self.rate = RateAlarm(clean.numbers["rejects"])
        self._said: dict[int, tuple[bool, bool]] = {}
        frame = self._ledger.frame
        resumed = self._ledger.answering.number != SOURCE
        self.state = State(Phase.HOLD, frame, born=frame) if resumed else State(since=frame)
        self._course = _Course(since=frame, looked_at=frame)

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

    def observe(self, seen: Seen) -> DriftReport | None:
        """Take one picture that was fit to be judged; return a report when it completes a block."""
        self._ledger.frame = max(self._ledger.frame, seen.number)
        self._buffer.offer(seen)
        report = self._drift.add(seen)
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
            self._said[number] = adapted_fails, frozen_fails
            if len(self._said) > REMEMBERED:
                del self._said[next(iter(self._said))]

    def told(self, number: int, *, defect: bool) -> None:
        """Take a label: what a part really was."""
        answers = self._said.pop(number, None)
        if answers is None or self._ledger.answering.number == SOURCE:
            return
        test = self._course.test.told(defect=defect, adapted_fails=answers[0], frozen_fails=answers[1])
        self._course.test = test
        harm, gain = test.evidence
        numbers = {"part": number, "harm": harm, "gain": gain, "labels": test.labels}
        self._ledger.record("label", "operator", "defective" if defect else "good", numbers)
        if test.verdict == "harm":
            self._course.harmed = f"labels prove harm at alpha {test.alpha}"

    def work(self) -> bool:
        """Do what is due, at most one piece; return whether `answering` is another one now."""
        before = self._ledger.answering
        if self.why_off is None:
            self._step()
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
        number = SOURCE if request.kind == "reset" else request.number or SOURCE
        self._ledger.go_to(number, request.actor, why, done)
        # What a person chose stays until the pictures change again.
        frame = self._ledger.frame
        self._enter(State(Phase.WATCH if number == SOURCE else Phase.HOLD, frame))

    def _step(self) -> None:
        course, report = self._course, self._fresh
        signals = Signals(
            frame=self._ledger.frame,
            drifting=report.drifting,
            abrupt=self._changed(report),
            normal=report.normal,
            harmed=course.harmed,
            worse=course.worse,
            converged=course.converged,
        )
        change = advance(self.state, signals, self.settings.patience)
        self._fresh = replace(report, abrupt=False, jump=0.0)
        if change.why is not None:
            self._change(change.state, change.action, change.why, report)
            return
        self.state = change.state
        pause = self.settings.every if self.state.phase is Phase.LEARN else self.settings.recheck
        if self.state.phase in (Phase.LEARN, Phase.HOLD) and (
            course.search or self._ledger.frame - course.looked_at >= pause
        ):
            self._look()

    def _change(self, state: State, action: Action, why: str, report: DriftReport) -> None:
        self._ledger.record(
            f"{self.state.phase}->{state.phase}", "guard", why, report.numbers() | {"trips": state.trips}
        )
        block = self._clean.drift.block_frames
        since = self._ledger.frame - 2 * block if self._changed(report) else self._course.since
        stays = action is Action.NONE and state.phase in (Phase.HOLD, Phase.LEARN)
        held = self._course
        self._enter(state)
        if stays:
            self._course = replace(held, worse=False, converged=False, looked_at=self._ledger.frame)
        self._course.since = since
        self._course.search = action is Action.SEARCH
        if action is Action.RESET:
            self._ledger.go_to(SOURCE, "guard", why)
            self._buffer.clear()
        elif action is Action.ROLLBACK:
            # The last good version was good under other conditions, or it would not have come to this.
            self._ledger.go_to(SOURCE, "guard", why)
            self._buffer.clear()

    def _changed(self, report: DriftReport) -> bool:
        return report.abrupt or report.jump >= self.settings.jump

    def _enter(self, state: State) -> None:
        self.state = state
        self._course = _Course(looked_at=self._ledger.frame, since=self._course.since)

    def _look(self) -> None:
        """Hold what answers, and what else could, against the pictures of now."""
        course = self._course
        recent = [
            one for one in self._buffer.recent(self.settings.buffer.recent) if one.number > course.since
        ]
        if len(recent) < max(LEAST * 3 // 2, 1) or self._buffer.distinct.frames < LEAST // 2:
            return  # too little evidence
        course.looked_at = self._ledger.frame
        trial = Trial.hold(
            self._eye, self._clean, recent, self.settings.bound, self._seed + self._ledger.frame
        )
        if trial.explained < self.settings.limits.explained:
            self._unexplained(trial)
            return
        if course.search:
            course.search = False
            self._search(trial, recent)
        now = trial.assess(self._ledger.answering.adapter)
        if self._does_harm(trial, now):
            course.harmed = "known parts are told apart worse than by the frozen model"
            return
        if self.state.phase is Phase.LEARN:
            course.converged = self._is_sound(now)
            if not course.converged and self.settings.level == "full" and self._update is not None:
                now = self._propose(trial, now, recent)
            elif not course.converged:
                self.state = proposed(self.state, kept=False, harmful=False)
            course.held_error = now.error
        else:
            course.worse = now.error > course.held_error + self.settings.slack
            course.held_error = (
                min(course.held_error, now.error) if math.isfinite(course.held_error) else now.error
            )
        self._follow(trial, now, recent)

    def _propose(self, trial: Trial, before: Assessment, recent: Sequence[Seen]) -> Assessment:
        """Make one proposal and keep or refuse it; return what answers then."""
        assert self._update is not None
        course, seed = self._course, self._seed + self._ledger.frame
        learned_from = self._clean.known.half(0)
        spec = self._eye.engine.info.preprocess
        start = course.challenger or self._ledger.answering.adapter
        adapter, numbers = self._update(
            start,
            (as_pixels(trial.condition.render(learned_from.pictures, seed + 1), spec), learned_from.classes),
            self._good_parts(recent),
            seed,
        )
        after = trial.assess(adapter)
        finite = math.isfinite(numbers.get("loss", math.nan))
        evidence = trial.evidence(before, after, distance(adapter, self._eye.source), finite)
        ruling = judge(evidence, self.settings.limits)
        self.last_numbers = evidence.numbers() | {"harm": course.test.evidence[0]}
        harmful = ruling.rule in HARMFUL
        self.state = proposed(self.state, kept=ruling.keep, harmful=harmful)
        details = self.last_numbers | {f"loss_{k}": v for k, v in numbers.items()} | trial.condition.numbers()
        if not ruling.keep:
            # Several steps that are each too small to tell may be one that is not.
            course.challenger = None if harmful else adapter
            self._ledger.record("refused", "guard", ruling.rule, details)
            return before
        course.challenger = None
        course.test = LabelTest()
        self._ledger.promote(adapter, after, trial, recent, details, "gain on known parts")
        return after

    def _good_parts(self, recent: Sequence[Seen]) -> Labelled:
        """Return those of the recent pictures that look least like a defect, with their passing classes."""
        passing = np.flatnonzero(~self._clean.fails)
        scores = np.array([one.score for one in recent])
        rows = np.argsort(scores, kind="stable")[: len(recent) // 2]
        named = np.array([recent[row].label for row in rows])
        # What the frozen model rejects falsely is of the class that most good parts are of.
        usual = passing[np.argmax([(named == c).sum() for c in passing])]
        classes = np.where(self._clean.fails[named], usual, named)
        pictures = np.stack([recent[row].picture for row in rows])
        return as_pixels(pictures, self._eye.engine.info.preprocess), classes

    def _search(self, trial: Trial, recent: Sequence[Seen]) -> None:
        """Begin with what fits best: the source, what answers, or what is stored for a like condition."""
        alike = most_alike(trial.condition, self._ledger.versions(), self.settings.candidates)
        candidates = {version.digest: (version.number, version.adapter) for version in alike}
        answering = self._ledger.answering
        candidates.setdefault(answering.adapter.digest, (answering.number, answering.adapter))
        candidates.pop(self._eye.source.digest, None)
        number, adapter, assessed = SOURCE, self._eye.source, trial.frozen
        for other_number, other in candidates.values():
            tried = trial.assess(other)
            # The source is trusted: another must be clearly better.
            if tried.error < assessed.error - (self.settings.slack / 2 if number == SOURCE else 0):
                number, adapter, assessed = other_number, other, tried
        details = {"from": float(number), "tried": float(len(candidates) + 1)}
        self._ledger.promote(adapter, assessed, trial, recent, details, "fits the new condition best")

    def _follow(self, trial: Trial, now: Assessment, recent: Sequence[Seen]) -> None:
        """Let the operating point follow the pictures, in steps that are worth it."""
        answering = self._ledger.answering
        if abs(now.point.offset - answering.offset) >= self.settings.step or (
            now.point.at_bound and not answering.at_bound
        ):
            self._ledger.promote(
                answering.adapter, now, trial, recent, {}, "operating point follows the pictures"
            )

    def _unexplained(self, trial: Trial) -> None:
        """Nothing that is known of the parts says anything about such pictures: the source answers."""
        numbers = {"explained": trial.explained} | trial.condition.numbers()
        self.state = proposed(self.state, kept=False, harmful=False)
        self._ledger.record("refused", "guard", "unexplained", numbers)
        if self._ledger.answering.number != SOURCE:
            self._ledger.go_to(SOURCE, "guard", "the pictures are not those of the commissioned parts")

    def _does_harm(self, trial: Trial, now: Assessment) -> bool:
        if self._ledger.answering.adapter.digest == self._eye.source.digest:
            return False
        evidence = trial.evidence(trial.frozen, now, 0.0)
        return evidence.gain < -self.settings.slack - 2 * evidence.gain_error

    def _is_sound(self, now: Assessment) -> bool:
        """Whether known parts, and the stream's own scores, are as they were on the clean line."""
        as_before = now.error <= self._sound.error + self.settings.slack / 2
        return as_before and now.margin >= 0.5 * self._usual_margin
