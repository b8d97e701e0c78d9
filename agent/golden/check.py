"""A golden set looked at: what is measured of its pictures, and what is odd about them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from PIL import Image as Pillow

from adapters.core.patches import PatchExtractor
from adapters.core.protocol import Floats
from adapters.reference.reference import Reference
from agent.base.errors import StoreError
from agent.config.models import Station
from agent.config.recipes import Recipe
from agent.golden.findings import (
    Looks,
    SampleFinding,
    of_classes,
    of_defect_scores,
    of_good_scores,
    of_looks,
)
from agent.golden.index import GoldenIndex
from agent.golden.reference_build import good_labels, sample_features
from agent.golden.store import GoldenStore
from agent.inspection.feed_factory import framing_of
from camera.core.frame import Image
from camera.core.settings import QualityLimits
from camera.pictures.quality import assess

_GLANCE_PX: Final = 32
_FOLDS: Final = 10
_LEAST_JUDGED: Final = 4
"""Good samples below which none can be called unlike the others."""


@dataclass(frozen=True, slots=True)
class GoldenChecked:
    """What came of a check.

    Attributes:
        samples: how many were looked at.
        findings: what is odd.
        judged: whether a reference has judged them too.
    """

    samples: int
    findings: tuple[SampleFinding, ...]
    judged: bool


def check(
    store: GoldenStore,
    index: GoldenIndex,
    recipe: Recipe,
    station: Station,
    extractor: PatchExtractor | None,
) -> GoldenChecked:
    """Look at every sample of a set.

    Args:
        store: of the set.
        index: of it.
        recipe: that says which classes are good.
        station: its config.
        extractor: of the recipe's reference; None: samples are not compared with a reference.
    """
    classes, good = index.classes(), good_labels(recipe)
    looks, damaged = _measured(store, index, classes)
    found = list(damaged)
    if looks is not None:
        found += of_looks(looks)
    found += of_classes(Counter(classes.values()), good)
    sound = {} if looks is None else {id_: classes[id_] for id_ in looks.ids}
    inside = [id_ for id_, label in sound.items() if label in good]
    judged = extractor is not None and bool(inside)
    if judged and extractor is not None:
        bad = [id_ for id_ in sound if sound[id_] not in good]
        found += _judged(store, index, sound, inside, bad, station, extractor)
    return GoldenChecked(len(classes), tuple(found), judged)


def shown(index: GoldenIndex, id_: str, label: str) -> str:
    """Return how a sample is called in messages: class, file name and the beginning of its id."""
    return f"{label}/{index.samples[id_].file} ({id_[:8]})"


def others_scores(features: Floats, extractor: PatchExtractor) -> Floats:
    """Return ``(K,)`` scores of good samples, each by a reference that it had no part in.

    Leave-one-out up to ten samples, in ten folds beyond.
    """
    folds = np.arange(len(features)) % min(len(features), _FOLDS)
    scores = np.empty(len(features), np.float32)
    for fold in np.unique(folds):
        reference = Reference.build(features[folds != fold], extractor.info)
        for k in np.flatnonzero(folds == fold):
            scores[k] = reference.judge(features[k]).score
    return scores


def _measured(
    store: GoldenStore, index: GoldenIndex, classes: dict[str, str]
) -> tuple[Looks | None, list[SampleFinding]]:
    damaged, rows = list[SampleFinding](), list[tuple[str, Floats, float, float, tuple[int, int]]]()
    for id_ in classes:
        try:
            image = store.picture(id_)
        except StoreError as error:
            damaged.append(SampleFinding("damaged", (id_,), str(error)))
            continue
        quality = assess(image, QualityLimits())
        assert quality.luma is not None
        assert quality.sharpness is not None
        size = (image.shape[1], image.shape[0])
        rows.append((id_, _glance(image), quality.luma, quality.sharpness, size))
    if not rows:
        return None, damaged
    ids, glances, luma, sharpness, sizes = zip(*rows, strict=True)
    names = [shown(index, id_, classes[id_]) for id_ in ids]
    labels = [classes[id_] for id_ in ids]
    numbers = np.array(luma, np.float32), np.array(sharpness, np.float32)
    return Looks(ids, names, labels, np.stack(glances), *numbers, np.array(sizes, np.int64)), damaged


def _glance(image: Image) -> Floats:
    small = Pillow.fromarray(image).convert("L").resize((_GLANCE_PX, _GLANCE_PX), Pillow.Resampling.BOX)
    return np.asarray(small, dtype=np.float32).ravel()


def _judged(
    store: GoldenStore,
    index: GoldenIndex,
    classes: dict[str, str],
    good: Sequence[str],
    bad: Sequence[str],
    station: Station,
    extractor: PatchExtractor,
) -> list[SampleFinding]:
    features = sample_features(store, list(good), station, extractor)
    good = good[: len(features)]
    found = list[SampleFinding]()
    if len(good) >= _LEAST_JUDGED:
        names = [shown(index, id_, classes[id_]) for id_ in good]
        found += of_good_scores(good, names, others_scores(features, extractor))
    reference = Reference.build(features, extractor.info)
    framing = framing_of(station, extractor.info.preprocess)
    pixels = (framing.inputs(image).pixels for image in store.pictures(bad))
    scores = [reference.judge(extractor.patches(one)).score for one in pixels]
    names = [shown(index, id_, classes[id_]) for id_ in bad]
    labels = [classes[id_] for id_ in bad]
    found += of_defect_scores(bad, names, labels, np.array(scores, np.float32), reference.threshold)
    return found
