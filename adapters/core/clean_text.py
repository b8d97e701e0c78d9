"""How open_clip cleans a text before it is split into tokens."""

from __future__ import annotations

import html
import string
from collections.abc import Callable
from typing import Literal

import ftfy

Clean = Literal["lower", "whitespace", "canonicalize"]

_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


def same_words(text: str) -> str:
    """Return what is equal for texts that differ in case, blanks and encoding only, whatever the model."""
    return " ".join(_repaired(text).casefold().split())


def _repaired(text: str) -> str:
    """Mend broken encodings and HTML entities; twice, because web texts are escaped twice."""
    return html.unescape(html.unescape(ftfy.fix_text(text))).strip()


def _whitespace(text: str) -> str:
    return " ".join(_repaired(text).split())


def _lower(text: str) -> str:
    return _whitespace(text).lower()


def _canonicalize(text: str) -> str:
    return " ".join(_repaired(text).replace("_", " ").translate(_NO_PUNCTUATION).lower().split())


CLEAN: dict[Clean, Callable[[str], str]] = {
    "lower": _lower,
    "whitespace": _whitespace,
    "canonicalize": _canonicalize,
}
