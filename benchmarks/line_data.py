"""Pictures and words that `mekiki-line` is trained and judged on: simulated parts, NEU steel, X-SDD steel.

The steel photos are split by file, by a hash of their name, and the split is written down in `splits/`.
Every steel photo is encoded as JPEG again before anything looks at it: in X-SDD one class is mostly PNG,
and its file format would give it away.
"""

from __future__ import annotations

import csv
import hashlib
import io
import multiprocessing
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
import yaml
from numpy.typing import NDArray
from PIL import Image

from camera.simulation.degradations import KINDS, degrade
from camera.simulation.part import LABELS, render_part

REPOSITORY = Path(__file__).parent.parent
SPLITS = REPOSITORY / "benchmarks" / "splits"
RECIPES = REPOSITORY / "agent" / "config" / "shipped"
SHARED_DATA = REPOSITORY.parent / "shared" / "data"
STEEL = {"neu": "neu-steel", "xsdd": "xsdd-steel"}
"""Our short name -> folder in the shared data; the recipe is called steel-<short name>."""

SIZE_PX = 128
MASK_PX = 64
TEST_SHARE = 0.20
VALIDATION_SHARE = 0.05
OK_SHARE = 0.3
In = TypeVar("In")
Out = TypeVar("Out")
MILD = {
    "dim": 1.3,
    "glare": 1.67,
    "dirt": 2.44,
    "defocus": 0.84,
    "motion": 0.98,
    "noise": 0.98,
    "fog": 1.3,
    "contrast": 1.14,
    "cast": 1.33,
}
"""Highest severity of each degradation that training sees.

It was 1.3 of every kind when the model was trained; the severities were calibrated against that model
afterwards, and these give the same strengths as then.
"""


@dataclass(frozen=True, slots=True, eq=False)
class Pictures:
    """Pictures of one data set.

    Attributes:
        images: ``(N, V, 128, 128, 3)`` uint8 RGB, V variants of the same photo or part.
        labels: ``(N,)`` index into the classes of the recipe.
        masks: ``(N, 64, 64)`` uint8, 255 where the defect is; None where nobody knows.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    masks: NDArray[np.uint8] | None = None

    def save(self, folder: Path, name: str) -> None:
        """Write one file per array; the labels come last and say that all are there."""
        np.save(folder / f"{name}-images.npy", self.images)
        if self.masks is not None:
            np.save(folder / f"{name}-masks.npy", self.masks)
        np.save(folder / f"{name}-labels.npy", self.labels)

    @staticmethod
    def saved(folder: Path, name: str) -> bool:
        """Say whether `load` will find everything."""
        return (folder / f"{name}-labels.npy").exists()

    @classmethod
    def load(cls, folder: Path, name: str) -> Pictures:
        """Map what `save` wrote; processes share the memory."""
        masks = folder / f"{name}-masks.npy"
        return cls(
            np.load(folder / f"{name}-images.npy", mmap_mode="r"),
            np.load(folder / f"{name}-labels.npy"),
            np.load(masks) if masks.exists() else None,
        )


@dataclass(frozen=True, slots=True)
class Recipe:
    """The words of one recipe file: labels, and for each of them the phrases; templates for all."""

    labels: tuple[str, ...]
    phrases: tuple[tuple[str, ...], ...]
    templates: tuple[str, ...]
    fails: tuple[bool, ...]


def read_recipe(name: str) -> Recipe:
    """Read what training needs of `agent/config/shipped/<name>.yaml`."""
    raw = yaml.safe_load((RECIPES / f"{name}.yaml").read_text(encoding="utf-8"))
    return Recipe(
        labels=tuple(raw["classes"]),
        phrases=tuple(tuple(c["phrases"]) for c in raw["classes"].values()),
        templates=tuple(raw["templates"]),
        fails=tuple(c["verdict"] == "fail" for c in raw["classes"].values()),
    )


def split_files(folder: Path) -> list[tuple[str, str, str]]:
    """Return ``(file, class, split)`` of an ImageFolder: train, validation or test, the same for ever.

    Within each class the files are ordered by a hash of their name; the first fifth is the test set.
    """
    rows = []
    for class_folder in sorted(p for p in folder.iterdir() if p.is_dir()):
        files = sorted(class_folder.iterdir(), key=lambda f: _name_hash(folder, f))
        tests = round(TEST_SHARE * len(files))
        validations = round(VALIDATION_SHARE * len(files))
        for i, file in enumerate(files):
            split = "test" if i < tests else "validation" if i < tests + validations else "train"
            rows.append((f"{class_folder.name}/{file.name}", class_folder.name, split))
    return sorted(rows)


def read_split(short: str) -> list[tuple[str, str, str]]:
    """Return ``(file, class, split)`` as `splits/<short>.csv` has it; running this module writes it."""
    with (SPLITS / f"{short}.csv").open(newline="", encoding="utf-8") as file:
        return [(row["file"], row["class"], row["split"]) for row in csv.DictReader(file)]


def steel_pictures(short: str, split: str, variants: int, processes: int = 1) -> Pictures:
    """Read one split of a steel data set; with several variants all but the first are mildly degraded or not.

    Every variant went through JPEG at its own quality, 70 to 95.
    """
    labels = read_recipe(f"steel-{short}").labels
    rows = [row for row in read_split(short) if row[2] == split]
    folder = SHARED_DATA / STEEL[short]
    images = _map(partial(_steel_variants, variants=variants), [folder / row[0] for row in rows], processes)
    return Pictures(np.stack(images), np.array([labels.index(row[1]) for row in rows]))


def line_pictures(count: int, seed: int, mild: bool, processes: int = 1) -> Pictures:
    """Render parts, 30 % of them ok, the rest evenly defective; if `mild`, half of them mildly degraded."""
    parts = _map(partial(_line_part, seed=seed, mild=mild), range(count), processes)
    images, labels, masks = zip(*parts, strict=True)
    return Pictures(np.stack(images)[:, None], np.array(labels), np.stack(masks))


def shrink(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Resize to the model's input exactly as open_clip's transform does with `squash` and `bicubic`."""
    return np.asarray(Image.fromarray(image).resize((SIZE_PX, SIZE_PX), Image.Resampling.BICUBIC))


def encode_again(image: NDArray[np.uint8], quality: int) -> NDArray[np.uint8]:
    """Return the picture after one way through JPEG."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer).convert("RGB"))


def _name_hash(folder: Path, file: Path) -> str:
    return hashlib.sha256(f"{folder.name}/{file.parent.name}/{file.name}".encode()).hexdigest()


def _map(function: Callable[[In], Out], items: Sequence[In], processes: int) -> list[Out]:
    if processes == 1:
        return [function(item) for item in items]
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        return pool.map(function, items, chunksize=64)


def _steel_variants(path: Path, variants: int) -> NDArray[np.uint8]:
    rng = np.random.default_rng(int(hashlib.sha256(path.name.encode()).hexdigest()[:12], 16))
    original = np.asarray(Image.open(path).convert("RGB"))
    pictures = []
    for i in range(variants):
        picture = encode_again(original, int(rng.integers(70, 96)))
        if i > 0 and rng.random() < 0.5:
            picture = _mildly_degraded(picture, rng)
        pictures.append(shrink(picture))
    return np.stack(pictures)


def _line_part(number: int, seed: int, mild: bool) -> tuple[NDArray[np.uint8], int, NDArray[np.uint8]]:
    rng = np.random.default_rng((seed, number))
    label = 0 if rng.random() < OK_SHARE else int(rng.integers(1, len(LABELS)))
    picture, mask = render_part(LABELS[label], rng)
    if mild and rng.random() < 0.5:
        picture = _mildly_degraded(picture, rng)
    coverage = Image.fromarray(mask.astype(np.uint8) * 255).resize((MASK_PX, MASK_PX), Image.Resampling.BOX)
    return shrink(picture), label, np.asarray(coverage)


def _mildly_degraded(picture: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    kind = KINDS[int(rng.integers(len(KINDS)))]
    return degrade(picture, kind, float(rng.uniform(0, MILD[kind])), int(rng.integers(1 << 20)))


def _write_splits() -> None:
    for short, folder in STEEL.items():
        with (SPLITS / f"{short}.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(("file", "class", "split"))
            writer.writerows(split_files(SHARED_DATA / folder))


if __name__ == "__main__":
    _write_splits()
