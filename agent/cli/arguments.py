"""Numbers on the command line: what is none is refused in words of ours."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TypeVar

_Number = TypeVar("_Number", int, float)


def number_from(
    kind: Callable[[str], _Number], text: str, good: Callable[[_Number], bool], what: str
) -> _Number:
    """Return a number of the command line.

    Args:
        kind: ``int`` or ``float``.
        text: as it was given.
        good: whether such a number may be.
        what: what is wrong otherwise, such as ``is not a rate``.

    Raises:
        argparse.ArgumentTypeError: it is none, or not a good one.
    """
    try:
        number = kind(text)
    except ValueError:  # argparse would show the name of the function
        raise argparse.ArgumentTypeError(f"{text} {what}") from None
    if not good(number):
        raise argparse.ArgumentTypeError(f"{text} {what}")
    return number
