"""Which version of a station's adapter answers now: as a value, and as one small sealed file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from adapters.core.adapter import Adapter, AdapterFileError
from adapters.core.version import SOURCE, Version
from adapters.files.atomic_file import write_durably
from adapters.files.formats import is_newer, mismatch
from adapters.files.strict_json import loads

_FORMAT = "mekiki.active.v1"


@dataclass(frozen=True, slots=True, eq=False)
class Active:
    """What answers now.

    Attributes:
        version: None where the source answers.
        adapter: of the version, or the source's.
        since: when it was chosen, UTC, ISO-8601; None where nothing was ever chosen.
        learner: what the learner wants to know after a restart, JSON.
        fallen_from: the version that should answer but cannot be read, None where all is well.
    """

    version: Version | None
    adapter: Adapter
    since: str | None
    learner: Mapping[str, Any]
    fallen_from: int | None = None

    @property
    def number(self) -> int:
        """0 for the source."""
        return SOURCE if self.version is None else self.version.number


class PointerDamaged(Exception):
    """The file is there and cannot be believed."""


@dataclass(frozen=True, slots=True)
class Pointer:
    """Which version answers.

    Attributes:
        number: 0 for the source.
        digest: of the version's tensors; with `offset` all that its answers depend on.
        parent: of the version; it stands here too because a damaged version cannot tell it any more.
        since: UTC, ISO-8601; None where nothing was ever chosen.
        last: the highest number that was ever given.
        pinned: numbers of versions that are kept whatever their age.
        learner: what the learner wants to know after a restart, JSON.
        more: what a newer release has written beside all this; kept, and not understood.
    """

    number: int = SOURCE
    digest: str = ""
    offset: float = 0.0
    parent: int = SOURCE
    since: str | None = None
    last: int = SOURCE
    pinned: tuple[int, ...] = ()
    learner: dict[str, Any] | None = None
    more: dict[str, Any] = field(default_factory=dict)

    def save(self, path: Path) -> None:
        """Make or replace the file in one step.

        Raises:
            OSError: the disk is full or the folder cannot be written; the old file is as it was.
        """
        known = asdict(self)
        # Release 0.1.0 takes a file with a field that it does not know for damaged: add none of our own.
        text = _text({**known.pop("more"), "format": _FORMAT, **known})
        sealed = {**loads(text), "seal": _seal(text)}
        write_durably(path, json.dumps(sealed, indent=1, allow_nan=False).encode())

    @classmethod
    def load(cls, path: Path) -> Pointer:
        """Read what `save` wrote.

        Raises:
            FileNotFoundError: there is none.
            AdapterFileError: a newer release wrote it in a format that this one does not read.
            PointerDamaged: it was altered or cut.
        """
        try:
            content = loads(path.read_bytes())
            if content.pop("seal") != _seal(_text(content)):
                raise ValueError("the seal does not fit")
            found = content.pop("format")
            # Only where the seal fits: a flipped bit makes another number too. Later formats keep the seal.
            if is_newer(found, _FORMAT):
                raise AdapterFileError(f"{path}: {mismatch(found, _FORMAT, content.get('release'), '')}")
            if found != _FORMAT:
                raise ValueError(f"format {str(found)[:80]!r}")
            known = {one.name for one in fields(cls)} - {"more"}
            ours = {name: content.pop(name) for name in known & content.keys()}
            return cls(**{**ours, "pinned": tuple(ours["pinned"]), "more": content})
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError) as error:
            raise PointerDamaged(f"{path}: damaged: {error}") from error


def _text(fields: dict[str, Any]) -> str:
    return json.dumps(fields, sort_keys=True, allow_nan=False)


def _seal(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
