"""What went wrong inside torch's exporter or ONNX Runtime, in one sentence about the model."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator

from adapters.adapter import AdapterError
from adapters.checkpoint import first_words
from adapters.engine import ModelError

_TERMINAL = re.compile(r"\x1b\[[0-9;]*m")
_CONTEXT = re.compile(
    r"\s*(While executing %|The error above occurred when|Original traceback:).*", re.DOTALL
)
"""What torch appends about its own graphs."""


@contextlib.contextmanager
def explained(name: str, what: str) -> Iterator[None]:
    """Turn what libraries raise for a model into a sentence; the library's error stays its cause.

    Args:
        name: of the model.
        what: was tried, such as "its image tower cannot be exported".

    Raises:
        ModelError: in place of any error but our own, and those of the disk and the memory.
    """
    try:
        yield
    except (AdapterError, OSError, MemoryError):
        raise
    except Exception as error:
        raise ModelError(
            f"{name}: {what}: {root_words(error)}; take another model: docs/models.md lists the families"
            " that were built"
        ) from error


def root_words(error: BaseException) -> str:
    """Return the first words of what an error began with; an exporter's own words are about the exporter."""
    seen = {id(error)}
    while (cause := error.__cause__ or error.__context__) is not None and id(cause) not in seen:
        seen.add(id(cause))
        error = cause
    plain = _CONTEXT.sub("", _TERMINAL.sub("", str(error)))
    return first_words(Exception(plain or type(error).__name__))
