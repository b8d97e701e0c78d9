"""What commands have in common: verbs that take a config, and numbers that are refused in words of ours."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any, TypeVar

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


def add_verb(
    verbs: Any, name: str, command: Callable[[argparse.Namespace], int], text: str, default_config: str
) -> argparse.ArgumentParser:
    """Add a verb that takes a config to the subparsers of a command, and return its parser."""
    made: argparse.ArgumentParser = verbs.add_parser(name, help=text)
    made.add_argument("-c", "--config", default=default_config, metavar="FILE", help="default: %(default)s")
    made.set_defaults(command=command)
    return made
