"""A folder of pictures with one sub-folder per class: which files there are, which class is the good one."""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agent.base.errors import UsageError
from agent.config.diagnostics import did_you_mean
from camera.core.frame import CameraError
from camera.pictures.images import SUFFIXES
from camera.sources.folder import picture_files

GOOD: Final = "good"
_LIKE_GOOD: Final = frozenset(
    {"ok", "normal", "nominal", "no_defect", "nodefect", "defect_free", "functional", "flawless", "perfect"}
)


@dataclass(frozen=True, slots=True)
class PictureSet:
    """Picture files by class.

    Attributes:
        files: class -> its files, sorted, each content once; no class is empty.
        notes: what was left out, a sentence each.
    """

    files: Mapping[str, tuple[Path, ...]]
    notes: tuple[str, ...]

    @property
    def count(self) -> int:
        """Return how many files there are."""
        return sum(map(len, self.files.values()))


def scan(folder: Path) -> PictureSet:
    """Return the pictures below a folder; each sub-folder of it is a class, with all that is below it.

    Links to folders are followed at the top alone, so that none leads in a circle.

    Raises:
        UsageError: no such folder, fewer than two classes with pictures, or a file in two classes.
    """
    if not folder.is_dir():
        raise UsageError(f"{folder}: no such folder: it should hold one folder of pictures per class")
    files, notes = dict[str, tuple[Path, ...]](), list[str]()
    for place in sorted(folder.iterdir()):
        if place.name.startswith(".") or not place.is_dir():
            continue
        if place.is_symlink() and place.resolve() in (folder.resolve(), *folder.resolve().parents):
            notes.append(f"{place}: left out: it leads back to a folder around it")
            continue
        try:
            files[place.name] = picture_files(place)
        except CameraError:
            notes.append(f"{place}: left out: no picture in it")
        if other := _others(place):
            notes.append(f"{place}: {other} files are no pictures by their names")
    if len(files) < 2:
        there = f"only {next(iter(files))}" if files else "none"
        raise UsageError(
            f"{folder}: two classes with pictures are needed, a good one and a defect; there is {there}"
        )
    distinct, twice = _distinct(files)
    if twice:
        notes.append(f"{twice} files are copies of others of their class: they count once")
    return PictureSet(distinct, tuple(notes))


def good_class(pictures: PictureSet, asked: str | None, folder: Path) -> str:
    """Return the class of good parts.

    Args:
        pictures: by class.
        asked: name that a person gave; None: `good`, or the only one whose name means it.
        folder: of the pictures, for messages.

    Raises:
        UsageError: there is no such class, or nobody can tell which it is.
    """
    names = list(pictures.files)
    if asked is not None:
        if asked not in names:
            raise UsageError(f"{folder}: no class {asked} with pictures: {did_you_mean(asked, names)}")
        return asked
    if GOOD in names:
        return GOOD
    alike = [name for name in names if name.lower().replace("-", "_").replace(" ", "_") in _LIKE_GOOD]
    if len(alike) == 1:
        return alike[0]
    raise UsageError(f"{folder}: which class is good? Name it with --good, one of {', '.join(names)}")


def _others(folder: Path) -> int:
    """Return how many files are not looked at because of their names."""
    found = 0
    for at, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += sum(Path(at, name).suffix.lower() not in SUFFIXES for name in names if name[0] != ".")
    return found


def _distinct(files: Mapping[str, tuple[Path, ...]]) -> tuple[dict[str, tuple[Path, ...]], int]:
    """Return each content once, and how many were there before; raise UsageError where it has two classes."""
    by_size = defaultdict[int, list[tuple[str, Path]]](list)
    for label, paths in files.items():
        for path in paths:
            by_size[_size(path)].append((label, path))
    left_out = set[Path]()
    for size, alike in by_size.items():
        if size > 0 and len(alike) > 1:
            left_out |= set(_copies(alike))
    return (
        {label: tuple(path for path in paths if path not in left_out) for label, paths in files.items()},
        len(left_out),
    )


def _copies(alike: list[tuple[str, Path]]) -> Iterator[Path]:
    """Yield files whose content another file of their class has."""
    first: dict[bytes, tuple[str, Path]] = {}
    for label, path in alike:
        content = _hash(path)
        if content is None:  # who reads the picture says so
            continue
        known = first.setdefault(content, (label, path))
        if known[1] == path:
            continue
        if known[0] != label:
            raise contradiction(known[1], known[0], path, label)
        yield path


def contradiction(one: Path, label: str, other: Path, other_label: str) -> UsageError:
    """Return what to say of a picture in the folders of two classes."""
    return UsageError(
        f"{one}, {other}: the same picture is both {label} and {other_label}: remove the wrong one"
    )


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return -1


def _hash(path: Path) -> bytes | None:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").digest()
    except OSError:
        return None
