"""The reference of a product, built of its golden samples of good parts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from itertools import count
from pathlib import Path
from typing import Final

import numpy as np

from adapters.baseline.claims import SHARES, needed
from adapters.core.patches import PatchExtractor, PatchInfo
from adapters.core.protocol import Floats
from adapters.reference.good_scores import split
from adapters.reference.reference import Reference
from agent import __version__
from agent.base.codec import timestamp
from agent.base.errors import StoreError, UsageError
from agent.config.models import Config, Station
from agent.config.recipes import Recipe, find_recipe
from agent.golden.index import GOOD, GoldenIndex
from agent.golden.store import GoldenStore
from agent.inspection.feed_factory import framing_of
from agent.versions.products import Product, product
from agent.versions.station_reference import facts_of
from camera.core.kept_region import KeptRegion

MOST_BYTES: Final = 512_000_000
"""Of the features that a reference is built of; they are in memory all at once, and half of them twice."""
GOLDEN_FACT: Final = "golden"
"""Name of what a reference's facts say of the golden set."""


@dataclass(frozen=True, slots=True, eq=False)
class BuiltReference:
    """A reference and what it was built of.

    Attributes:
        good: golden samples of good parts in the set.
        used: how many of them the reference was built of.
        file: where it lies.
    """

    reference: Reference
    good: int
    used: int
    file: Path

    def sentences(self) -> list[str]:
        """Say what it is and what may be claimed of it."""
        reference = self.reference
        left = self.good - self.used
        some = f", of which {left} were left out: more do not fit into memory" if left else ""
        basis = (
            f"{len(reference.scores)} held out of the memory"
            if reference.basis == "held_out"
            else "each compared with the others"
        )
        return [
            f"reference of {self.good} good samples{some}; threshold {reference.threshold:.4g}, {basis}",
            claim_sentence(reference, self.good),
        ]


def build_reference(
    config: Config,
    station: str,
    recipe: str,
    extractor: PatchExtractor,
    *,
    actor: str,
    progress: Callable[[int, int], None] = lambda done, all_: None,
) -> BuiltReference:
    """Build the reference of a product and put it where an agent finds it, one that runs too.

    Args:
        config: that names station and recipe.
        station: its name.
        recipe: name of the recipe, which has a `reference`.
        extractor: makes the features that the recipe names.
        actor: who asks.
        progress: told how many samples of how many were read.

    Raises:
        UsageError: there are no good samples, or they were cut by another region.
        UnusableReference: there are too few.
        StoreError: the set cannot be read, has changed meanwhile, or the disk does not take the reference.
    """
    here, rules = product(config, station, recipe), find_recipe(recipe, config.recipes)
    settings = rules.reference
    if settings is None:
        raise UsageError(f"recipe {recipe} has no reference: add reference: {{}} to it")
    store = GoldenStore(here.golden, station)
    index = store.index()
    good = good_samples(index, rules)
    require_region(index, good, station, config.stations[station])
    features = sample_features(store, good, config.stations[station], extractor, progress)
    facts = {
        **facts_of(config, station, recipe, extractor.info),
        "made_by": actor,
        "made_at": timestamp(datetime.now(UTC)),
        "release": __version__,
        GOLDEN_FACT: {"version": index.number, "digest": index.versions[-1].digest, "used": len(features)},
    }
    reference = Reference.build(features, extractor.info, false_rejects=settings.false_rejects, facts=facts)
    _save(reference, store, index, here)
    return BuiltReference(reference, len(good), len(features), here.reference)


def good_samples(index: GoldenIndex, recipe: Recipe) -> list[str]:
    """Return the ids of the samples of good parts, in order; raise UsageError where there is none."""
    labels = good_labels(recipe)
    good = [id_ for id_, label in index.classes().items() if label in labels]
    if not good:
        raise UsageError(
            f"no golden sample is of a good part (class {' or '.join(sorted(labels))}): add some with"
            " mekiki golden add --class good"
        )
    return good


def good_labels(recipe: Recipe) -> set[str]:
    """Return the classes whose parts are good."""
    passing = {label for label, one in recipe.classes.items() if one.verdict == "pass"}
    return passing | ({GOOD} - recipe.classes.keys())


def require_region(index: GoldenIndex, ids: list[str], name: str, station: Station) -> None:
    """Raise UsageError where samples show another region than the station looks at now."""
    now = KeptRegion.of(name, station.roi).roi
    other = [id_ for id_ in ids if index.samples[id_].roi != now]
    if other:
        raise UsageError(
            f"station {name}: {len(other)} of {len(ids)} golden samples, such as"
            f" {index.samples[other[0]].file}, were cut by another region of interest: set"
            f" stations.{name}.roi back, or remove them and add the camera's whole pictures again"
        )


def sample_features(
    store: GoldenStore,
    ids: list[str],
    station: Station,
    extractor: PatchExtractor,
    progress: Callable[[int, int], None] = lambda done, all_: None,
) -> Floats:
    """Return ``(K, T, h, w, D)`` features of samples in their order: of as many as `MOST_BYTES` hold.

    Ids are hashes, so that the first of them are as good as drawn at random.
    """
    framing = framing_of(station, extractor.info.preprocess)
    tiles = framing.tiles[0] * framing.tiles[1]
    ids = ids[: most_samples(extractor.info, tiles)]
    rows, columns = extractor.info.grid
    features = np.empty((len(ids), tiles, rows, columns, extractor.info.channels), np.float32)
    for place, image in enumerate(store.pictures(ids)):
        features[place] = extractor.patches(framing.inputs(image).pixels)
        progress(place + 1, len(ids))
    return features


def most_samples(info: PatchInfo, tiles: int) -> int:
    """Return how many samples a reference is built of at most."""
    return max(2, MOST_BYTES // (tiles * info.grid[0] * info.grid[1] * info.channels * 4))


@cache
def samples_for(share: float) -> int:
    """Return how many good samples bound the share of false rejects, none of the held out ones rejected."""
    held = needed(share)
    return next(samples for samples in count(held) if len(split(samples, 0)[1]) >= held)


def claim_sentence(reference: Reference, good: int) -> str:
    """Say what may be claimed of false rejects, and what the next claim takes."""
    claim = reference.claim
    said = (
        "false rejects: not known"
        if claim is None
        else f"false rejects: at most {claim.false_rejects_at_most:.1%} of good parts, with"
        f" {claim.confidence:.0%} confidence"
    )
    known = 1.0 if claim is None else claim.false_rejects_at_most
    better = [(share, samples_for(share) - good) for share in SHARES if share < known]
    wanted = [f"{more} more for at most {share:.1%}" for share, more in better if more > 0]
    return f"{said}; good samples needed: {', '.join(wanted[:2])}" if wanted else said


def facts_sentence(facts: Mapping[str, object], index: GoldenIndex) -> str | None:
    """Say where a reference was not built of the set that counts; None where it was."""
    said = facts.get(GOLDEN_FACT)
    version = said.get("version") if isinstance(said, Mapping) else None
    if isinstance(said, Mapping) and index.versions and said.get("digest") == index.versions[-1].digest:
        return None
    built = "of no golden set" if version is None else f"of version {version}"
    return f"the reference was built {built}, version {index.number} counts: run mekiki golden build"


def _save(reference: Reference, store: GoldenStore, index: GoldenIndex, here: Product) -> None:
    with store.writing() as now:
        if now.number != index.number:
            raise StoreError(
                f"{store.folder}: another command has changed the golden samples meanwhile: run mekiki golden"
                " build"
            )
        reference.save(here.reference)
