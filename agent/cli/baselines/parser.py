"""What `mekiki baseline` takes on the command line. Imports nothing heavy."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from agent.cli.arguments import add_verb


def add_parser(commands: Any, default_config: str) -> None:
    """Add `baseline` and its verbs to the subparsers of `mekiki`."""
    parser = commands.add_parser(
        "baseline", help="what a station was measured on, by whom, and what follows from it"
    )
    verbs = parser.add_subparsers(required=True, metavar="VERB")

    def verb(name: str, command: Any, text: str) -> argparse.ArgumentParser:
        return add_verb(verbs, name, command, text, default_config)

    show = verb("show", _show, "samples, claims and what is not watched; the agent may run")
    which = show.add_mutually_exclusive_group(required=True)
    which.add_argument("-s", "--station", metavar="NAME")
    which.add_argument("--file", type=Path, metavar="FILE", help="a copy of a baseline")
    show.add_argument("--recipe", metavar="NAME", help="the product; without it the recipe in force")
    show.add_argument("--json", action="store_true", help="all of it as one JSON object")

    compare = verb("compare", _compare, "what differs between two; exit code 1 where anything does")
    compare.add_argument("-s", "--station", metavar="NAME", help="the first of the two")
    compare.add_argument("others", nargs="+", metavar="NAME|FILE", help="a station, or a copy of a baseline")
    compare.add_argument("--json", action="store_true", help="one JSON object")

    export = verb("export", _export, "the samples as folders of pictures and a page, to look at and to sort")
    export.add_argument("-s", "--station", required=True, metavar="NAME")
    export.add_argument("--recipe", metavar="NAME", help="the product; without it the recipe in force")
    export.add_argument("--out", type=Path, required=True, metavar="DIR", help="a new or empty folder")


def _show(arguments: argparse.Namespace) -> int:
    from agent.cli.baselines import verbs

    return verbs.show(
        arguments.config, arguments.station or arguments.file, arguments.recipe, as_json=arguments.json
    )


def _compare(arguments: argparse.Namespace) -> int:
    from agent.cli.baselines import verbs

    named = ([arguments.station] if arguments.station else []) + arguments.others
    return verbs.compare(arguments.config, named, as_json=arguments.json)


def _export(arguments: argparse.Namespace) -> int:
    from agent.cli.baselines import verbs

    return verbs.export(arguments.config, arguments.station, arguments.out, arguments.recipe)
