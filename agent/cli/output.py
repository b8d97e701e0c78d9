"""Standard output and standard error: one line each, in any encoding, and what if nothing takes it."""

from __future__ import annotations

import codecs
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, TextIO

from agent.base.errors import EXIT_TRY_AGAIN, EXIT_USAGE, AgentError
from agent.base.text import harmless, on_one_line

_ESCAPES = "mekiki.escapes"


class OutputError(AgentError):
    """Standard output takes nothing: it is closed, or its disk is full."""

    def __init__(self, why: str, exit_code: int) -> None:
        self.exit_code = exit_code
        super().__init__(f"standard output: {why}")


def say(text: str) -> None:
    """Print what is not the product to standard error: one line for each line, whatever a file name holds."""
    print(_lines(text), file=sys.stderr)  # noqa: T201 - what is not the product goes to stderr


def put(line: str) -> None:
    """Print one line of the product to standard output, at once."""
    print(on_one_line(line), flush=True)  # noqa: T201 - stdout is the product here


def put_text(text: str) -> None:
    """Print a product of several lines, which ends with a line break, to standard output."""
    print(_lines(text), end="", flush=True)  # noqa: T201 - stdout is the product here


def as_json(value: Any, indent: int | None = None) -> str:
    """Return JSON for people and programs: nothing in it breaks a line or steers a terminal."""
    return safe_json(json.dumps(value, ensure_ascii=False, allow_nan=False, indent=indent))


def safe_json(text: str) -> str:
    """Return JSON that is equal to `text`, as `as_json` writes it."""
    return "".join(letter if letter == "\n" or harmless(letter) else _escaped(letter) for letter in text)


@contextmanager
def standard_streams() -> Iterator[None]:
    """Make standard output tell where it takes nothing, and standard error never a reason to end.

    What a stream's encoding does not have is escaped as JSON escapes it. A stream that was closed before the
    start becomes /dev/null, lest the next file that is opened takes its number.
    """
    _open_closed()
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = _Out(before[0]), _Err(before[1])
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


def finish() -> None:
    """Write what is buffered.

    Raises:
        OutputError: it cannot be written.
        BrokenPipeError: nobody reads it.
    """
    sys.stdout.flush()


def give_up() -> None:
    """Throw away what is still buffered: it must not be tried again when the interpreter ends."""
    try:
        number = sys.stdout.fileno()
    except (OSError, ValueError):  # it is no file
        return
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, number)
    os.close(null)


class _Out:
    """Standard output whose troubles are told; the rest is that of `stream`, None where it is closed."""

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream or sys.__stdout__ or _nothing(), name)

    def write(self, text: str) -> int:
        if self._stream is None:
            if text:
                raise OutputError("is closed: open it, or send it to a file", EXIT_USAGE)
            return 0
        encoding = self._stream.encoding or "utf-8"
        try:
            return self._stream.write(text.encode(encoding, _ESCAPES).decode(encoding))
        except BrokenPipeError:
            raise
        except OSError as error:
            raise _failed(error) from error

    def flush(self) -> None:
        if self._stream is None:
            return
        try:
            self._stream.flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            raise _failed(error) from error


class _Err(_Out):
    """Standard error; where it takes nothing there is nobody to tell."""

    def write(self, text: str) -> int:
        try:
            return super().write(text)
        except (OutputError, BrokenPipeError):
            return len(text)

    def flush(self) -> None:
        try:
            super().flush()
        except (OutputError, BrokenPipeError):
            return


def _failed(error: OSError) -> OutputError:
    return OutputError(f"cannot be written: {error.strerror or error}", EXIT_TRY_AGAIN)


@cache
def _nothing() -> TextIO:
    return open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123 - for as long as the process lives


def _open_closed() -> None:
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            null = os.open(os.devnull, os.O_RDWR)
            if null != number:
                os.dup2(null, number)
                os.close(null)


def _lines(text: str) -> str:
    return "\n".join(map(on_one_line, text.split("\n")))


def _escaped(text: str) -> str:
    """Return JSON's escapes of a text."""
    units = text.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at]:02x}{units[at + 1]:02x}" for at in range(0, len(units), 2))


def _escapes(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeEncodeError)
    return _escaped(error.object[error.start : error.end]), error.end


codecs.register_error(_ESCAPES, _escapes)
