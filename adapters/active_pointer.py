"""Which version of a station's adapter answers now: as a value, and as one small sealed file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from adapters.adapter import Adapter
from adapters.durable import write_durably
from adapters.strict_json import loads
from adapters.version import SOURCE, Version

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
    """

    number: int = SOURCE
    digest: str = ""
    offset: float = 0.0
    parent: int = SOURCE
    since: str | None = None
    last: int = SOURCE
    pinned: tuple[int, ...] = ()
    learner: dict[str, Any] | None = None

    def save(self, path: Path) -> None:
        """Make or replace the file in one step.

        Raises:
            OSError: the disk is full or the folder cannot be written; the old file is as it was.
        """
        text = _text({"format": _FORMAT, **asdict(self)})
        write_durably(
            path, json.dumps({**loads(text), "seal": _seal(text)}, indent=1, allow_nan=False).encode()
        )

    @classmethod
    def load(cls, path: Path) -> Pointer:
        """Read what `save` wrote.

        Raises:
            FileNotFoundError: there is none.
            PointerDamaged: it was altered or cut.
        """
        try:
            fields = loads(path.read_bytes())
            if fields.pop("seal") != _seal(_text(fields)) or fields.pop("format") != _FORMAT:
                raise ValueError("the seal does not fit")
            return cls(**{**fields, "pinned": tuple(fields["pinned"])})
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise PointerDamaged(f"{path}: damaged: {error}") from error


def _text(fields: dict[str, Any]) -> str:
    return json.dumps(fields, sort_keys=True, allow_nan=False)


def _seal(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
