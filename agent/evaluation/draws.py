"""Golden samples drawn among good pictures, several times over, and the references that are built of them."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Sequence
from math import prod
from pathlib import Path
from typing import Final

import numpy as np

from adapters.core.patches import PatchExtractor
from agent.base.errors import StoreError, UsageError
from agent.config.recipes import Recipe
from agent.evaluation.judging import DrawnReference, KeptFeatures, PictureJudge, Unusable

FALSE_REJECTS: Final = 0.01
"""Share of good parts that may be rejected, where no recipe says."""


class DrawnSamples:
    """Features of the pictures that were drawn, in a temporary file; each picture's are computed once.

    One thread. Use it as a context: the file goes with it.

    Args:
        judge: reads pictures and makes features.
        extractor: of the features.
        most: pictures that may be drawn.
        unusable: told why a file cannot be used.
    """

    def __init__(
        self, judge: PictureJudge, extractor: PatchExtractor, most: int, unusable: Callable[[Path, str], None]
    ) -> None:
        self._judge, self._extractor, self._unusable = judge, extractor, unusable
        self._folder = tempfile.TemporaryDirectory(prefix="mekiki-evaluate-")
        info = extractor.info
        shape = (most, 1, *info.grid, info.channels)
        file = Path(self._folder.name) / "features"
        self._take_room(file, 4 * prod(shape))
        self._features = np.memmap(file, np.float32, "r+", shape=shape)
        self._rows: dict[str, int] = {}  # id -> row
        self._took_s: list[float] = []  # by row
        self._ids: dict[Path, str | None] = {}

    def _take_room(self, file: Path, size: int) -> None:
        """Make a file of so many bytes: a disk that is full later ends the process without a word."""
        try:
            with file.open("wb") as made:
                os.posix_fallocate(made.fileno(), 0, size)
        except OSError as error:
            self._folder.cleanup()
            why = error.strerror or error
            raise StoreError(
                f"{file.parent.parent}: no room for {size / 1e6:.0f} MB of features: {why}: make room, set"
                " TMPDIR to another folder, or give fewer --samples or --draws"
            ) from error

    def __enter__(self) -> DrawnSamples:
        return self

    def __exit__(self, *_: object) -> None:
        self._folder.cleanup()

    def kept(self, id_: str) -> KeptFeatures | None:
        """Return ``(1, h, w, D)`` features of a picture that was drawn; None of another."""
        row = self._rows.get(id_)
        return None if row is None else KeptFeatures(np.asarray(self._features[row]), self._took_s[row])

    def draw(
        self, good: Sequence[Path], samples: int, seed: int, draw: int, recipe: Recipe
    ) -> DrawnReference:
        """Return the reference of one draw.

        Args:
            good: files of good pictures.
            samples: how many are drawn; at least one must be left.
            seed: of all draws.
            draw: number of this one, from 0.
            recipe: whose reference it is.

        Raises:
            UsageError: too few can be used.
            UnusableReference: of those that were drawn no reference can be built.
        """
        ids: list[str] = []
        for place in np.random.default_rng([seed, draw]).permutation(len(good)).tolist():
            id_ = self._id(good[place])
            if id_ is not None and id_ not in ids:
                ids.append(id_)
            if len(ids) == samples:
                break
        if len(ids) < samples:
            raise UsageError(
                f"{good[0].parent}: {len(ids)} pictures can be used, {samples} are to be drawn and at least"
                " one is to be judged: add some, or give fewer --samples"
            )
        ids.sort()  # as the golden samples of a station are: in the order of their ids
        rows = [self._rows[id_] for id_ in ids]
        share = FALSE_REJECTS if recipe.reference is None else recipe.reference.false_rejects
        return DrawnReference.of(np.asarray(self._features[rows]), ids, self._extractor, share, seed)

    def _id(self, file: Path) -> str | None:
        """Return the id of a picture whose features are kept from now on; None where it cannot be used."""
        if file not in self._ids:
            try:
                id_, image = self._judge.read(file)
            except Unusable as error:
                self._unusable(file, str(error))
                self._ids[file] = None
                return None
            if id_ not in self._rows:
                self._rows[id_] = len(self._rows)
                began = time.perf_counter()
                self._features[self._rows[id_]] = self._judge.features(image)
                self._took_s.append(time.perf_counter() - began)
            self._ids[file] = id_
        return self._ids[file]
