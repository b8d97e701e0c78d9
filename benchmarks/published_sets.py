"""CIFAR-10-C, CIFAR-100-C and ImageNet-C: how they lie on the disk, and what BATCLIP's authors do with each.

Pictures after Hendrycks and Dietterich, "Benchmarking Neural Network Robustness to Common Corruptions and
Perturbations", ICLR 2019, https://arxiv.org/abs/1903.12261, as published. Protocol and means after Maharana, Zhang,
Karlinsky, Feris and Guo, ICCV 2025, https://arxiv.org/abs/2412.02837, and the ``cfgs`` of their code.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import open_clip
from numpy.typing import NDArray
from timm.data.imagenet_info import ImageNetInfo

from adapters.core.prompts import Prompts
from adapters.learner.optimizer import Optimizer
from adapters.methods.batclip import Batclip
from adapters.methods.method import Method
from benchmarks.photo_model import CLASSES as CIFAR10
from benchmarks.photo_model import TEMPLATES
from benchmarks.rivals.frozen import Frozen
from benchmarks.rivals.sar import Sar
from benchmarks.rivals.tent import Tent
from camera.core.frame import Image
from camera.pictures.images import read_image

CIFAR100 = (
    "apple", "aquarium fish", "baby", "bear", "beaver", "bed", "bee", "beetle", "bicycle", "bottle", "bowl", "boy",
    "bridge", "bus", "butterfly", "camel", "can", "castle", "caterpillar", "cattle", "chair", "chimpanzee", "clock",
    "cloud", "cockroach", "couch", "crab", "crocodile", "cup", "dinosaur", "dolphin", "elephant", "flatfish", "forest",
    "fox", "girl", "hamster", "house", "kangaroo", "keyboard", "lamp", "lawn mower", "leopard", "lion", "lizard",
    "lobster", "man", "maple tree", "motorcycle", "mountain", "mouse", "mushroom", "oak tree", "orange", "orchid",
    "otter", "palm tree", "pear", "pickup truck", "pine tree", "plain", "plate", "poppy", "porcupine", "possum",
    "rabbit", "raccoon", "ray", "road", "rocket", "rose", "sea", "seal", "shark", "shrew", "skunk", "skyscraper",
    "snail", "snake", "spider", "squirrel", "streetcar", "sunflower", "sweet pepper", "table", "tank", "telephone",
    "television", "tiger", "tractor", "train", "trout", "tulip", "turtle", "wardrobe", "whale", "willow tree", "wolf",
    "woman", "worm",
)  # fmt: skip
"""As the authors prompt them: the published names, blanks for underscores."""


class DataError(Exception):
    """A folder is not laid out as the set is published."""


@dataclass(frozen=True, slots=True)
class Published:
    """What the authors do with a set, and what they got.

    Attributes:
        classes: label and phrase of each class, in the order of the set's numbers.
        batch: pictures per step.
        batclip: BATCLIP's optimiser.
        tent: TENT's optimiser.
        means: accuracy in percent by method, mean over the 15 kinds at severity 5, ViT-B/16 of openai.
    """

    classes: tuple[tuple[str, str], ...]
    batch: int
    batclip: Optimizer
    tent: Optimizer
    means: Mapping[str, float]

    @property
    def prompts(self) -> Prompts:
        """One text per class."""
        return Prompts(tuple((label, (phrase,)) for label, phrase in self.classes), TEMPLATES)

    @property
    def methods(self) -> dict[str, Method[Any]]:
        """By the name that a table gives them, each with the authors' settings for this set."""
        return {
            "frozen": Frozen(),
            "TENT": Tent(self.tent),
            # They recover below 0.2 for any number of classes, and their column is from that.
            "SAR": Sar(collapsed=0.2 / math.log(len(self.classes))),
            "BATCLIP": Batclip(optimizer=self.batclip),
        }


def _synsets() -> list[str]:
    """Return ImageNet-1k's synsets in the order of its classes, which is also that of the alphabet."""
    info = ImageNetInfo()
    return [info.index_to_label_name(number) for number in range(len(open_clip.IMAGENET_CLASSNAMES))]


SETS: Mapping[str, Published] = {
    "cifar10-c": Published(
        tuple((name, name) for name in CIFAR10),
        batch=200,
        batclip=Optimizer("AdamW", 1e-3, weight_decay=0.01),
        tent=Optimizer("Adam", 1e-3),
        means={"frozen": 61.16, "TENT": 62.03, "SAR": 67.37, "BATCLIP": 73.85},
    ),
    "cifar100-c": Published(
        tuple((name, name) for name in CIFAR100),
        batch=200,
        batclip=Optimizer("Adam", 5e-4, weight_decay=0.01),
        tent=Optimizer("Adam", 1e-3),
        means={"frozen": 35.79, "TENT": 37.96, "SAR": 41.19, "BATCLIP": 42.09},
    ),
    "imagenet-c": Published(
        # By synset: two names occur twice, "missile" and "sunglasses".
        tuple(zip(_synsets(), open_clip.IMAGENET_CLASSNAMES, strict=True)),
        batch=64,
        batclip=Optimizer("AdamW", 5e-4, weight_decay=0.01),
        tent=Optimizer("SGD", 2.5e-4),
        means={"frozen": 24.51, "TENT": 25.15, "SAR": 29.73, "BATCLIP": 30.72},
    ),
}


class Pictures(Protocol):
    """A set on the disk at one severity: the same pictures, in the same order, of every kind."""

    @property
    def labels(self) -> NDArray[np.int64]:
        """``(N,)`` class of each picture."""
        ...

    def read(self, kind: str, row: int) -> Image:
        """Return ``(H, W, 3)`` uint8 RGB; any thread may call."""
        ...


@dataclass(frozen=True, eq=False)
class Arrays:
    """CIFAR-10-C and CIFAR-100-C: an array per kind, five severities one after another, and their labels.

    Attributes:
        labels: see `Pictures`.
        images: by kind ``(N, 32, 32, 3)`` uint8, which stay on the disk.
    """

    labels: NDArray[np.int64]
    images: Mapping[str, NDArray[np.uint8]]

    @classmethod
    def open(cls, folder: Path, kinds: Sequence[str], severity: int, classes: int) -> Arrays:
        """Check every file that will be needed and read the labels.

        Raises:
            DataError: a file is missing or is not what is published under its name.
        """
        labels = _array(folder / "labels.npy")
        if labels.ndim != 1 or labels.dtype.kind not in "iu" or len(labels) % 5 or not len(labels):
            raise DataError(
                f"{folder / 'labels.npy'}: {labels.dtype} {labels.shape}, expected whole numbers (5 x N,)"
            )
        if labels.min() < 0 or labels.max() >= classes:
            raise DataError(
                f"{folder / 'labels.npy'}: classes {labels.min()} to {labels.max()}, expected 0 to {classes - 1}"
            )
        count = len(labels) // 5
        rows = slice((severity - 1) * count, severity * count)
        images = {}
        for kind in kinds:
            array = _array(folder / f"{kind}.npy")
            if array.dtype != np.uint8 or array.shape != (5 * count, 32, 32, 3):
                raise DataError(
                    f"{folder / kind}.npy: {array.dtype} {array.shape},"
                    f" expected uint8 {(5 * count, 32, 32, 3)} for as many labels"
                )
            images[kind] = array[rows]
        return cls(labels[rows].astype(np.int64), images)

    def read(self, kind: str, row: int) -> Image:
        """Return one picture."""
        return np.array(self.images[kind][row])


@dataclass(frozen=True, eq=False)
class Files:
    """ImageNet-C: ``<kind>/<severity>/<synset>/<name>.JPEG``.

    Attributes:
        labels: see `Pictures`.
        folder: of the kinds.
        severity: 1 to 5.
        names: ``<synset>/<name>.JPEG`` of each picture.
    """

    labels: NDArray[np.int64]
    folder: Path
    severity: int
    names: tuple[str, ...]

    @classmethod
    def open(cls, folder: Path, kinds: Sequence[str], severity: int, listed: Path | None) -> Files:
        """Look for every file that will be needed.

        Args:
            folder: of the kinds.
            kinds: to be read.
            severity: to be read.
            listed: names of the pictures to take, one a line; without it all of the first kind.

        Raises:
            DataError: a folder or picture is missing, or a class is not ImageNet-1k's.
        """
        found = {kind: _names(folder / kind / str(severity)) for kind in kinds}
        names = found[kinds[0]] if listed is None else _lines(listed)
        for kind in kinds:
            missing = set(names).difference(found[kind])
            if missing:
                raise DataError(f"{folder / kind / str(severity) / min(missing)}: no such picture")
        numbers = {label: number for number, (label, _) in enumerate(SETS["imagenet-c"].classes)}
        labels = [numbers.get(name.partition("/")[0], -1) for name in names]
        if -1 in labels:
            name = names[labels.index(-1)]
            raise DataError(
                f"{folder / kinds[0] / str(severity) / name}: its folder is no synset of ImageNet-1k"
            )
        return cls(np.asarray(labels, np.int64), folder, severity, tuple(names))

    def read(self, kind: str, row: int) -> Image:
        """Decode one picture.

        Raises:
            CameraError: the file is no picture.
        """
        return read_image(self.folder / kind / str(self.severity) / self.names[row])


def open_pictures(
    name: str, folder: Path, kinds: Sequence[str], severity: int, listed: Path | None = None
) -> Pictures:
    """Look for everything that will be read from a set.

    Args:
        name: one of `SETS`.
        folder: of the set.
        kinds: to be read.
        severity: 1 to 5.
        listed: of ImageNet-C, the names of the pictures to take, one a line.

    Raises:
        DataError: the folder is not laid out as the set is published.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; expected {name} as published, see paper_tables.md")
    if name == "imagenet-c":
        return Files.open(folder, kinds, severity, listed)
    return Arrays.open(folder, kinds, severity, len(SETS[name].classes))


def _array(file: Path) -> NDArray[Any]:
    """Map an array's file without reading it."""
    try:
        return np.lib.format.open_memmap(file, mode="r")
    except OSError as error:
        raise DataError(f"{file}: {error.strerror or error}") from error
    except ValueError as error:
        raise DataError(f"{file}: not an array as numpy saves it, or cut short") from error


def _names(folder: Path) -> list[str]:
    names = sorted(f"{file.parent.name}/{file.name}" for file in folder.glob("*/*.JPEG"))
    if not names:
        raise DataError(f"{folder}: no pictures; expected <synset>/<name>.JPEG there")
    return names


def _lines(file: Path) -> list[str]:
    try:
        names = file.read_text(encoding="utf-8").split()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file}: cannot be read as a list of pictures: {error}") from error
    if not names:
        raise DataError(f"{file}: empty; expected <synset>/<name>.JPEG, one a line")
    return names
