"""A golden set carried elsewhere: a folder with one sub-folder per class, and its index."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

from adapters.files.atomic_file import write_durably
from agent import __version__
from agent.base.errors import StoreError, UsageError
from agent.config.models import Station
from agent.golden.index import GoldenIndex
from agent.golden.pictures import read_stored, require_label
from agent.golden.reference_build import require_region
from agent.golden.store import FILE, GoldenChange, GoldenStore

_SHORT = 12
_LETTERS = 40


def export(store: GoldenStore, folder: Path) -> int:
    """Write the set that counts into a new or empty folder; return how many samples.

    The folder is one that `mekiki golden add`, `mekiki commission --golden` and `mekiki evaluate` take, too.

    Raises:
        UsageError: the folder is none, or holds something, or there are no samples.
        StoreError: the set cannot be read, or the disk does not take it.
    """
    index = store.index()
    classes = index.classes()
    if not classes:
        raise UsageError("there are no golden samples to export")
    try:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise UsageError(f"{folder}: give a new or empty folder")
        for id_, label in classes.items():
            place = folder / require_label(label) / _name(index, id_)
            place.parent.mkdir(parents=True, exist_ok=True)
            store.picture(id_)  # only what is whole is carried on
            place.write_bytes(store.place(id_).read_bytes())
        alone = index.purged(1).model_copy(update={"release": __version__})
        content = json.dumps(alone.facts(), ensure_ascii=False, allow_nan=False, indent=1)
        write_durably(folder / FILE, content.encode())
    except OSError as error:
        raise StoreError(f"{folder}: cannot be written: {error.strerror or error}") from error
    return len(classes)


def take_in(
    store: GoldenStore, station: Station, folder: Path, change: GoldenChange
) -> tuple[GoldenIndex, int]:
    """Add an exported set to a station's; return its index, and how many samples are new.

    Raises:
        UsageError: the folder was not exported, its pictures were cut by another region of interest, or a
            picture has another class here; nothing was added.
        StoreError: the set cannot be read or written, or a picture is damaged.
    """
    file = folder / FILE
    try:
        theirs = GoldenIndex.read(file.read_bytes(), str(file))
    except (FileNotFoundError, NotADirectoryError):
        raise UsageError(
            f"{folder}: holds no {FILE}, so it was not exported: add its pictures with mekiki golden add"
        ) from None
    except OSError as error:
        raise StoreError(f"{file}: cannot be read: {error.strerror or error}") from error
    classes = theirs.classes()
    if not classes:
        raise UsageError(f"{file}: a set without samples")
    require_region(theirs, list(classes), store.station, station)
    for label in set(classes.values()):
        require_label(label)
    with store.writing() as index:
        now = index.classes()
        _require_same(now, classes, theirs)
        try:
            for id_, label in classes.items():
                place = folder / label / _name(theirs, id_)
                read_stored(place, id_)
                if id_ not in index.samples or not store.holds(id_):
                    store.keep(id_, place.read_bytes())
            new = {id_: theirs.samples[id_] for id_ in classes if id_ not in index.samples}
            fresh = len(classes.keys() - now.keys())
            if fresh:
                index = store.commit(index, {**now, **classes}, change, new)
        finally:
            store.tidy(index)
    return index, fresh


def labels_of(folder: Path) -> Sequence[str]:
    """Return the classes of an exported set; raises as `take_in`."""
    file = folder / FILE
    try:
        return sorted(set(GoldenIndex.read(file.read_bytes(), str(file)).classes().values()))
    except OSError:
        return ()  # `take_in` says what is wrong


def _require_same(now: dict[str, str], classes: dict[str, str], theirs: GoldenIndex) -> None:
    for id_, label in classes.items():
        if now.get(id_, label) != label:
            raise UsageError(
                f"{theirs.samples[id_].file}: the same picture is both {label} and {now[id_]}: remove the"
                " wrong one"
            )


def _name(index: GoldenIndex, id_: str) -> str:
    """Return a file's name that a person knows again, and that no two samples share."""
    stem = re.sub(r"[^\w.-]", "_", Path(index.samples[id_].file).stem)[:_LETTERS]
    return f"{stem}-{id_[:_SHORT]}.png"
