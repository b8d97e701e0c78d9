"""Visible text on one line: what people write into phrases, labels, users, part ids and reasons.

Visible is what a person can see, and what writing and emoji need between it: blanks of any width, joiners
between letters, variation selectors. Refused is what breaks a line, steers a terminal, turns letters around
or hides.
"""

from __future__ import annotations

import re
import unicodedata

_JOINERS = "\u200c\u200d"
"""ZERO WIDTH NON-JOINER and JOINER: Persian words, and emoji of several parts, are spelt with them."""
_EMPTY_LETTERS = frozenset("\u115f\u1160\u2800\u3164\uffa0")
"""Letters and symbols by their category, which show nothing."""
_SELECTORS = frozenset(map(chr, (*range(0x180B, 0x180E), 0x180F, *range(0xFE00, 0xFE10)))) | frozenset(
    map(chr, range(0xE0100, 0xE01F0))
)
_FLAG = re.compile("(?<=\U0001f3f4)[\U000e0020-\U000e007e]+\U000e007f")
"""What follows a black flag to make it that of England, Scotland or Wales."""
_CONTROLS = {
    "\0": "NULL",
    "\a": "BELL",
    "\b": "BACKSPACE",
    "\t": "TAB",
    "\n": "LINE FEED",
    "\v": "LINE TABULATION",
    "\f": "FORM FEED",
    "\r": "CARRIAGE RETURN",
    "\x1b": "ESCAPE",
    "\x7f": "DELETE",
    "\x85": "NEXT LINE",
}
_UNNAMED = {"Cc": "CONTROL CHARACTER", "Cs": "HALF OF A PAIR", "Co": "OF PRIVATE USE", "Cn": "NO CHARACTER"}


def harmless(letter: str) -> bool:
    """Whether a character may stand in a line that people read: it is visible, a blank or a joiner."""
    return letter.isprintable() or letter in _JOINERS or unicodedata.category(letter) == "Zs"


def fault_of(text: str) -> str | None:
    """Return what keeps `text` from being visible text on one line, and where; None for nothing."""
    flags = {at for flag in _FLAG.finditer(text) for at in range(*flag.span())}
    for at, letter in enumerate(text):
        if at not in flags and (not harmless(letter) or (letter in _JOINERS and not _joins(text, at))):
            return f"holds {name_of(letter)} as character {at + 1}: remove it"
    if not any(map(_shows, text)):
        return "holds nothing that can be seen" if text else "should not be empty"
    return None


def visible(text: str) -> str:
    """Return `text` without blanks and line breaks around it; ValueError where it is not visible text."""
    fault = fault_of(_without_end(text))
    if fault is not None:
        raise ValueError(fault)
    return text.strip()


def visible_as_given(text: str) -> str:
    """Return `text` with the blanks around it, where somebody compares it; ValueError as for `visible`."""
    text = _without_end(text)
    fault = fault_of(text)
    if fault is not None:
        raise ValueError(fault)
    return text


def visible_key(text: str) -> str:
    """Return `text` unchanged; ValueError where it is not visible text that begins and ends visibly."""
    fault = fault_of(text)
    if fault is not None:
        raise ValueError(fault)
    if text != text.strip():
        edge, letter = ("begins", text[0]) if text[0].isspace() else ("ends", text[-1])
        raise ValueError(f"{edge} with {name_of(letter)}: remove it")
    return text


def name_of(letter: str) -> str:
    """Return code point and Unicode name of a character, such as ``U+202E RIGHT-TO-LEFT OVERRIDE``."""
    unnamed = _UNNAMED.get(unicodedata.category(letter), "WITHOUT A NAME")
    return f"U+{ord(letter):04X} {unicodedata.name(letter, _CONTROLS.get(letter, unnamed))}"


def looks(text: str) -> str:
    """Return what a person sees of a text: equal for two that look alike but for the width of blanks."""
    seen = (letter for letter in unicodedata.normalize("NFC", text) if not _hides(letter))
    return " ".join("".join(seen).split())


def on_one_line(text: str) -> str:
    """Return `text` with an escape in place of what is not harmless: a name of a file may hold anything."""
    return "".join(
        letter if harmless(letter) else letter.encode("unicode_escape").decode() for letter in text
    )


def _without_end(text: str) -> str:
    """Leave out the line break that files, pipes and scanners put behind a text."""
    return text.rstrip("\r\n")


def _joins(text: str, at: int) -> bool:
    """Whether there is something on both sides of the joiner at `at`."""
    return 0 < at < len(text) - 1 and not text[at - 1].isspace() and not text[at + 1].isspace()


def _hides(letter: str) -> bool:
    return letter in _JOINERS or letter in _SELECTORS


def _shows(letter: str) -> bool:
    return unicodedata.category(letter)[0] in "LNPS" and letter not in _EMPTY_LETTERS
