"""The folder of a golden set: pictures as PNG, and an index that is whole whenever the power goes."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from adapters.files.atomic_file import write_durably
from adapters.files.folder_lock import locked
from adapters.files.strict_json import loads
from agent import __version__
from agent.audit.hash_chain import Audit
from agent.base.codec import timestamp
from agent.base.errors import StoreError, UsageError
from agent.golden.index import GoldenIndex, GoldenSample, GoldenVersion
from agent.golden.pictures import read_stored
from camera.core.frame import Image

FILE: Final = "golden.json"
TRAIL: Final = "audit.jsonl"
PICTURES: Final = "pictures"


@dataclass(frozen=True, slots=True)
class GoldenChange:
    """Who changes a set, and why.

    Attributes:
        actor: user name.
        what: ``add``, ``remove``, ``restore`` or ``import``.
        why: what the person says to it.
    """

    actor: str
    what: str
    why: str = ""


class GoldenStore:
    """One golden set on disk.

    Whoever writes holds the folder's lock, so that two commands take turns; an agent never writes here.
    Pictures are on the disk before the index names them, and the index is the old one or the new one; so a
    set is as it was or as it was to be, whenever the power goes or the disk is full. The trail's line follows
    the index; what is missing of it is written by the next change.

    Args:
        folder: ``<product folder>/golden``.
        station: whose it is, for the trail.
    """

    def __init__(self, folder: Path, station: str) -> None:
        self.folder, self.station = folder, station

    @property
    def trail(self) -> Path:
        """Return where the trail lies: who changed the set, when and why."""
        return self.folder / TRAIL

    def index(self) -> GoldenIndex:
        """Return what is known of the set; an empty one where there is none.

        Raises:
            StoreError: it cannot be read.
        """
        file = self.folder / FILE
        try:
            return GoldenIndex.read(file.read_bytes(), str(file))
        except (FileNotFoundError, NotADirectoryError):
            return GoldenIndex()
        except OSError as error:
            raise StoreError(f"{file}: cannot be read: {error.strerror or error}") from error

    def place(self, id_: str) -> Path:
        """Return where the picture of a sample lies."""
        return self.folder / PICTURES / f"{id_}.png"

    def picture(self, id_: str) -> Image:
        """Return the ``(H, W, 3)`` uint8 RGB picture of a sample.

        Raises:
            StoreError: it is missing, or is not the one that was added.
        """
        return read_stored(self.place(id_), id_)

    def holds(self, id_: str) -> bool:
        """Return whether the picture of a sample is there, and is the one that was added."""
        try:
            self.picture(id_)
        except StoreError:
            return False
        return True

    def pictures(self, ids: Sequence[str]) -> Iterator[Image]:
        """Yield the pictures of samples, one at a time. Raises as `picture`."""
        return map(self.picture, ids)

    @contextmanager
    def writing(self) -> Iterator[GoldenIndex]:
        """Hold the folder, and yield the index as it is; what a killed command has left is tidied first.

        Raises:
            StoreError: another command is at work, or the disk does not take it.
        """
        try:
            (self.folder / PICTURES).mkdir(parents=True, exist_ok=True)
            with locked(self.folder):
                index = self.index()
                self._record(index)
                yield index
        except TimeoutError as error:
            raise StoreError(str(error)) from error
        except OSError as error:
            raise self._unwritten(error) from error

    def keep(self, id_: str, png: bytes) -> None:
        """Put a picture where the index will name it; inside `writing`."""
        write_durably(self.place(id_), png)

    def commit(
        self,
        index: GoldenIndex,
        now: Mapping[str, str],
        change: GoldenChange,
        new: Mapping[str, GoldenSample] | None = None,
    ) -> GoldenIndex:
        """Make `now` the set that counts, and return the index; inside `writing`.

        Args:
            index: as `writing` gave it.
            now: id -> class of the whole set.
            change: who and why.
            new: samples that were not known before; their pictures are kept already.
        """
        changed = index.changed(
            now,
            new or {},
            at=timestamp(datetime.now(UTC)),
            actor=change.actor,
            what=change.what,
            why=change.why,
            release=__version__,
        )
        self._write(changed)
        self._record(changed)
        return changed

    def purge(self, index: GoldenIndex, keep: int) -> GoldenIndex:
        """Forget all but the last `keep` versions, and pictures that none of them has; inside `writing`."""
        kept = index.purged(keep)
        if kept != index:
            self._write(kept)
        return kept

    def tidy(self, index: GoldenIndex) -> int:
        """Remove pictures that no version has, of commands that did not end; return how many."""
        there = list((self.folder / PICTURES).glob("*.png"))
        gone = [path for path in there if path.stem not in index.samples]
        for path in gone:
            path.unlink(missing_ok=True)
        return len(gone)

    def _write(self, index: GoldenIndex) -> None:
        content = json.dumps(index.facts(), ensure_ascii=False, allow_nan=False, indent=1)
        write_durably(self.folder / FILE, content.encode())

    def _record(self, index: GoldenIndex) -> None:
        """Write the lines of the trail that are missing: the index counts, the trail tells of it."""
        if not index.versions:
            return
        audit = Audit(self.station, self.trail)
        missing = list(_after(index, self._told(audit)))
        for version in missing:
            before = None if version.number == 1 else {"version": version.number - 1}
            audit.append(
                version.at,
                f"golden_{version.what}",
                actor=version.actor,
                why=version.why or f"{len(version.added)} added, {len(version.removed)} removed",
                before=before,
                after={"version": version.number, "digest": version.digest},
                numbers={"added": len(version.added), "removed": len(version.removed)},
            )

    def _told(self, audit: Audit) -> int:
        """Return the number of the last version that the trail tells of."""
        if not audit.n:
            return 0
        told = 0
        for line in self.trail.read_text("utf-8", "replace").splitlines():
            try:
                after = loads(line)["after"]
                told = max(told, int(after["version"]))
            except (ValueError, TypeError, KeyError):  # `mekiki audit verify` shows it
                continue
        return told

    def _unwritten(self, error: OSError) -> StoreError:
        return StoreError(
            f"{self.folder}: cannot be written: {error.strerror or error}: look whether the disk has room;"
            " the golden samples are as they were"
        )


def require_some(index: GoldenIndex, remedy: str) -> None:
    """Raise UsageError where a set is empty."""
    if not index.classes():
        raise UsageError(f"there are no golden samples: {remedy}")


def _after(index: GoldenIndex, number: int) -> Iterator[GoldenVersion]:
    return (version for version in index.versions if version.number > number)
