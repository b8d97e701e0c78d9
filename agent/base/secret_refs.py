"""`${env:NAME}` and `${file:path}` in config.yaml: values that are kept elsewhere, secrets above all.

A reference may stand anywhere inside a text. What it stands for is put in its place as late as possible,
and is never part of a message: messages name the reference. How it is written there: `agent.base.encoding`.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from agent.base.encoding import UnfitError, fitted
from agent.base.errors import AgentError
from agent.base.text import harmless

MAX_FILE_BYTES = 4096

_BLANK = "x" * 32
_REFERENCE = re.compile(r"\$\{(?:(env|file):([^{}]+))?[^}]*\}?")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class UnresolvedError(AgentError):
    """A reference leads nowhere; the message names it, and never a value."""


def has_reference(text: str) -> bool:
    """Whether `text` holds something that is, or wants to be, a reference."""
    return "${" in text


def without_references(text: str) -> str:
    """Return what is left of `text` without its references."""
    return _REFERENCE.sub("", text)


def blanked(text: str) -> str:
    """Return `text` with a harmless word in the place of each reference, so that its shape can be checked."""
    return _REFERENCE.sub(_BLANK, text)


def resolve(text: str, folder: Path) -> str:
    """Return `text` with every reference replaced by what it stands for.

    A relative ``${file:path}`` starts at `folder`.

    Raises:
        UnresolvedError: the variable is not set, the file cannot be read, or it is no reference; or what it
            stands for cannot be written there.
    """
    if not has_reference(text):
        return text
    # A reference may hold what a text around it is taken apart by, such as the / of its file's path.
    outline = _REFERENCE.sub(lambda match: "x" * len(match.group()), text)

    def written(match: re.Match[str]) -> str:
        value = _value(match, folder)
        try:
            return fitted(value, outline[: match.start()], outline[match.end() :])
        except UnfitError as error:
            raise UnresolvedError(f"{match.group()}: {error}") from None

    return _REFERENCE.sub(written, text)


def _value(match: re.Match[str], folder: Path) -> str:
    kind, name = match.group(1), match.group(2)
    if match.group() != f"${{{kind}:{name}}}":
        # What stands there may be a secret with an unlucky beginning, so it is not shown.
        raise UnresolvedError("${ starts no reference here: write ${env:NAME} or ${file:path}")
    if kind == "file":
        return _file(name, folder)
    if not _VARIABLE.fullmatch(name):  # perhaps the password itself
        raise UnresolvedError("${env:...} holds no name of an environment variable: write ${env:NAME}")
    if name not in os.environ:
        raise UnresolvedError(f"{match.group()}: no such environment variable: set {name} for the agent")
    return _clean(os.environ[name], match.group())


def _file(name: str, folder: Path) -> str:
    reference = f"${{file:{name}}}"
    try:
        with (folder / name).open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise UnresolvedError(f"{reference}: {error.strerror}: name a file that the agent may read") from None
    if len(content) > MAX_FILE_BYTES:
        raise UnresolvedError(f"{reference}: larger than {MAX_FILE_BYTES} bytes: name a file with one value")
    try:
        return _clean(content.decode().rstrip("\r\n"), reference)
    except UnicodeDecodeError:
        raise UnresolvedError(f"{reference}: not UTF-8: save it as UTF-8") from None


def _clean(value: str, reference: str) -> str:
    if not value:
        raise UnresolvedError(f"{reference}: is empty: give it a value")
    if not all(map(harmless, value)):
        raise UnresolvedError(f"{reference}: holds a line break or another control character: give one line")
    return value
