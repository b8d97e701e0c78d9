"""CIFAR-10's photos from the zip files of `../shared/data`, with the class that each folder names."""

from __future__ import annotations

import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.photo_model import CLASSES

FOLDER = Path(__file__).parents[2] / "shared" / "data" / "cifar10"


@dataclass(frozen=True, slots=True, eq=False)
class Photos:
    """Labelled photos.

    Attributes:
        images: ``(N, 32, 32, 3)`` uint8, RGB.
        labels: ``(N,)`` index into `CLASSES`.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]


def read_photos(split: str) -> Photos:
    """Read ``train`` (50 000) or ``test-dev`` (5 000), in an order that mixes the classes and never changes."""
    images, labels = [], []
    if not (FOLDER / f"{split}.zip").is_file():
        sys.exit(f"{FOLDER / split}.zip: not there; put CIFAR-10's photos as <class>/<number>.jpg into it")
    with zipfile.ZipFile(FOLDER / f"{split}.zip") as file:
        for name in sorted(file.namelist()):
            label, _, photo = name.partition("/")
            if not photo.endswith(".jpg"):
                continue
            bgr = cv2.imdecode(np.frombuffer(file.read(name), np.uint8), cv2.IMREAD_COLOR)
            images.append(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB))
            labels.append(CLASSES.index(label))
    order = np.random.default_rng(0).permutation(len(images))
    return Photos(np.stack(images)[order], np.asarray(labels)[order])
