"""Picture files judged as a station would judge them: by words, by references of several draws, or both."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np

from adapters.core.patches import PatchExtractor
from adapters.core.protocol import Engine, Floats
from adapters.reference.reference import Reference
from agent.config.recipes import Recipe
from agent.domain.comparison import Comparison
from agent.domain.verdict import Decision, decide
from agent.golden.pictures import pixels_id
from agent.inspection.feed_factory import input_spec
from agent.inspection.judging import decided_by
from agent.inspection.predictor import Predictor
from camera.core.frame import Image, Quality
from camera.core.settings import QualityLimits
from camera.pictures.framing import Framing
from camera.pictures.images import UnreadableImage, read_image
from camera.pictures.quality import assess, too_small
from camera.simulation.degradations import degrade

_SOUND: Final = Quality()


class Unusable(Exception):
    """A file cannot be judged; names it and says why."""


@dataclass(frozen=True, slots=True)
class DegradedView:
    """A worse lamp, lens or sensor, before which the judged pictures are put; golden ones are not.

    Attributes:
        kind: one of `camera.simulation.degradations.KINDS`.
        severity: 0 to 5.
        seed: of its place, which stays, and of its noise, which is new in each picture.
    """

    kind: str
    severity: float
    seed: int

    def applied(self, image: Image, number: int) -> Image:
        """Return the picture with this number as it is seen then."""
        seed = self.seed + (number << 32) if self.kind == "noise" else self.seed
        return degrade(image, self.kind, self.severity, seed)


@dataclass(frozen=True, slots=True, eq=False)
class RecipeWords:
    """What judges by a recipe's words.

    Attributes:
        engine: of the model.
        predictor: the model as it was trained, with the recipe's class features.
    """

    engine: Engine
    predictor: Predictor

    def scores(self, image: Image) -> Floats:
        """Return ``(C,)`` probabilities of the classes."""
        info = self.engine.info
        pixels = Framing(input_spec(info.preprocess)).inputs(image).pixels
        features = self.engine.encode_image(pixels, [self.predictor.adapter] * len(pixels))
        return decided_by(self.predictor, features, info.logit_scale)[1]


@dataclass(frozen=True, slots=True, eq=False)
class DrawnReference:
    """The reference of one draw.

    Attributes:
        reference: of its golden samples.
        ids: of them: they are not judged in this draw.
    """

    reference: Reference
    ids: frozenset[str]

    @classmethod
    def of(
        cls, features: Floats, ids: Sequence[str], extractor: PatchExtractor, false_rejects: float, seed: int
    ) -> DrawnReference:
        """Return the reference of ``(K, T, h, w, D)`` features; raise UnusableReference as its `build`."""
        built = Reference.build(features, extractor.info, false_rejects=false_rejects, seed=seed)
        return cls(built, frozenset(ids))


@dataclass(frozen=True, slots=True, eq=False)
class KeptFeatures:
    """Features that were computed before.

    Attributes:
        patches: ``(T, h, w, D)``.
        took_s: time that it took.
    """

    patches: Floats
    took_s: float


@dataclass(frozen=True, slots=True, eq=False)
class JudgedPicture:
    """What was said of one picture, in each draw; None in draws that have it as a golden sample.

    Attributes:
        id: of its pixels, before any degradation.
        decisions: of each draw.
        scores: of each draw: what it fails from 1 on, the higher of what words and reference say.
        ms: time for it, without reading the file.
        unlit: a line would not inspect it by the default limits: black or saturated.
    """

    id: str
    decisions: tuple[Decision | None, ...]
    scores: tuple[float, ...]
    ms: float
    unlit: bool


@dataclass(slots=True)
class PictureJudge:
    """Judges pictures by one recipe. One thread.

    Attributes:
        recipe: with words, reference or both.
        words: of the recipe; None without any.
        extractor: of the reference; None without one.
        degradation: of the judged pictures; None: they are as they are.
    """

    recipe: Recipe
    words: RecipeWords | None
    extractor: PatchExtractor | None
    degradation: DegradedView | None = None
    _limits: QualityLimits = field(default_factory=QualityLimits)

    def read(self, file: Path) -> tuple[str, Image]:
        """Return the id and the ``(H, W, 3)`` uint8 RGB picture of a file; raise Unusable for no picture."""
        try:
            image = read_image(file)
        except UnreadableImage as error:
            raise Unusable(str(error)) from error
        if fault := too_small(image):
            raise Unusable(f"{file}: {fault}")
        return pixels_id(image), image

    def features(self, image: Image) -> Floats:
        """Return ``(T, h, w, D)`` patch features of a picture."""
        assert self.extractor is not None
        pixels = Framing(input_spec(self.extractor.info.preprocess)).inputs(image).pixels
        return self.extractor.patches(pixels)

    def judge(
        self,
        id_: str,
        image: Image,
        number: int,
        draws: Sequence[DrawnReference],
        kept: KeptFeatures | None = None,
    ) -> JudgedPicture:
        """Judge one picture in all draws; its features are computed once.

        Args:
            id_: of its pixels.
            image: of the file.
            number: of the picture, for what is new in each.
            draws: references; none where words judge alone.
            kept: its features, where they are known already.
        """
        if self.degradation is not None:
            image, kept = self.degradation.applied(image, number), None
        began = time.perf_counter()
        words = None if self.words is None else self.words.scores(image)
        patches, before_s = None, 0.0
        if draws and kept is not None:
            patches, before_s = kept.patches, kept.took_s
        elif draws:
            patches = self.features(image)
        once_s = time.perf_counter() - began + before_s
        decisions, scores = list[Decision | None](), list[float]()
        began = time.perf_counter()
        for draw in draws:
            if id_ in draw.ids:
                decisions.append(None)
                scores.append(np.nan)
                continue
            assert patches is not None
            found = draw.reference.judge(patches)
            threshold = draw.reference.threshold
            compared = Comparison(found.score, threshold, found.box, "", draw.reference.samples)
            decisions.append(decide(_listed(words), _SOUND, self.recipe, compared))
            scores.append(max(found.score / threshold, self._of_words(words)))
        if not draws:
            decisions.append(decide(_listed(words), _SOUND, self.recipe))
            scores.append(self._of_words(words))
        each_s = (time.perf_counter() - began) / max(1, len(draws))
        unlit = assess(image, self._limits).fault is not None
        return JudgedPicture(id_, tuple(decisions), tuple(scores), 1000 * (once_s + each_s), unlit)

    def _of_words(self, scores: Floats | None) -> float:
        """Return how near to failing a part is by words: 1 where its failing classes reach the threshold."""
        if scores is None or self.words is None:
            return 0.0
        return float(scores[self.words.predictor.fails].sum()) / max(self.recipe.threshold, 1e-6)


def _listed(scores: Floats | None) -> list[float] | None:
    return None if scores is None else scores.tolist()
