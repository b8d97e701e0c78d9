"""What `mekiki challenge` takes on the command line. Imports nothing heavy."""

from __future__ import annotations

import argparse
from typing import Any

from agent.cli.arguments import add_verb, number_from


def add_parser(commands: Any, default_config: str) -> None:
    """Add `challenge` to the subparsers of `mekiki`."""
    parser = add_verb(
        commands,
        "challenge",
        _challenge,
        "a check at the start of a shift: known bad parts must fail, good ones must pass; the agent runs",
        default_config,
    )
    parser.add_argument("-s", "--station", metavar="NAME", help="needed where the config has several")
    parser.add_argument("--recipe", metavar="NAME", help="whose golden samples tell which parts to present")
    parser.add_argument(
        "--expect",
        choices=("fail", "pass"),
        help="of the next parts; without it each kind in turn",
    )
    parser.add_argument(
        "--parts", type=_parts, default=1, metavar="N", help="of each kind; default: %(default)s"
    )
    parser.add_argument(
        "--within", type=_seconds, default=300.0, metavar="S", help="time for these; default: %(default)g s"
    )
    parser.add_argument("--why", metavar="TEXT", help="for the audit trail")
    parser.add_argument("--json", action="store_true", help="one JSON object a line, one for each kind")


def _challenge(arguments: argparse.Namespace) -> int:
    from agent.cli.challenge.command import run

    return run(arguments)


def _parts(text: str) -> int:
    return number_from(int, text, lambda number: 1 <= number <= 1000, "is not a number from 1 to 1000")


def _seconds(text: str) -> float:
    return number_from(float, text, lambda time: 1 <= time <= 3600, "is not a time from 1 to 3600 seconds")
