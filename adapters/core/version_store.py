"""The adapter store: every promoted version of a station's adapter on disk, and which of them answers now."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from adapters.core.active_file import Active, Pointer, PointerDamaged
from adapters.core.adapter import Adapter, AdapterError, AdapterFileError, NotFinite
from adapters.core.version import SOURCE, Version, read_version, save_version, strict
from adapters.files.folder_lock import locked

ACTIVE = "active.json"
_FILE = re.compile(r"(\d{6,})\.safetensors")
_HALF = re.compile(r"\.(\d{6,}\.safetensors|active\.json)\..+")


class UnknownVersion(AdapterError):
    """The store has no version of this number."""


class OtherRecipe(AdapterError):
    """A version was made for another recipe than the station's."""


class AdapterStore:
    """Owns a station's adapters folder and what is active; one thread uses it, the learner's.

    Every change is on disk when its method returns. If a method raises OSError (disk full, not writable),
    what was active still is, on disk and here, and the call may be made again. A program that was killed
    leaves at most a version that was written and never became active: it stays, its number is not used
    again. Other programs may look with ``reading`` and may `add`; a lock of milliseconds keeps writers apart.

    Args:
        folder: made if absent, unless reading.
        source: adapter of the model as it was trained.
        weights: `ModelInfo.weights` of that model.
        keep: how many of the newest versions `prune` leaves.
        reading: change nothing, not even what a killed program left behind: its writer may be alive.
        fit: raises NotFinite where a version cannot answer here; what it refuses answers no more than what
            is damaged.

    Attributes:
        found: what was wrong at opening, one line each; for the log and the audit trail.

    Raises:
        AdapterFileError: what answers was written by a newer release, in a way that this one does not read.
    """

    def __init__(
        self,
        folder: Path,
        source: Adapter,
        weights: str,
        keep: int = 10,
        *,
        reading: bool = False,
        fit: Callable[[Version], object] = lambda version: None,
    ) -> None:
        self.folder = folder
        self.found: tuple[str, ...] = ()
        self._source = source
        self._weights = weights
        self._keep = keep
        self._fit = fit
        if not reading:
            folder.mkdir(parents=True, exist_ok=True)
            with locked(folder):
                self._remove_halves()
        self._pointer = self._read_pointer(reading)
        self._active = self._find_active()
        if self.found and not reading and not (folder / ACTIVE).exists():
            self.remember(self._active.learner)  # said once; from here on it is known that the source answers

    def active(self) -> Active:
        """Return what answers now; any thread may ask."""
        return self._active

    @property
    def last(self) -> int:
        """The highest number that was ever given."""
        return max([self._pointer.last, *self.numbers()])

    @property
    def pinned(self) -> tuple[int, ...]:
        """Numbers that `prune` leaves, ascending."""
        return self._pointer.pinned

    def numbers(self) -> list[int]:
        """Return the numbers of all versions that have a file, damaged ones included, ascending."""
        if not self.folder.is_dir():
            return []
        names = (_FILE.fullmatch(path.name) for path in self.folder.iterdir())
        return sorted(int(name[1]) for name in names if name)

    def versions(self) -> list[Version]:
        """Return every version that can be read, ascending."""
        readable = []
        for number in self.numbers():
            with suppress(AdapterFileError, UnknownVersion):  # damaged, or pruned by the agent a moment ago
                readable.append(self.load(number))
        return readable

    def load(self, number: int) -> Version:
        """Return a version, verified.

        Raises:
            UnknownVersion: there is none of this number, also for 0.
            AdapterFileError: its file is damaged or of another model.
        """
        path = self._path(number)
        if not path.exists():
            raise UnknownVersion(f"{self.folder}: no version {number}: {_listed(self.numbers())}")
        version = read_version(path, self._source, self._weights)
        if version.number != number:
            raise AdapterFileError(f"{path}: holds version {version.number}: a file was renamed; roll back")
        return version

    def promote(self, version: Version, at: str, learner: Mapping[str, Any] | None = None) -> Version:
        """Write a version under the next free number, then let it answer.

        Args:
            version: whatever number it has is replaced; `parent` must be 0 or a version of this store.
            at: since when it answers, UTC, ISO-8601.
            learner: what the learner wants to know after a restart; None leaves what it said last.

        Returns:
            The version with its number and the digest of its parent.
        """
        numbered = self.write(version)
        self.answer(numbered, at, learner)
        return numbered

    def write(self, version: Version) -> Version:
        """Write a version under the next free number; it does not answer before `answer`."""
        parent = self._source if version.parent == SOURCE else self._loaded(version.parent).adapter
        return self._write(version, parent)

    def activate(self, number: int, at: str, learner: Mapping[str, Any] | None = None) -> Active:
        """Let a version answer that is here already, or 0, the source: rollback, reset, a new import.

        Raises:
            UnknownVersion, AdapterFileError: it cannot answer; nothing has changed.
        """
        self.answer(None if number == SOURCE else self.load(number), at, learner)
        return self._active

    def answer(self, version: Version | None, at: str, learner: Mapping[str, Any] | None = None) -> None:
        """Let a version answer that was written or loaded here, or None, the source."""
        adapter = self._source if version is None else version.adapter
        self._let(Active(version, adapter, at, self._memory(learner)))

    def remember(self, learner: Mapping[str, Any]) -> None:
        """Keep what the learner wants to know after a restart; what answers stays."""
        self._let(replace(self._active, learner=self._memory(learner)))

    def add(self, path: Path, recipe: str, *, any_recipe: bool = False) -> Version:
        """Import a version from a file of another station or machine. It does not answer before `activate`.

        Any program may call this, on a store that was opened for reading too.

        Args:
            path: written by `export`.
            recipe: digest of the recipe that this station inspects with.
            any_recipe: take it also where it was made for another recipe.

        Raises:
            AdapterFileError: missing, damaged, no exported version, or of another model.
            OtherRecipe: it was made for another recipe.
        """
        version = read_version(path, self._source, self._weights)
        if version.recipe != recipe and not any_recipe:
            raise OtherRecipe(
                f"{path}: made for recipe {version.recipe[:19]}..., this station inspects with"
                f" {recipe[:19]}...: its operating point may be wrong here"
            )
        self.folder.mkdir(parents=True, exist_ok=True)
        return self._write(replace(version, origin="imported", parent=SOURCE, recipe=recipe), self._source)

    def export(self, number: int, path: Path) -> Version:
        """Write a verified copy of a version, complete in one file, and verify the copy."""
        version = self.load(number)
        save_version(version, path, self._weights)
        return read_version(path, self._source, self._weights)

    def pin(self, number: int, learner: Mapping[str, Any] | None = None) -> None:
        """Keep a version whatever its age; what the learner wants to know goes into the same write."""
        self.load(number)
        self._let(replace(self._active, learner=self._memory(learner)), {*self.pinned, number})

    def unpin(self, number: int, learner: Mapping[str, Any] | None = None) -> None:
        """Let a version go when its time comes."""
        self._let(replace(self._active, learner=self._memory(learner)), {*self.pinned} - {number})

    def prune(self) -> list[int]:
        """Remove all but the newest, the pinned and the active version; return the numbers that went."""
        with locked(self.folder):
            numbers = self.numbers()
            newest = numbers[max(0, len(numbers) - self._keep) :]
            # The one fallen from stays, so that a person can look what happened to it.
            kept = {*newest, *self.pinned, self._active.number, self._active.fallen_from}
            gone = [number for number in numbers if number not in kept]
            for number in gone:
                self._path(number).unlink()
        return gone

    def _loaded(self, number: int) -> Version:
        active = self._active.version
        return active if active is not None and active.number == number else self.load(number)

    def _write(self, version: Version, parent: Adapter) -> Version:
        with locked(self.folder):
            number = self.last + 1
            adapter = Adapter(version.adapter.tensors, number, parent.digest)
            numbered = replace(version, adapter=adapter)
            save_version(numbered, self._path(number), self._weights)
        return numbered

    def _let(self, active: Active, pinned: set[int] | None = None) -> None:
        pointer = self._pointer_to(active)
        self._save(pointer if pinned is None else replace(pointer, pinned=tuple(sorted(pinned))))
        self._active = active

    def _memory(self, learner: Mapping[str, Any] | None) -> Mapping[str, Any]:
        return self._active.learner if learner is None else MappingProxyType(strict(learner))

    def _pointer_to(self, active: Active) -> Pointer:
        version = active.version
        return Pointer(
            number=active.number,
            digest=active.adapter.digest,
            offset=0.0 if version is None else version.offset,
            parent=SOURCE if version is None else version.parent,
            since=active.since,
            last=self.last,
            pinned=self.pinned,
            learner=dict(active.learner),
            more=self._pointer.more,
        )

    def _save(self, pointer: Pointer) -> None:
        with locked(self.folder):
            pointer.save(self.folder / ACTIVE)
        self._pointer = pointer

    def _path(self, number: int) -> Path:
        return self.folder / f"{number:06d}.safetensors"

    def _remove_halves(self) -> None:
        for path in self.folder.iterdir():
            if _HALF.fullmatch(path.name):
                shutil.rmtree(path)

    def _read_pointer(self, reading: bool) -> Pointer:
        path = self.folder / ACTIVE
        try:
            return Pointer.load(path)
        except PointerDamaged as error:
            kept = path if reading else path.replace(path.with_name(f"{ACTIVE}.damaged"))
            what = "nothing says which version answered: the source does"
            self.found += (f"{error}; {what}; it is kept as {kept}",)
        except FileNotFoundError:
            if numbers := self.numbers():
                self.found += (f"{path}: missing, {_listed(numbers)}: the source answers",)
        return Pointer()

    def _find_active(self) -> Active:
        pointer = self._pointer
        blob = MappingProxyType(dict(pointer.learner or {}))
        for number in (pointer.number, pointer.parent):
            fallen_from = None if number == pointer.number else pointer.number
            if number == SOURCE:
                break
            try:
                version = self.load(number)
                promoted = (pointer.digest, pointer.offset)
                if fallen_from is None and (version.digest, version.offset) != promoted:
                    raise AdapterFileError(
                        f"{self._path(number)}: not the version {number} that was promoted"
                    )
                self._fit(version)
            except (AdapterFileError, UnknownVersion) as error:
                self.found += (str(error),)
                continue
            except NotFinite as error:
                self.found += (f"version {number} is not to answer: {error}",)
                continue
            return Active(version, version.adapter, pointer.since, blob, fallen_from)
        fallen_from = None if pointer.number == SOURCE else pointer.number
        return Active(None, self._source, pointer.since, blob, fallen_from)


def _listed(numbers: list[int]) -> str:
    return f"there is {', '.join(map(str, numbers))}" if numbers else "there is none"
