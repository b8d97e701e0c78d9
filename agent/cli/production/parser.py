"""What `mekiki production` takes. Imports nothing heavy, so that `mekiki --help` answers at once."""

from __future__ import annotations

import argparse
from typing import Any

from agent.cli.arguments import add_verb
from agent.cli.production.verbs import set_values, show

_NAMES = ("order", "lot", "shift")


def add_parser(commands: Any, default_config: str) -> None:
    """Add `production` and its verbs to the subparsers of `mekiki`."""
    parser = commands.add_parser(
        "production", help="what is being made: order, lot and shift, as results carry them"
    )
    verbs = parser.add_subparsers(required=True, metavar="VERB")

    def verb(name: str, command: Any, text: str) -> argparse.ArgumentParser:
        made = add_verb(verbs, name, command, text, default_config)
        made.add_argument("-s", "--station", metavar="NAME", help="default: all stations")
        return made

    verb("show", show, "what is in force at each station").add_argument(
        "--json", action="store_true", help="one JSON object a line"
    )
    setting = verb("set", set_values, "set it over the config file, from the next part on")
    for name in _NAMES:
        setting.add_argument(f"--{name}", metavar="TEXT", help=f"the {name}, up to 100 characters")
    setting.add_argument(
        "--clear", choices=_NAMES, action="append", default=[], help="have none; may be given several times"
    )
    setting.add_argument("--why", metavar="TEXT", help="for the audit trail")
