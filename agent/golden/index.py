"""What a golden set holds and held: its samples, and the versions that changes of it have made. Values."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Annotated, Any, Final, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from adapters.files.formats import mismatch
from adapters.files.strict_json import loads
from agent.base.errors import StoreError, UsageError

FORMAT: Final = "mekiki.golden.v1"
GOOD: Final = "good"
"""The class of good parts where the recipe has no words for them."""

SampleId = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
_Counted = Annotated[int, Field(ge=1, le=2**31 - 1)]


class _Stored(BaseModel):
    """What a newer release has added is passed over, and kept when the index is written again."""

    model_config = ConfigDict(extra="allow", frozen=True, allow_inf_nan=False)


class GoldenSample(_Stored):
    """A picture that a person named.

    Attributes:
        file: name of the file that it came from, for people.
        added_at: UTC, ISO-8601.
        added_by: user name, or who a person said had named it.
        width, height: in pixels.
        station: where it was cut.
        crop: of the region, in shares of the camera's picture.
        roi: digest of crop and masks together, as `camera.core.kept_region` has it.
    """

    file: str = Field(max_length=4096)
    added_at: str = Field(max_length=40)
    added_by: str = Field(max_length=100)
    width: _Counted
    height: _Counted
    station: str = Field(max_length=64)
    crop: tuple[float, float, float, float]
    roi: str = Field(max_length=100)


class GoldenVersion(_Stored):
    """A change of a golden set.

    Attributes:
        number: counts from 1.
        at: UTC, ISO-8601.
        actor: user name.
        what: ``add``, ``remove``, ``restore`` or ``import``; ``base`` for the oldest that is still known.
        why: what the person says to it.
        added: id -> class of what is new, or has another class than before.
        removed: ids that are no longer in the set.
        digest: ``sha256:...`` of all ids with their classes after the change.
    """

    number: _Counted
    at: str = Field(max_length=40)
    actor: str = Field(max_length=100)
    what: str = Field(max_length=20)
    why: str = Field(default="", max_length=500)
    added: dict[SampleId, str]
    removed: tuple[SampleId, ...]
    digest: str = Field(max_length=100)


class GoldenIndex(_Stored):
    """Everything that is known of a golden set.

    Attributes:
        format: `FORMAT`.
        release: that wrote it.
        samples: by id, also those that only an older version has.
        versions: oldest first.
    """

    format: str = FORMAT
    release: str = Field(default="", max_length=40)
    samples: dict[SampleId, GoldenSample] = Field(default_factory=dict)
    versions: tuple[GoldenVersion, ...] = ()

    @classmethod
    def read(cls, content: bytes, name: str) -> Self:
        """Return what a file's content says.

        Raises:
            StoreError: it is damaged, or of a newer release; names the file and says what to do.
        """
        remedy = "restore it from a backup, or import a set that was exported into an empty folder"
        try:
            stored = loads(content)
            if not isinstance(stored, dict) or stored.get("format") != FORMAT:
                found = stored if isinstance(stored, dict) else {}
                why = mismatch(found.get("format"), FORMAT, found.get("release"), remedy)
                raise StoreError(f"{name}: {why}")
            index = cls.model_validate(stored)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            raise StoreError(f"{name}: damaged: {where}: {first['msg']}: {remedy}") from None
        except ValueError as error:
            raise StoreError(f"{name}: damaged: {error}: {remedy}") from error
        index.require_whole(name, remedy)
        return index

    def require_whole(self, name: str, remedy: str) -> None:
        """Raise StoreError unless the versions follow each other and hold what their digests say."""
        known: dict[str, str] = {}
        for place, version in enumerate(self.versions):
            known = _changed(known, version)
            if version.number != self.versions[0].number + place or version.digest != digest(known):
                raise StoreError(f"{name}: damaged: version {version.number} is not what it says: {remedy}")
            if missing := known.keys() - self.samples.keys():
                raise StoreError(f"{name}: damaged: nothing is known of sample {min(missing)[:12]}: {remedy}")

    @property
    def number(self) -> int:
        """Return the number of the version that counts; 0 where there is none."""
        return self.versions[-1].number if self.versions else 0

    def classes(self, number: int | None = None) -> dict[str, str]:
        """Return id -> class of a version in the order of the ids; None: the one that counts.

        Raises:
            UsageError: there is no such version.
        """
        known: dict[str, str] = {}
        for version in self.versions:
            known = _changed(known, version)
            if version.number == number:
                return dict(sorted(known.items()))
        if number is None:
            return dict(sorted(known.items()))
        there = ", ".join(str(version.number) for version in self.versions) or "none"
        raise UsageError(f"no version {number} of these golden samples: there is {there}")

    def changed(
        self,
        now: Mapping[str, str],
        new: Mapping[str, GoldenSample],
        *,
        at: str,
        actor: str,
        what: str,
        why: str,
        release: str,
    ) -> Self:
        """Return the index with one more version.

        Args:
            now: id -> class of the whole set from now on.
            new: samples that were not known before.
            at, actor, what, why: of the version.
            release: that writes.
        """
        before = self.classes()
        version = GoldenVersion(
            number=self.number + 1,
            at=at,
            actor=actor,
            what=what,
            why=why,
            added={id_: label for id_, label in sorted(now.items()) if before.get(id_) != label},
            removed=tuple(sorted(before.keys() - now.keys())),
            digest=digest(now),
        )
        return self.model_copy(
            update={
                "release": release,
                "samples": {**self.samples, **new},
                "versions": (*self.versions, version),
            }
        )

    def purged(self, keep: int) -> Self:
        """Return the index with the last `keep` versions alone, and the samples that one of them has."""
        if len(self.versions) <= keep:
            kept = self.versions
        else:
            first = self.versions[-keep]
            whole = self.classes(first.number)
            base = first.model_copy(update={"what": "base", "added": whole, "removed": ()})
            kept = (base, *self.versions[len(self.versions) - keep + 1 :])
        named = {id_ for version in kept for id_ in version.added}
        samples = {id_: sample for id_, sample in self.samples.items() if id_ in named}
        return self.model_copy(update={"samples": samples, "versions": kept})

    def facts(self) -> dict[str, Any]:
        """Return it for JSON."""
        return self.model_dump(mode="json")


def digest(classes: Mapping[str, str]) -> str:
    """Return ``sha256:...`` of a set: id -> class."""
    lines = "".join(f"{id_} {label}\n" for id_, label in sorted(classes.items()))
    return f"sha256:{hashlib.sha256(lines.encode()).hexdigest()}"


def _changed(before: Mapping[str, str], version: GoldenVersion) -> dict[str, str]:
    gone = set(version.removed)
    return {id_: label for id_, label in before.items() if id_ not in gone} | version.added
