"""What all episodes of a station have in common."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from adapters.baseline.baseline import Commissioning
from adapters.core.adapter import Adapter
from adapters.core.observation import Observation, as_pixels
from adapters.core.protocol import Floats
from adapters.core.scorer import Scorer
from adapters.gate.evaluation import Assessment, Evaluation
from adapters.learner.sample_buffer import good_parts
from agent.versions.learner_settings import LearnerSettings, Update
from agent.versions.version_manager import VersionManager


class AdaptationContext:
    """What every episode of a station works with; for the thread that computes.

    Args:
        clean: the station's commissioning.
        scorer: the learner's own.
        update: makes proposals; None at the level ``operating_point``. None is made either where the guard
            has no confirmed defects to judge by.
        manager: asked for the versions that there are; changed by its own thread alone, see
        `agent.learning.episode.Ask`. settings: of the learner.
        seed: of everything that is drawn.

    Attributes:
        features: ``(G, D)`` of the good parts of commissioning, by the model as it was trained.
    """

    def __init__(
        self,
        clean: Commissioning,
        scorer: Scorer,
        update: Update | None,
        manager: VersionManager,
        settings: LearnerSettings,
        seed: int,
    ) -> None:
        self.clean, self.scorer = clean, scorer
        self.update = update if clean.sight.learns else None
        self.manager, self.settings, self.seed = manager, settings, seed
        good = scorer.look(clean.good, scorer.source)
        self.features: Floats = good.features
        self._usual_margin = clean.offset - float(np.median(good.scores))
        self._usual_error = Evaluation.clean(scorer, clean).error

    def hold(self, recent: Sequence[Observation]) -> Evaluation:
        """Show the known parts as the recent pictures are."""
        seed = self.seed + recent[-1].number
        return Evaluation.hold(self.scorer, self.clean, recent, self.settings.bound, seed)

    def propose(
        self, start: Adapter, trial: Evaluation, recent: Sequence[Observation]
    ) -> tuple[Adapter, dict[str, float]]:
        """Return a proposal, and the numbers of its last step."""
        assert self.update is not None
        spec, seed = self.scorer.engine.info.preprocess, self.seed + recent[-1].number
        known = self.clean.usable.half(0)
        shown = as_pixels(trial.condition.render(known.pictures, seed + 1), spec)
        pictures, classes = good_parts(recent, self.clean.fails)
        return self.update(start, (shown, known.classes), (as_pixels(pictures, spec), classes), seed)

    def is_sound(self, now: Assessment) -> bool:
        """Whether known parts, and the stream's own scores, are as they were on the clean line."""
        as_before = now.error <= self._usual_error + self.settings.slack / 2
        return as_before and now.margin >= 0.5 * self._usual_margin
