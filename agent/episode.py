"""What a learner makes of the pictures of one condition: looks, proposals, and what fits them best."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from adapters.adapter import Adapter
from adapters.alike import most_alike
from adapters.betting import LabelTest
from adapters.buffer import good_parts
from adapters.commissioning import Commissioning
from adapters.engine import Floats
from adapters.eye import Eye
from adapters.guard import HARMFUL, Ruling, judge
from adapters.seen import Seen, as_pixels
from adapters.trial import Assessment, Trial, distance
from adapters.version import SOURCE
from agent.answering import Ledger
from agent.learner_settings import LearnerSettings, Update


class Workshop:
    """What every episode of a station works with; for the learner's thread.

    Args:
        clean: the station's commissioning.
        eye: the learner's own.
        update: makes proposals; None at the level ``operating_point``.
        ledger: lets things answer.
        settings: of the learner.
        seed: of everything that is drawn.

    Attributes:
        features: ``(G, D)`` of the good parts of commissioning, by the model as it was trained.
    """

    def __init__(
        self,
        clean: Commissioning,
        eye: Eye,
        update: Update | None,
        ledger: Ledger,
        settings: LearnerSettings,
        seed: int,
    ) -> None:
        self.clean, self.eye, self.update = clean, eye, update
        self.ledger, self.settings, self.seed = ledger, settings, seed
        good = eye.look(clean.good, eye.source)
        self.features: Floats = good.features
        self._usual_margin = clean.offset - float(np.median(good.scores))
        self._usual_error = Trial.clean(eye, clean).error

    def hold(self, recent: Sequence[Seen]) -> Trial:
        """Show the known parts as the recent pictures are."""
        seed = self.seed + self.ledger.frame
        return Trial.hold(self.eye, self.clean, recent, self.settings.bound, seed)

    def propose(
        self, start: Adapter, trial: Trial, recent: Sequence[Seen]
    ) -> tuple[Adapter, dict[str, float]]:
        """Return a proposal, and the numbers of its last step."""
        assert self.update is not None
        spec, seed = self.eye.engine.info.preprocess, self.seed + self.ledger.frame
        known = self.clean.known.half(0)
        shown = as_pixels(trial.condition.render(known.pictures, seed + 1), spec)
        pictures, classes = good_parts(recent, self.clean.fails)
        return self.update(start, (shown, known.classes), (as_pixels(pictures, spec), classes), seed)

    def is_sound(self, now: Assessment) -> bool:
        """Whether known parts, and the stream's own scores, are as they were on the clean line."""
        as_before = now.error <= self._usual_error + self.settings.slack / 2
        return as_before and now.margin >= 0.5 * self._usual_margin


@dataclass(slots=True)
class Episode:
    """What is forgotten when the pictures are others. Owned by the learner.

    Attributes:
        shop: what it works with.
        since: frame after which the pictures are of one condition.
        search: whatever is known is to be tried first.
        looked_at: frame of the last look.
        converged, worse, harmed: what was found, for `adapters.lifecycle`.
        test: of labels, on what answers.
        numbers: of the guard's last ruling.
    """

    shop: Workshop
    since: int
    looked_at: int
    search: bool = False
    converged: bool = False
    worse: bool = False
    harmed: str | None = None
    test: LabelTest = field(default_factory=LabelTest)
    numbers: dict[str, float] = field(default_factory=dict)
    _challenger: Adapter | None = None
    _held_error: float = math.inf

    def look(self, recent: Sequence[Seen], *, learning: bool) -> Ruling | None:
        """Hold what answers, and what else could, against the pictures of now.

        Returns:
            What the guard said of a proposal; None where there was none.
        """
        shop, ledger = self.shop, self.shop.ledger
        self.looked_at = ledger.frame
        trial = shop.hold(recent)
        if trial.explained < shop.settings.limits.explained:
            return self._unexplained(trial)
        if self.search:
            self.search = False
            self._search(trial, recent)
        now = trial.assess(ledger.answering.adapter)
        if self._does_harm(trial, now):
            self.harmed = "known parts are told apart worse than by the frozen model"
            return None
        ruling = None
        if learning:
            self.converged = shop.is_sound(now)
            if not self.converged:
                ruling, now = self._learn(trial, now, recent)
            self._held_error = now.error
        else:
            self.worse = now.error > self._held_error + shop.settings.slack
            self._held_error = min(self._held_error, now.error)
        self._follow(trial, now, recent)
        return ruling

    def _learn(self, trial: Trial, before: Assessment, recent: Sequence[Seen]) -> tuple[Ruling, Assessment]:
        """Make one proposal and keep or refuse it; return what answers then."""
        shop = self.shop
        if shop.settings.level != "full" or shop.update is None:
            return Ruling(False, "no_gain"), before
        adapter, numbers = shop.propose(self._challenger or shop.ledger.answering.adapter, trial, recent)
        after = trial.assess(adapter)
        finite = math.isfinite(numbers.get("loss", math.nan))
        evidence = trial.evidence(before, after, distance(adapter, shop.eye.source), finite)
        ruling = judge(evidence, shop.settings.limits)
        self.numbers = evidence.numbers() | {"harm": self.test.evidence[0]}
        details = self.numbers | {f"loss_{k}": v for k, v in numbers.items()} | trial.condition.numbers()
        if not ruling.keep:
            # Several steps that are each too small to tell may be one that is not.
            self._challenger = None if ruling.rule in HARMFUL else adapter
            shop.ledger.record("refused", "guard", ruling.rule, details)
            return ruling, before
        self._challenger = None
        self.test = LabelTest()
        shop.ledger.promote(adapter, after, trial, recent, details, "gain on known parts")
        return ruling, after

    def _search(self, trial: Trial, recent: Sequence[Seen]) -> None:
        """Begin with what fits best: the source, what answers, or what is stored for a like condition."""
        ledger, settings = self.shop.ledger, self.shop.settings
        alike = most_alike(trial.condition, ledger.versions(), settings.candidates)
        candidates = {version.digest: (version.number, version.adapter) for version in alike}
        answering = ledger.answering
        candidates.setdefault(answering.adapter.digest, (answering.number, answering.adapter))
        candidates.pop(self.shop.eye.source.digest, None)
        number, adapter, assessed = SOURCE, self.shop.eye.source, trial.frozen
        for other_number, other in candidates.values():
            tried = trial.assess(other)
            # The source is trusted: another must be clearly better.
            if tried.error < assessed.error - (settings.slack / 2 if number == SOURCE else 0):
                number, adapter, assessed = other_number, other, tried
        moved = abs(assessed.point.offset - answering.offset) >= settings.step
        if adapter.digest == answering.adapter.digest and not moved:
            return
        details = {"from": float(number), "tried": float(len(candidates) + 1)}
        ledger.promote(adapter, assessed, trial, recent, details, "fits the new condition best")

    def _follow(self, trial: Trial, now: Assessment, recent: Sequence[Seen]) -> None:
        """Let the operating point follow the pictures, in steps that are worth it."""
        answering = self.shop.ledger.answering
        if abs(now.point.offset - answering.offset) >= self.shop.settings.step or (
            now.point.at_bound and not answering.at_bound
        ):
            why = "operating point follows the pictures"
            self.shop.ledger.promote(answering.adapter, now, trial, recent, {}, why)

    def _unexplained(self, trial: Trial) -> Ruling:
        """Nothing that is known of the parts says anything about such pictures: the source answers."""
        ledger, ruling = self.shop.ledger, Ruling(False, "unexplained")
        ledger.record(
            "refused", "guard", ruling.rule, {"explained": trial.explained} | trial.condition.numbers()
        )
        if ledger.answering.number != SOURCE:
            ledger.go_to(SOURCE, "guard", "the pictures are not those of the commissioned parts")
        return ruling

    def _does_harm(self, trial: Trial, now: Assessment) -> bool:
        if self.shop.ledger.answering.adapter.digest == self.shop.eye.source.digest:
            return False
        if not now.finite:
            return True
        evidence = trial.evidence(trial.frozen, now, 0.0)
        return evidence.gain < -self.shop.settings.slack - 2 * evidence.gain_error
