"""What a baseline's file says of itself at its head, without the pictures below: quickly read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import safetensors

from adapters.baseline.baseline import FORMAT, measured_with
from adapters.core.measured_with import MeasuredWith
from adapters.files.strict_json import loads


@dataclass(frozen=True, slots=True)
class BaselineHead:
    """What a baseline belongs to, as its file says; nobody has verified it.

    Attributes:
        digest: of the baseline.
        weights, recipe: digests of the model and of the words that it was made with.
        measured: with what; None where the file does not say.
    """

    digest: str
    weights: str
    recipe: str
    measured: MeasuredWith | None


def read_head(path: Path) -> BaselineHead | None:
    """Return the head of a baseline's file; None where there is none, or it cannot be read by this release.

    Whoever opens the station reads all of it, and says what is wrong.
    """
    try:
        with safetensors.safe_open(path, framework="np") as file:
            head = dict(file.metadata() or {})
        facts = loads(head["facts"])
        if head["format"] != FORMAT:
            return None
        return BaselineHead(
            str(head["digest"]), str(facts["weights"]), str(facts["recipe"]), measured_with(path)
        )
    except (OSError, safetensors.SafetensorError, ValueError, KeyError, TypeError):
        return None
