"""What the parts of a stream are: flanges of the simulated line, photos of steel strip, photos of CIFAR-10.

Steel and CIFAR-10 have no good and bad parts, so some classes are called ok and the others defects. Only photos
that no model was trained on are used: NEU's test split and CIFAR-10's `test-dev`. There are far fewer of them
than a stream has frames, so each is shown many times, flipped and shifted; photos of the commissioning are
never shown in the stream.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Literal, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

from adapters.core.prompts import Prompts
from benchmarks.line_data import SHARED_DATA, encode_again, read_recipe, read_split
from benchmarks.photo_model import CLASSES, TEMPLATES
from benchmarks.photos import read_photos
from camera.core.frame import Image
from camera.simulation.part import LABELS, render_part

Pool = Literal["golden", "reference", "held_out", "stream"]
"""Where a part comes from. `held_out` is for the oracle, and shares photos with the commissioning only."""

POOLS: tuple[Pool, ...] = ("golden", "reference", "held_out", "stream")
POOL_SHARES = {"golden": 0.2, "reference": 0.3}
"""Of a class's photos; the stream has the other half."""

STEEL_OK = ("patches", "pitted_surface", "rolled-in_scale")
PHOTOS_OK = ("automobile", "ship", "frog")
PHOTOS_BAD = ("truck", "airplane", "bird")
"""Each ok class has a defect that resembles it; vehicles against animals would be too easy (AUROC 0.997)."""

STEEL_PX = 184
STEEL_SHIFT_PX = 16
PHOTO_SHIFT_PX = 2


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """A picture of a part, of the size that its camera has.

    Attributes:
        image: uint8 RGB, the caller's to keep.
        origin: what it is a picture of: the part's own seed, or the photo's number.
    """

    image: Image
    origin: int


class World(Protocol):
    """A product with its recipe.

    Attributes:
        name: of the product.
        labels: of its classes.
        fails: ``(C,)`` which of them fail.
        prompts: their words.
    """

    name: str
    labels: tuple[str, ...]
    fails: NDArray[np.bool_]
    prompts: Prompts

    def part(self, pool: Pool, label: int, rng: np.random.Generator) -> Part:
        """Take a picture of some part of this class under a good lamp."""
        ...

    def stranger(self, rng: np.random.Generator) -> Image:
        """Take a picture of another product."""
        ...


class LineWorld:
    """Flanges; no two are the same."""

    name = "line"

    def __init__(self) -> None:
        recipe = read_recipe("line")
        self.labels, self.fails = recipe.labels, np.array(recipe.fails)
        self.prompts = Prompts(tuple(zip(recipe.labels, recipe.phrases, strict=True)), recipe.templates)

    def part(self, pool: Pool, label: int, rng: np.random.Generator) -> Part:
        """Render a flange; the generator's seed must differ from pool to pool."""
        origin = int(rng.integers(2**62))
        image, _ = render_part(LABELS[label], np.random.default_rng([origin, POOLS.index(pool)]))
        return Part(image, origin)

    def stranger(self, rng: np.random.Generator) -> Image:
        """Return a photo of steel strip."""
        photos, _ = _steel()
        return np.asarray(photos[int(rng.integers(len(photos)))])


class PhotoWorld:
    """Photos of some classes, each class split between commissioning and stream.

    Attributes:
        origins: photos by pool and class.
    """

    def __init__(
        self,
        name: str,
        photos: tuple[NDArray[np.uint8], NDArray[np.int64]],
        labels: tuple[str, ...],
        ok: tuple[str, ...],
        prompts: Prompts,
        seed: int,
        stranger: Callable[[np.random.Generator], Image],
    ) -> None:
        self.name, self.labels, self.prompts = name, labels, prompts
        self.fails = np.array([label not in ok for label in labels])
        self.stranger = stranger
        self._images, classes = photos
        rng = np.random.default_rng([seed, 7])
        self.origins: Mapping[tuple[Pool, int], NDArray[np.int64]] = {
            (pool, label): chosen
            for label in range(len(labels))
            for pool, chosen in _dealt(rng.permutation(np.flatnonzero(classes == label))).items()
        }

    def part(self, pool: Pool, label: int, rng: np.random.Generator) -> Part:
        """Show one of the pool's photos, flipped or not, a little shifted."""
        origin = int(rng.choice(self.origins[pool, label]))
        image = self._images[origin]
        if rng.random() < 0.5:
            image = image[:, ::-1]
        if self.name == "steel":
            top, left = rng.integers(STEEL_SHIFT_PX + 1, size=2)
            image = image[:: rng.choice((-1, 1))][top : top + STEEL_PX, left : left + STEEL_PX]
            # Every photo through JPEG, as for the model's evaluation: no file format may tell a class.
            return Part(encode_again(np.ascontiguousarray(image), int(rng.integers(70, 96))), origin)
        side, wide = PHOTO_SHIFT_PX, image.shape[0]
        top, left = rng.integers(2 * side + 1, size=2)
        padded = np.pad(image, ((side, side), (side, side), (0, 0)), mode="edge")
        return Part(np.ascontiguousarray(padded[top : top + wide, left : left + wide]), origin)


def world_of(model: str, seed: int) -> World:
    """Return what a model of the benchmark inspects; `seed` deals the photos."""
    if model == "line":
        return LineWorld()
    if model == "steel":
        recipe = read_recipe("steel-neu")
        prompts = Prompts(tuple(zip(recipe.labels, recipe.phrases, strict=True)), recipe.templates)
        return PhotoWorld("steel", _steel(), recipe.labels, STEEL_OK, prompts, seed, _flange)
    chosen = PHOTOS_OK + PHOTOS_BAD
    images, labels = _photos()
    mine = np.array([chosen.index(CLASSES[c]) if CLASSES[c] in chosen else -1 for c in range(len(CLASSES))])
    others = images[mine[labels] < 0]
    prompts = Prompts(tuple((label, (label,)) for label in chosen), TEMPLATES)
    return PhotoWorld(
        "photos",
        (images, mine[labels]),
        chosen,
        PHOTOS_OK,
        prompts,
        seed,
        lambda rng: np.asarray(others[int(rng.integers(len(others)))]),
    )


def with_object(image: Image, rng: np.random.Generator) -> Image:
    """Lay something on the part: a rag, a glove, a tool. It covers a fifth to a half of the picture."""
    height, width = image.shape[:2]
    picture = image.copy()
    centre = (rng.uniform(0.25, 0.75, 2) * (width, height)).tolist()
    axes = (rng.uniform(0.5, 0.95, 2) * (width, height)).tolist()
    colour = rng.integers(20, 230, 3).tolist()
    cover = np.zeros((height, width), np.uint8)
    cv2.ellipse(cover, (centre, axes, rng.uniform(0, 180)), 255, -1)
    grain = rng.normal(0, 12, (height, width, 1)) + np.array(colour)
    picture[cover > 0] = np.clip(grain, 0, 255).astype(np.uint8)[cover > 0]
    return picture


def _dealt(photos: NDArray[np.int64]) -> dict[Pool, NDArray[np.int64]]:
    """Split one class's photos."""
    first = round(POOL_SHARES["golden"] * len(photos))
    second = first + round(POOL_SHARES["reference"] * len(photos))
    return {
        "golden": photos[:first],
        "reference": photos[first:second],
        "held_out": photos[:second],
        "stream": photos[second:],
    }


def _flange(rng: np.random.Generator) -> Image:
    return render_part("ok", rng)[0]


@cache
def _photos() -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    photos = read_photos("test-dev")
    return photos.images, photos.labels


@cache
def _steel() -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Read NEU's test split at its own 200x200."""
    folder = SHARED_DATA / "neu-steel"
    if not folder.is_dir():
        sys.exit(f"{folder}: not there; these streams need the photos of NEU-CLS as <class>/<file>")
    labels = read_recipe("steel-neu").labels
    rows = [row for row in read_split("neu") if row[2] == "test"]
    images = [np.asarray(Pillow.open(folder / row[0]).convert("RGB")) for row in rows]
    return np.stack(images), np.array([labels.index(row[1]) for row in rows])
