"""Real pictures of good and bad parts, for what compares parts with golden samples.

Hazelnut and ball screw lie in ``../shared/data``; solar cells and textile come with the packages `elpv-dataset`
and `conformal-clip-data` (`benchmarks/peers.txt`), which are found where Python finds packages or in a folder.
"""

from __future__ import annotations

import csv
import random
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from benchmarks.line_data import SHARED_DATA

MOST_GOOD, MOST_BAD = 300, 150
_SUFFIXES = {".jpg", ".jpeg", ".png"}


@dataclass(frozen=True, slots=True)
class ReferenceSet:
    """Files of one product."""

    name: str
    good: tuple[Path, ...]
    bad: tuple[Path, ...]

    def draw(self, samples: int, seed: int, most: int) -> tuple[list[Path], list[Path], list[Path]]:
        """Return golden samples, the good parts that are judged, and the bad ones; at most so many of these."""
        good, bad = list(self.good), list(self.bad)
        chance = random.Random(seed)
        chance.shuffle(good)
        chance.shuffle(bad)
        return good[:samples], good[samples : samples + most], bad[:most]


def reference_sets(packages: Path | None = None) -> list[ReferenceSet]:
    """Return the sets that are here, and say on stderr which are not.

    Args:
        packages: a folder with the packages, where they are not installed.
    """
    found = [*_shared(), *_solar(packages), *_textile(packages)]
    for name in ("hazelnut", "ball screw", "solar mono", "textile local", "textile global"):
        if not any(one.name == name for one in found):
            print(f"{name}: not here, left out", file=sys.stderr)
    return found


def _shared() -> Iterator[ReferenceSet]:
    for name, folder, good, bad in (
        ("hazelnut", "hazelnut-toy", "good", "col*"),
        ("ball screw", "bsdata-ballscrew", "no*", "pit*"),
    ):
        yield from _set(name, _pictures(SHARED_DATA / folder, good), _pictures(SHARED_DATA / folder, bad))


def _solar(packages: Path | None) -> Iterator[ReferenceSet]:
    folder = _package("elpv_dataset", packages)
    for listed in sorted(folder.rglob("labels.csv")) if folder else []:
        with listed.open(encoding="utf-8") as file:
            rows = [row for row in csv.reader(file, delimiter=" ", skipinitialspace=True) if row]
        mono = [(listed.parent / row[0], float(row[1])) for row in rows if row[2] == "mono"]
        good, bad = ([file for file, share in mono if share == sure] for sure in (0.0, 1.0))
        yield from _set("solar mono", good, bad)


def _textile(packages: Path | None) -> Iterator[ReferenceSet]:
    package = _package("conformal_clip_data", packages)
    if package is not None:
        folder = package / "data" / "textile_images" / "simulated"
        for kind in ("local", "global"):
            yield from _set(f"textile {kind}", _pictures(folder, "nominal"), _pictures(folder, kind))


def _set(name: str, good: list[Path], bad: list[Path]) -> Iterator[ReferenceSet]:
    if good and bad:
        yield ReferenceSet(name, tuple(good[:MOST_GOOD]), tuple(bad[:MOST_BAD]))


def _pictures(folder: Path, kind: str) -> list[Path]:
    return sorted(file for file in folder.glob(f"{kind}/*") if file.suffix.lower() in _SUFFIXES)


def _package(name: str, packages: Path | None) -> Path | None:
    if packages is not None and (packages / name).is_dir():
        return packages / name
    spec = find_spec(name)
    return None if spec is None or spec.origin is None else Path(spec.origin).parent
