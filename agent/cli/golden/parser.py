"""What `mekiki golden` takes on the command line. Imports nothing heavy."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from agent.cli.arguments import add_verb, number_from


def add_parser(commands: Any, default_config: str) -> None:
    """Add `golden` and its verbs to the subparsers of `mekiki`."""
    parser = commands.add_parser(
        "golden", help="pictures of parts that a person named; of the good ones the reference is built"
    )
    verbs = parser.add_subparsers(required=True, metavar="VERB")

    def verb(name: str, text: str) -> argparse.ArgumentParser:
        made = add_verb(verbs, name, _calling(name), text, default_config)
        made.add_argument("-s", "--station", metavar="NAME", help="needed where the config has several")
        made.add_argument("--recipe", metavar="NAME", help="the product; without it the recipe in force")
        return made

    def changing(name: str, text: str) -> argparse.ArgumentParser:
        made = verb(name, text)
        made.add_argument("--why", default="", metavar="TEXT", help="for the audit trail")
        made.add_argument("--json", action="store_true", help="what came of it as one JSON object")
        return made

    adding = changing("add", "add pictures, folders with one sub-folder per class, or files with --class")
    adding.add_argument("paths", nargs="+", type=Path, metavar="PATH")
    adding.add_argument("--class", dest="label", metavar="NAME", help="of all pictures that are given")
    adding.add_argument("--by", metavar="NAME", help="who named them; without it the user who adds them")
    adding.add_argument(
        "--skip", action="store_true", help="leave out pictures that cannot be used; they are named"
    )
    removing = changing("remove", "take samples out; older versions keep them")
    removing.add_argument(
        "samples", nargs="+", metavar="SAMPLE", help="an id, a file name, CLASS/FILE, or CLASS/"
    )
    listing = verb("list", "every sample with its class, file, and who added it")
    listing.add_argument("--version", type=_number, metavar="N", help="of an older version")
    listing.add_argument("--json", action="store_true", help="one JSON object a line, what counts last")
    checking = verb("check", "near-duplicates, mislabels, bad pictures, small classes; exit code 1 for any")
    checking.add_argument("--json", action="store_true", help="one JSON object")
    verb("versions", "every version: who made it, when, and why").add_argument(
        "--json", action="store_true", help="one JSON object a line"
    )
    changing("restore", "let an older version count again").add_argument("number", type=_number, metavar="N")
    changing("build", "build the reference again, as after a change of view, tiles or backbone")
    export = verb("export", "write the set to a folder, for another station or machine")
    export.add_argument("out", type=Path, metavar="DIR", help="a new or empty folder")
    changing("import", "add a set that was exported").add_argument("folder", type=Path, metavar="DIR")
    purging = verb("purge", "forget older versions, and the pictures that only they have")
    purging.add_argument(
        "--keep", type=_number, default=1, metavar="N", help="versions to keep; default: %(default)s"
    )


def _calling(name: str) -> Callable[[argparse.Namespace], int]:
    def call(arguments: argparse.Namespace) -> int:
        from agent.cli.golden import looking, verbs

        made: dict[str, Callable[[argparse.Namespace], int]] = {
            "add": verbs.add,
            "remove": verbs.remove,
            "restore": verbs.restore,
            "build": verbs.build,
            "import": verbs.take_in,
            "purge": verbs.purge,
            "list": looking.show,
            "check": looking.check,
            "versions": looking.versions,
            "export": looking.export,
        }
        return made[name](arguments)

    return call


def _number(text: str) -> int:
    return number_from(int, text, lambda number: number > 0, "is not the number of a version")
