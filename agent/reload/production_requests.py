"""What a person asks with `mekiki production set`: one small file each, which the agent takes in order."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from adapters.files.atomic_file import write_durably
from agent.base.event_id import ulid
from agent.base.refusal import refusal
from agent.config.types import ProductionName, ProductionText, Text

FOLDER = "production"
"""In the data folder."""
REFUSED = "refused"
"""Folder beside the requests where those go that cannot be read."""
_MAX_BYTES = 10_000
_NAME = re.compile(r"\d{20}-[0-9A-Z]{26}\.json")


class ProductionRequest(BaseModel):
    """Texts that are to be in force from now on.

    Attributes:
        station: where; None at all stations.
        values: what to set; None clears.
        actor: user name of who asks.
        why: for the audit trail.
        id: a ULID.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    station: Text | None = Field(default=None, max_length=64)
    values: dict[ProductionName, ProductionText | None]
    actor: Text = Field(max_length=100)
    why: Text | None = Field(default=None, max_length=500)
    id: str = Field(default_factory=ulid, pattern=r"^[0-9A-Z]{26}$")

    @model_validator(mode="after")
    def _asks(self) -> Self:
        if not self.values:
            raise ValueError("name what to set: order, lot or shift")
        return self


class NoRequest(ValueError):
    """A file that is no request; says why."""


def ask(data: Path, request: ProductionRequest) -> Path:
    """Leave a request for the agent with this data folder; it is on disk when this returns.

    Any number may wait: a person writes them, and an agent that runs takes them at once.

    Raises:
        OSError: the folder cannot be written.
    """
    folder = data / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    # Named after the clock, to the nanosecond: that is the order in which they are taken.
    path = folder / f"{time.time_ns():020d}-{request.id}.json"
    write_durably(path, request.model_dump_json().encode())
    return path


def waiting(data: Path) -> list[Path]:
    """Return the files that wait, oldest first; none where nobody ever asked.

    Raises:
        OSError: the folder cannot be read.
    """
    folder = data / FOLDER
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if not path.name.startswith(".") and path.name != REFUSED)


def read_request(path: Path) -> ProductionRequest:
    """Return what a file asks for.

    Raises:
        NoRequest: it is none.
    """
    if not _NAME.fullmatch(path.name) or path.is_symlink() or not path.is_file():
        raise NoRequest("its name or kind of file is not one that `mekiki production` writes")
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_BYTES + 1)
        if len(content) > _MAX_BYTES:
            raise NoRequest(f"more than {_MAX_BYTES} bytes")
        return ProductionRequest.model_validate_json(content)
    except ValidationError as error:
        raise NoRequest(refusal(error, ProductionRequest)) from None
    except OSError as error:
        raise NoRequest(f"cannot be read: {error.strerror}") from error


def put_aside(path: Path) -> Path:
    """Move what is no request out of the way, and return where it lies now.

    Raises:
        OSError: it cannot be moved.
    """
    folder = path.parent / REFUSED
    folder.mkdir(exist_ok=True)
    return path.replace(folder / f"{ulid()}-{path.name}")
