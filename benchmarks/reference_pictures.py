"""Sets of real pictures, good and defective, that reference inspection is measured on, and their features.

Photos of `../shared/data`; solar cells of the package elpv-dataset (Buerhop-Lutz et al., PVSC 2018; Deitsch et
al., Solar Energy 185, 2019; CC BY-NC-SA 4.0) and simulated textiles of conformal-clip-data, both installed
from `benchmarks/peers.txt` and given by ``--peers``. Files are taken in the order of their names.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from adapters.core.patches import PatchExtractor
from adapters.core.protocol import Floats, Preprocess
from camera.pictures.images import read_image
from camera.pictures.preprocess import InputSpec, prepare

PICTURES = {".jpg", ".jpeg", ".png"}
CHOSEN_ON = ("hazelnut", "ball-screw", "textile-local", "textile-global", "solar-mono")
"""Sets that the method was chosen by."""
SEEN = ("solar-poly",)
"""Shown in the same tables while the method was chosen; no choice was made for it."""
CHECKED_ON = ("neu", "x-sdd")
"""Not seen before the method was fixed: one kind of steel surface as good, all others as defects."""


@dataclass(frozen=True, slots=True)
class PictureSet:
    """Files of one set: good ones and defects."""

    good: tuple[Path, ...]
    bad: tuple[Path, ...]


def picture_set(name: str, data: Path, peers: Path) -> PictureSet:
    """Return a set by its name.

    Raises:
        FileNotFoundError: a folder of it has no pictures.
    """
    if name.startswith("solar"):
        return _solar(peers / "elpv_dataset" / "data", name.removeprefix("solar-"))
    textile = peers / "conformal_clip_data" / "data" / "textile_images" / "simulated"
    if name.startswith("textile"):
        bad = textile / name.removeprefix("textile-")
        return PictureSet(_files([textile / "nominal"], 300), _files([bad], 150))
    if name in CHECKED_ON:
        folder = data / {"neu": "neu-steel", "x-sdd": "xsdd-steel"}[name]
        first, *others = _classes(folder)
        return PictureSet(_files([first], 120), _files(others, 20))
    folder = data / {"hazelnut": "hazelnut-toy", "ball-screw": "bsdata-ballscrew"}[name]
    good = {"hazelnut": "good", "ball-screw": "no"}[name]
    kinds = _classes(folder)
    return PictureSet(
        _files([kind for kind in kinds if kind.name.lower().startswith(good)]),
        _files([kind for kind in kinds if not kind.name.lower().startswith(good)]),
    )


def pixels(path: Path, how: Preprocess) -> Floats:
    """Return ``(3, S, S)`` float32 of a picture as an inspection prepares it."""
    return prepare(read_image(path), InputSpec(**asdict(how)))


def features(paths: tuple[Path, ...], backbone: PatchExtractor) -> NDArray[np.float16]:
    """Return ``(N, 1, h, w, D)`` features; halves, for hundreds of pictures to fit."""
    how = backbone.info.preprocess
    return np.stack([backbone.patches(pixels(path, how)[None]).astype(np.float16) for path in paths])


def _classes(folder: Path) -> list[Path]:
    found = {path.parent for path in folder.rglob("*") if path.suffix.lower() in PICTURES}
    return sorted(found)


def _files(folders: list[Path], most: int | None = None) -> tuple[Path, ...]:
    found = []
    for folder in folders:
        inside = sorted(path for path in folder.iterdir() if path.suffix.lower() in PICTURES)
        found += inside[:most]
    if not found:
        raise FileNotFoundError(f"no pictures in {folders}: see the README of ../shared/data, or --peers")
    return tuple(found)


def _solar(folder: Path, cell: str) -> PictureSet:
    rows = [line.split() for line in (folder / "labels.csv").read_text(encoding="utf-8").splitlines()]
    good, bad = (
        tuple(folder / name for name, share, kind in rows if kind == cell and float(share) == wanted)
        for wanted in (0.0, 1.0)
    )
    return PictureSet(good[:200], bad[:150])
