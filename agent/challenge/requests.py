"""What a person asks with `mekiki challenge`: one small file each, which the agent takes at once."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from adapters.files.atomic_file import write_durably
from agent.base.event_id import ulid
from agent.base.refusal import refusal
from agent.config.types import Text

FOLDER: Final = "challenge"
"""In the data folder."""
MOST_PARTS: Final = 1000
LONGEST_S: Final = 3600.0
_MAX_BYTES: Final = 10_000
_NAME = re.compile(r"\d{20}-[0-9A-Z]{26}\.json")


class ChallengeRequest(BaseModel):
    """Parts that are about to be put before a camera.

    Attributes:
        station: whose.
        expect: what they must do.
        parts: how many.
        within_s: time for all of them.
        actor: user name of who asks.
        kind: which kind of part; None where nobody says.
        why: for the audit trail.
        id: a ULID.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    station: Text = Field(max_length=64)
    expect: Literal["fail", "pass"]
    parts: int = Field(default=1, ge=1, le=MOST_PARTS)
    within_s: float = Field(default=300.0, ge=1, le=LONGEST_S, allow_inf_nan=False)
    actor: Text = Field(max_length=100)
    kind: Text | None = Field(default=None, max_length=100)
    why: Text | None = Field(default=None, max_length=500)
    id: str = Field(default_factory=ulid, pattern=r"^[0-9A-Z]{26}$")


def leave(data: Path, request: ChallengeRequest) -> Path:
    """Leave a request for the agent with this data folder; it is on disk when this returns.

    Raises:
        OSError: the folder cannot be written.
    """
    folder = data / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{time.time_ns():020d}-{request.id}.json"
    write_durably(path, request.model_dump_json().encode())
    return path


def take(data: Path) -> tuple[list[ChallengeRequest], list[str]]:
    """Return what waits, oldest first, and what is wrong with files that are no request; none waits after it.

    Raises:
        OSError: a file cannot be removed or read.
    """
    folder = data / FOLDER
    if not folder.is_dir():
        return [], []
    requests, wrong = list[ChallengeRequest](), list[str]()
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue
        if not _NAME.fullmatch(path.name) or path.is_symlink() or not path.is_file():
            wrong.append(f"{path}: not a request: no name or file that mekiki challenge writes")
            continue
        with path.open("rb") as file:
            content = file.read(_MAX_BYTES + 1)
        path.unlink()
        try:
            requests.append(ChallengeRequest.model_validate_json(content))
        except ValidationError as error:
            wrong.append(f"{path.name}: not a request: {refusal(error, ChallengeRequest)}")
    return requests, wrong
