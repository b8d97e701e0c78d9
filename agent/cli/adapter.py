"""`mekiki adapter`: look at a station's adapters, carry them elsewhere, and ask the agent to go back or stop.

Imports nothing heavy before a command needs it, as `agent.cli.main` does.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from agent.base.errors import EXIT_CHECK_FAILED, EXIT_OK, ConfigError, StoreError, UsageError
from agent.cli.adapter_target import target_of
from agent.cli.arguments import add_verb, number_from
from agent.cli.output import as_json, put, put_text, say


def add_parser(commands: Any, default_config: str) -> None:
    """Add `adapter` and its verbs to the subparsers of `mekiki`."""
    parser = commands.add_parser(
        "adapter", help="what was learned: list, show, go back, stop, carry elsewhere"
    )
    verbs = parser.add_subparsers(required=True, metavar="VERB")

    def verb(name: str, command: Any, text: str) -> argparse.ArgumentParser:
        made = add_verb(verbs, name, command, text, default_config)
        made.add_argument("-s", "--station", metavar="NAME", help="needed where the config has several")
        made.add_argument("--recipe", metavar="NAME", help="the product; without it the recipe in force")
        return made

    def asking(name: str, text: str) -> argparse.ArgumentParser:
        made = verb(name, _ask, text)
        made.add_argument("--why", default="", metavar="TEXT", help="for the audit trail")
        made.set_defaults(kind=name, number=None)
        return made

    listing = verb("list", _list, "every version, * where it answers")
    listing.add_argument("--json", action="store_true", help="one JSON object a line")
    show = verb("show", _show, "all that is known of a version, as JSON")
    show.add_argument("number", type=_number, metavar="N")
    asking("rollback", "let version N answer again; 0 is the model as it was trained").add_argument(
        "number", type=_number, metavar="N"
    )
    for name, text in (
        ("pin", "keep version N whatever its age"),
        ("unpin", "let version N go when it is one of the oldest"),
    ):
        asking(name, text).add_argument("number", type=_number, metavar="N")
    asking("freeze", "stop learning; what answers goes on answering")
    asking("resume", "learn again")
    asking("reset", "back to the model as it was trained, and learn from there")
    export = verb("export", _export, "write a version to a file, for another station or machine")
    export.add_argument("number", type=_number, metavar="N")
    where = export.add_mutually_exclusive_group(required=True)
    where.add_argument("--out", type=Path, metavar="FILE")
    where.add_argument("file", type=Path, nargs="?", metavar="FILE", help="the same as --out FILE")
    export.add_argument("--force", action="store_true", help="replace FILE")
    trail = verb(
        "verify", _verify, "check every version and the audit trail; exit code 1 where one was changed"
    )
    trail.add_argument(
        "--head", metavar="HASH", help="hash that the trail's last line must have, kept elsewhere"
    )
    take_in = verb("import", _import, "take in a version from a file; it does not answer by itself")
    take_in.add_argument("file", type=Path, metavar="FILE")
    take_in.add_argument("--any-recipe", action="store_true", help="also if made for another recipe")
    take_in.add_argument("--activate", action="store_true", help="ask the agent to let it answer")
    take_in.add_argument("--why", default="", metavar="TEXT", help="for the audit trail, with --activate")


def _list(arguments: argparse.Namespace) -> int:
    from adapters.core.adapter import AdapterFileError
    from adapters.core.version_store import UnknownVersion
    from agent.versions.learner_memory import Memory

    store = target_of(arguments).store()
    answers = store.active()
    active, frozen_by = answers.number, Memory.read(answers.learner).frozen_by
    rows: list[dict[str, Any]] = [{"number": 0, "active": active == 0, "origin": "source"}]
    for number in store.numbers():
        row: dict[str, Any] = {"number": number, "active": number == active, "pinned": number in store.pinned}
        try:
            rows.append({**row, **store.load(number).facts()})
        except UnknownVersion:  # the agent removed it a moment ago
            continue
        except AdapterFileError as error:
            rows.append({**row, "damaged": str(error)})
    for row in rows:
        if row["active"] and frozen_by is not None:
            row["frozen_by"] = frozen_by
    if arguments.json:
        for row in rows:
            put(as_json(row))
        return EXIT_OK
    put(f"  {'N':>6}  {'origin':8}  {'made at':24}  {'parent':>6}  {'offset':>8}  frames")
    for row in rows:
        frozen = f"  frozen by {row['frozen_by']}" if "frozen_by" in row else ""
        put(f"{_line(row)}{frozen}")
    return EXIT_OK


def _line(row: dict[str, Any]) -> str:
    start = f"{'*' if row['active'] else ' '} {row['number']:>6}  "
    if "damaged" in row:
        return f"{start}cannot be used: {row['damaged']}"
    if row["number"] == 0:
        return f"{start}{row['origin']}"
    window = row["window"]
    return (
        f"{start}{row['origin']:8}  {row['made_at']:24}  {row['parent']:>6}  {row['offset']:>8.3f}"
        f"  {window['count']} of {window['first']}-{window['last']}{'  pinned' if row['pinned'] else ''}"
    )


def _show(arguments: argparse.Namespace) -> int:
    place = target_of(arguments)
    store = place.store()
    if arguments.number == 0:
        facts: dict[str, Any] = {"number": 0, "origin": "source"}
    else:
        facts = place.load(store, arguments.number).facts()
    active = store.active()
    here = active.number == arguments.number
    facts |= {
        "active": here,
        "since": active.since if here else None,
        "pinned": arguments.number in store.pinned,
    }
    put_text(as_json(facts, indent=2) + "\n")
    return EXIT_OK


def _ask(arguments: argparse.Namespace) -> int:
    place = target_of(arguments)
    if arguments.number == 0 and arguments.kind in ("pin", "unpin"):
        raise UsageError("0 is the model as it was trained: it is always there")
    if arguments.number:  # 0, the source, is always there
        place.load(place.store(), arguments.number)
    place.request(arguments.kind, arguments.number, arguments.why)
    return EXIT_OK


def _export(arguments: argparse.Namespace) -> int:
    from adapters.core.adapter import AdapterFileError

    place, file = target_of(arguments), arguments.out or arguments.file
    if file.exists() and not arguments.force:
        raise UsageError(f"{file}: is there already: choose another name, or --force")
    if arguments.number == 0:
        raise UsageError(
            "0 is the model as it was trained: it has no file, every agent with this model has it"
        )
    store = place.store()
    place.load(store, arguments.number)
    try:
        version = store.export(arguments.number, file)
    except OSError as error:
        raise UsageError(f"{file}: cannot be written: {error.strerror or error}") from error
    except AdapterFileError as error:
        raise ConfigError([str(error)]) from error
    say(f"{file}: version {version.number} of {place.station}, {version.digest}")
    return EXIT_OK


def _import(arguments: argparse.Namespace) -> int:
    from adapters.core.adapter import AdapterFileError
    from adapters.core.version_store import OtherRecipe
    from agent.base.data_dir import require_owner
    from agent.config.recipes import find_recipe

    place = target_of(arguments)
    recipe = find_recipe(place.config.stations[place.station].recipe, place.config.recipes)
    store = place.store()
    require_owner(place.data, "adapter")
    try:
        version = store.add(arguments.file, recipe.words, any_recipe=arguments.any_recipe)
    except OtherRecipe as error:
        raise UsageError(f"{error}; --any-recipe takes it all the same") from error
    except AdapterFileError as error:
        raise UsageError(str(error)) from error
    except OSError as error:
        raise StoreError(f"{store.folder}: cannot be written: {error.strerror or error}") from error
    put(str(version.number))
    say(f"{arguments.file}: is version {version.number} of {place.station} now; it does not answer yet")
    place.request("imported", version.number, arguments.why or f"from {arguments.file.name}")
    if arguments.activate:
        place.request("activate", version.number, arguments.why)
    return EXIT_OK


def _verify(arguments: argparse.Namespace) -> int:
    from adapters.core.adapter import AdapterError
    from adapters.core.version_store import UnknownVersion
    from agent.audit.hash_chain import verify

    place = target_of(arguments)
    store = place.store()
    problems = list(store.found)
    for number in store.numbers():
        try:
            store.load(number)
        except UnknownVersion:
            continue  # the agent removed one of the oldest meanwhile
        except AdapterError as error:
            problems.append(str(error))
    trail = place.folder / "audit.jsonl"
    try:
        report = verify(trail, arguments.head)
    except FileNotFoundError:
        raise UsageError(f"{trail}: is not there: {place.station} has learned nothing yet") from None
    except OSError as error:
        raise StoreError(f"{trail}: cannot be read: {error.strerror or error}") from error
    for line in (*problems, *report.problems):
        put(line)
    put(f"{place.station}: {len(store.numbers())} versions, {report.lines} lines, head {report.head}")
    return EXIT_CHECK_FAILED if problems or report.problems else EXIT_OK


def _number(text: str) -> int:
    return number_from(int, text, lambda number: number >= 0, "is not the number of a version")
