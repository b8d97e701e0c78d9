"""`mekiki store`: look whether what is stored is whole, delete of it, and write it to files for others."""

from __future__ import annotations

import argparse
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from agent.base.errors import EXIT_CHECK_FAILED, EXIT_OK, StoreError, UsageError
from agent.cli.arguments import add_verb, number_from
from agent.cli.output import put, say


def add_parser(commands: Any, default_config: str) -> None:
    """Add `store` and its verbs to the subparsers of `mekiki`."""
    parser = commands.add_parser("store", help="results, labels and pictures: check, delete, export")
    verbs = parser.add_subparsers(required=True, metavar="VERB")

    def verb(name: str, command: Any, text: str) -> argparse.ArgumentParser:
        return add_verb(verbs, name, command, text, default_config)

    verb("check", _check, "is all of it whole? exit code 1 where not; the agent may run")

    purge = verb("purge", _purge, "delete results with their labels and pictures; the agent must not run")
    purge.add_argument("--before", type=_moment, metavar="DATE", help="decided before this, UTC")
    purge.add_argument("--keep-days", type=_days, metavar="N", help="decided more than N days ago")
    purge.add_argument("-s", "--station", metavar="NAME", help="of this station alone; by itself: all of it")
    purge.add_argument("--images-only", action="store_true", help="keep results and labels")
    purge.add_argument("--dry-run", action="store_true", help="say what would go; deletes nothing")
    purge.add_argument("--yes", action="store_true", help="do not ask")

    export = verb("export", _export, "one row per result; the agent may run")
    export.add_argument("--format", choices=("csv", "parquet"), default="csv", help="default: %(default)s")
    export.add_argument("--out", type=Path, required=True, metavar="FILE")
    export.add_argument("-s", "--station", metavar="NAME")
    export.add_argument("--from", dest="first", type=_moment, metavar="DATE", help="decided then or later")
    export.add_argument("--to", dest="last", type=_moment, metavar="DATE", help="decided before this")
    export.add_argument("--verdict", choices=("pass", "fail", "unsure", "not_inspected"))
    export.add_argument("--force", action="store_true", help="replace FILE")


def _check(arguments: argparse.Namespace) -> int:
    from agent.store.database import Damaged
    from agent.store.integrity import check
    from agent.versions.operator_requests import agent_runs

    data = _data(arguments)
    if agent_runs(data):
        say(f"{data}: an agent is at work; this is one moment of it")
    try:
        found = check(data)
    except Damaged as error:
        put(f"{error}: the agent puts it aside when it starts, and goes on with what can be read")
        return EXIT_CHECK_FAILED
    for line in (*found.facts, *found.problems):
        put(line)
    put("well" if not found.problems else f"{len(found.problems)} problems")
    return EXIT_CHECK_FAILED if found.problems else EXIT_OK


def _purge(arguments: argparse.Namespace) -> int:
    from agent.audit.hash_chain import Audit
    from agent.base.data_dir import lock_folder, require_owner
    from agent.store.purge import Purge, purge, would_go
    from agent.versions.operator_requests import agent_runs, requester

    if arguments.before is not None and arguments.keep_days is not None:
        raise UsageError("--before and --keep-days say the same: give one of them")
    if arguments.before is None and arguments.keep_days is None and arguments.station is None:
        raise UsageError("what is to go? --before DATE, --keep-days N or --station NAME")
    before = arguments.before
    if arguments.keep_days is not None:
        before = datetime.now(UTC) - timedelta(days=arguments.keep_days)
    options = Purge(before, arguments.station, arguments.images_only)
    data = _data(arguments)
    going = would_go(data, options)
    if not going.results:
        _say_unknown(arguments)
    what = f"{going.results} results, {going.images} pictures ({going.image_bytes / 1e6:.1f} MB)"
    if going.waiting:
        what += f"; {going.waiting} of the results have not been delivered yet"
    if arguments.dry_run or not (going.results or going.images):
        put(f"would go: {what}")
        return EXIT_OK
    if agent_runs(data):
        raise StoreError(
            f"{data}: an agent is at work: stop it for the time, or set storage.keep_days, which it obeys"
        )
    require_owner(data, "store")
    if not arguments.yes and not _agreed(f"delete {what}?"):
        return EXIT_CHECK_FAILED
    with lock_folder(data):
        audit = Audit("", data / "audit.jsonl")
        try:
            # Before it is done: what is gone without a line would be worse than a line of what is not gone.
            audit.append(
                datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
                "purge",
                actor=requester(),
                why=f"mekiki store purge: {what}",
                before={"results": going.results, "images": going.images},
                after={
                    "before": None if before is None else before.isoformat(),
                    "station": arguments.station,
                    "images_only": arguments.images_only,
                },
            )
        except OSError as error:
            raise StoreError(
                f"{data}: audit.jsonl: {error.strerror or error}: nothing was deleted"
            ) from error
        purge(data, options, say if sys.stderr.isatty() else lambda line: None)
    put(f"gone: {what}")
    return EXIT_OK


def _export(arguments: argparse.Namespace) -> int:
    from agent.store.export import ExportOptions, export

    if arguments.out.exists() and not arguments.force:
        raise UsageError(f"{arguments.out}: is there already: choose another name, or --force")
    options = ExportOptions(arguments.station, arguments.first, arguments.last, arguments.verdict)
    rows = export(_data(arguments), arguments.out, arguments.format, options)
    say(f"{arguments.out}: {rows} results")
    if not rows:
        _say_unknown(arguments)
    return EXIT_OK


def _say_unknown(arguments: argparse.Namespace) -> None:
    """Say where a station that has no results is none of the config: its name may be misspelt."""
    from agent.config.absent import whatever_is_spared
    from agent.config.diagnostics import did_you_mean
    from agent.config.loader import load

    known = list(load(Path(arguments.config), whatever_is_spared).config.stations)
    if arguments.station is not None and arguments.station not in known:
        say(
            f"note: {arguments.config} has no station called {arguments.station!r}:"
            f" {did_you_mean(arguments.station, known)}"
        )


def _data(arguments: argparse.Namespace) -> Path:
    from agent.config.absent import whatever_is_spared
    from agent.config.loader import load
    from agent.store.database import NAME

    data = Path(load(Path(arguments.config), whatever_is_spared).config.agent.data_dir)
    if not (data / NAME).exists():
        raise UsageError(f"{data / NAME}: is not there: no agent has run with this config yet")
    return data


def _agreed(question: str) -> bool:
    if sys.stdin is None or not sys.stdin.isatty():
        raise UsageError(f"{question} nobody is there to ask: --yes, or --dry-run to see what would go")
    say(f"{question} [y/N]")
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text} is no date: 2026-11-30 or 2026-11-30T08:00:00Z") from None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def _days(text: str) -> float:
    return number_from(float, text, lambda days: 0 <= days < 100_000, "is no number of days")
