"""What an operator asks of an agent from another process: one small file each, taken once and in order."""

from __future__ import annotations

import fcntl
import getpass
import os
import re
import time
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from adapters.files.atomic_file import write_durably
from agent.base.event_id import ulid
from agent.base.refusal import refusal
from agent.base.text import visible
from agent.config.types import Text

REFUSED = "refused"
"""Folder beside the requests where those go that cannot be read."""

Kind = Literal["rollback", "activate", "pin", "unpin", "freeze", "resume", "reset", "imported"]

_MAX_BYTES = 10_000
_NAME = re.compile(r"\d{20}-[0-9A-Z]{26}\.json")
_NUMBERED = ("rollback", "activate", "pin", "unpin", "imported")


class Request(BaseModel):
    """One wish of one person.

    Attributes:
        kind: ``rollback`` to a version, ``activate`` one that was imported, ``pin`` one so that it is kept
            whatever its age, ``unpin``, ``freeze`` and ``resume`` learning, ``reset`` to the source;
            ``imported`` asks for nothing but a line in the audit trail, which the agent writes.
        actor: user name of who asks.
        at: UTC, ISO-8601, by the clock of who asks.
        number: of the version; not for ``freeze``, ``resume`` and ``reset``.
        why: what the person says to it.
        id: a ULID.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    kind: Kind
    actor: Text = Field(max_length=100)
    at: Text = Field(max_length=40)
    number: int | None = Field(default=None, ge=0)
    why: Annotated[str, AfterValidator(lambda text: text.strip() and visible(text))] = Field(
        default="", max_length=500
    )
    id: str = Field(default_factory=ulid, pattern=r"^[0-9A-Z]{26}$")

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if (self.number is not None) != (self.kind in _NUMBERED):
            raise ValueError(f"{', '.join(_NUMBERED)} name a version, the others do not")
        return self


@dataclass(frozen=True, slots=True)
class Taken:
    """What waited.

    Attributes:
        requests: in the order in which they were asked.
        refused: one line each about files that are no request; they were moved aside.
        trouble: a file of either kind that cannot be moved or removed; nothing else waits for it.
    """

    requests: tuple[Request, ...]
    refused: tuple[str, ...]
    trouble: OSError | None = None


def ask(folder: Path, request: Request) -> Path:
    """Leave a request for the agent; it is on disk when this returns.

    Any number may wait: a person writes them, and an agent that runs takes them within a second.

    Raises:
        OSError: the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    # Named after the clock, to the nanosecond: that is the order in which they are taken.
    path = folder / f"{time.time_ns():020d}-{request.id}.json"
    write_durably(path, request.model_dump_json().encode())
    return path


def take(folder: Path, done: Collection[str] = ()) -> Taken:
    """Return what waits. Each stays on disk until `finish`, so that a crash loses none.

    To obey each exactly once, the agent keeps its id with the effect in one durable write (see
    `agent.versions.learner_memory.Memory`), calls `finish`, and gives the ids that it kept as `done`.

    Args:
        folder: of one station; need not exist.
        done: ids of requests that were obeyed already; where they still wait they go.

    Raises:
        OSError: the folder cannot be read.
    """
    requests, refused, trouble = [], [], None
    for path in _waiting(folder):
        try:
            request = _read(path)
            if request.id not in done:
                requests.append(request)
                continue
            why = None
        except (ValueError, OSError) as error:
            why = _reason(error)
        try:
            if why is None:
                path.unlink()
            else:
                refused.append(f"{path}: not a request: {why}; moved to {_aside(folder, path)}")
        except OSError as error:
            trouble = error
    return Taken(tuple(requests), tuple(refused), trouble)


def waiting_names(folder: Path) -> frozenset[str]:
    """Return the names of the files that wait; none where the folder cannot be read."""
    try:
        return frozenset(path.name for path in _waiting(folder))
    except OSError:  # whoever takes them says so
        return frozenset()


def finish(folder: Path, request: Request) -> None:
    """Remove a request that was obeyed or refused; no error where it is gone already."""
    for path in folder.glob(f"*-{request.id}.json"):
        path.unlink(missing_ok=True)


def agent_runs(data_folder: Path) -> bool:
    """Whether an agent holds the data folder now."""
    try:
        handle = (data_folder / "lock").open()
    except FileNotFoundError:
        return False
    with handle:
        try:
            # Shared, and given back at once: an agent that starts in this moment must not find it taken.
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def requester() -> str:
    """Return the user name of the person at this command line, behind sudo too."""
    try:
        return os.environ.get("SUDO_USER") or getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        return f"uid {os.getuid()}"


def _waiting(folder: Path) -> list[Path]:
    """Return the files that are not being written any more, oldest first."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if not path.name.startswith(".") and path.name != REFUSED)


def _aside(folder: Path, path: Path) -> Path:
    aside = folder / REFUSED
    aside.mkdir(exist_ok=True)
    path.replace(aside / f"{ulid()}-{path.name}")
    return aside


def _read(path: Path) -> Request:
    if not _NAME.fullmatch(path.name) or path.is_symlink() or not path.is_file():
        raise ValueError("its name or kind of file is not one that `mekiki adapter` writes")
    with path.open("rb") as file:
        content = file.read(_MAX_BYTES + 1)
    if len(content) > _MAX_BYTES:
        raise ValueError(f"more than {_MAX_BYTES} bytes")
    request = Request.model_validate_json(content)
    if not path.name.endswith(f"-{request.id}.json"):
        raise ValueError("its id is not the one in its name")
    return request


def _reason(error: Exception) -> str:
    return refusal(error, Request) if isinstance(error, ValidationError) else str(error)
