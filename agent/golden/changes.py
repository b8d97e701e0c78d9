"""Changes of a golden set: each one is a new version, or nothing at all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from agent.base.codec import timestamp
from agent.base.errors import UsageError
from agent.config.diagnostics import did_you_mean
from agent.config.models import Station
from agent.golden.index import GoldenIndex, GoldenSample
from agent.golden.pictures import GoldenPicture, GoldenReader, NamedFile, RefusedPicture, as_png
from agent.golden.store import GoldenChange, GoldenStore
from camera.core.kept_region import KeptRegion

_NAMED = 5
_SHORT = 8


@dataclass(frozen=True, slots=True)
class Added:
    """What came of adding pictures.

    Attributes:
        index: as it is now.
        new: ids that were not in the set.
        there: files whose picture was in the set already, or was given twice.
        refused: one line each about files that were left out.
    """

    index: GoldenIndex
    new: tuple[str, ...]
    there: tuple[str, ...]
    refused: tuple[str, ...]


def add(
    store: GoldenStore,
    station: Station,
    files: Sequence[NamedFile],
    change: GoldenChange,
    *,
    by: str,
    skip: bool = False,
    note: Callable[[str], None] = lambda _: None,
    progress: Callable[[int], None] = lambda _: None,
) -> Added:
    """Add pictures to a set. One is in memory at a time.

    Args:
        store: of the set.
        station: its config: the region that pictures are cut to.
        files: with their classes.
        change: who and why.
        by: who named the pictures.
        skip: leave out files that cannot be used; otherwise one of them keeps all from being added.
        note: told what is odd about a file that is taken all the same.
        progress: told how many files were read.

    Raises:
        UsageError: a file cannot be used, or a picture has two classes; nothing was added.
        StoreError: the set cannot be read or written.
    """
    refused, there = list[str](), list[str]()
    new: dict[str, GoldenSample] = {}
    first: dict[str, NamedFile] = {}
    reader = GoldenReader(station, note)
    with store.writing() as index:
        before = index.classes()
        now = dict(before)
        try:
            for count, one in enumerate(files, 1):
                progress(count)
                try:
                    picture = reader.read(one)
                except RefusedPicture as error:
                    refused.append(str(error))
                    continue
                id_ = picture.id
                if (label := now.get(id_)) is not None:
                    other = first[id_].file if id_ in first else f"sample {id_[:_SHORT]}"
                    if label != one.label:
                        raise UsageError(
                            f"{one.file}, {other}: the same picture is both {one.label} and {label}:"
                            " remove the wrong one"
                        )
                    there.append(str(one.file))
                else:
                    now[id_], first[id_] = one.label, one
                if id_ in new or (id_ in index.samples and store.holds(id_)):
                    continue
                region = KeptRegion.of(store.station, station.roi)
                store.keep(id_, as_png(picture.image, region))
                if id_ in index.samples:
                    note(f"{one.file}: kept again: the sample's picture was missing or damaged")
                else:
                    new[id_] = _sample(picture, region, by)
            if refused and not skip:
                raise UsageError(
                    f"{_listed(refused)}; nothing was added: take them out, or leave them out with --skip"
                )
            if first:
                index = store.commit(index, now, change, new)
        finally:
            store.tidy(index)
    return Added(index, tuple(first), tuple(there), tuple(refused))


def remove(store: GoldenStore, named: Sequence[str], change: GoldenChange) -> tuple[GoldenIndex, list[str]]:
    """Take samples out of a set; older versions keep them. Return the index and the ids.

    Args:
        store: of the set.
        named: ids or the beginnings of ids, classes with a slash behind them, or names of files, with their
            class before them or without.
        change: who and why.

    Raises:
        UsageError: something names no sample, or an id's beginning several; nothing was removed.
        StoreError: the set cannot be read or written.
    """
    with store.writing() as index:
        now = index.classes()
        gone = sorted({id_ for name in named for id_ in chosen(index, name)})
        for id_ in gone:
            now.pop(id_)
        return store.commit(index, now, change), gone


def restore(store: GoldenStore, number: int, change: GoldenChange) -> GoldenIndex:
    """Make an older version the one that counts, as a new version.

    Raises:
        UsageError: there is no such version, or it is what counts already.
        StoreError: the set cannot be read or written, or a picture of that version is gone.
    """
    with store.writing() as index:
        then = index.classes(number)
        if then == index.classes():
            raise UsageError(f"version {number} is what counts already: nothing to go back to")
        for _ in store.pictures(list(then)):  # all of them can be used
            pass
        return store.commit(index, then, change)


def chosen(index: GoldenIndex, name: str) -> list[str]:
    """Return the ids of the samples in force that a name means.

    Raises:
        UsageError: none, or the beginning of several ids.
    """
    classes = index.classes()
    if name.endswith("/"):
        found = [id_ for id_, label in classes.items() if label == name[:-1]]
    elif found := [id_ for id_, label in classes.items() if name in _names(index.samples[id_], label)]:
        return found
    else:
        found = [id_ for id_ in classes if len(name) >= 4 and id_.startswith(name)]
        if len(found) > 1:
            raise UsageError(f"{name}: {len(found)} samples begin so: give more letters")
    if not found:
        names = [f"{label}/" for label in sorted(set(classes.values()))]
        raise UsageError(
            f"{name}: no golden sample has this id, file name or class; see mekiki golden list:"
            f" {did_you_mean(name, names)}"
        )
    return found


def _names(sample: GoldenSample, label: str) -> tuple[str, str]:
    """Return what people call a sample: its file, and how `mekiki golden check` has it."""
    return sample.file, f"{label}/{sample.file}"


def _sample(picture: GoldenPicture, region: KeptRegion, by: str) -> GoldenSample:
    height, width = picture.image.shape[:2]
    return GoldenSample(
        file=picture.source.file.name,
        added_at=timestamp(datetime.now(UTC)),
        added_by=by,
        width=width,
        height=height,
        station=region.station,
        crop=region.crop,
        roi=region.roi,
    )


def _listed(lines: Sequence[str]) -> str:
    more = f"; and {len(lines) - _NAMED} more" if len(lines) > _NAMED else ""
    return "; ".join(lines[:_NAMED]) + more
