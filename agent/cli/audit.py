"""`mekiki audit`: are the trails whole, and write them to a file for auditors; offline, also on copies."""

from __future__ import annotations

import argparse
import csv
import heapq
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

from adapters.files.strict_json import loads
from agent.base.errors import EXIT_CHECK_FAILED, EXIT_OK, StoreError, UsageError
from agent.cli.arguments import add_verb
from agent.cli.output import put, say

TRAIL = "audit.jsonl"
AGENT = "agent"
"""How the agent's own trail is called beside those of the stations."""

_COLUMNS = (
    "at", "trail", "line", "station", "actor", "event", "why", "before", "after", "numbers", "prev_hash",
    "hash",
)  # fmt: skip


def add_parser(commands: Any, default_config: str) -> None:
    """Add `audit` and its verbs to the subparsers of `mekiki`."""
    parser = commands.add_parser("audit", help="who changed what and when: verify the trails, export them")
    verbs = parser.add_subparsers(required=True, metavar="VERB")

    def verb(name: str, command: Any, text: str) -> argparse.ArgumentParser:
        made = add_verb(verbs, name, command, text, default_config)
        made.add_argument(
            "path",
            nargs="?",
            type=Path,
            metavar="PATH",
            help="a trail, or a folder with trails, such as a copy",
        )
        return made

    verify = verb("verify", _verify, "find changed, missing, added and moved lines; exit code 1 where any is")
    verify.add_argument(
        "--head",
        action="append",
        default=[],
        metavar="[TRAIL=]HASH",
        help="hash that a trail's last line must have, kept elsewhere; finds lines cut off at the end",
    )
    export = verb("export", _export, "all trails in the order of time, each row with its place and hash")
    export.add_argument("--format", choices=("csv", "json"), default="csv", help="default: %(default)s")
    export.add_argument("--out", type=Path, required=True, metavar="FILE")
    export.add_argument("--from", dest="first", type=_moment, metavar="DATE", help="then or later, UTC")
    export.add_argument("--to", dest="last", type=_moment, metavar="DATE", help="before this, UTC")
    export.add_argument("--force", action="store_true", help="replace FILE")


def trails(path: Path) -> dict[str, Path]:
    """Return the trails below a data folder, a station's folder or a copy of either, by name."""
    if path.is_file():
        return {path.parent.name or AGENT: path}
    found = {AGENT: path / TRAIL} if (path / TRAIL).exists() else {}
    below = path / "stations" if (path / "stations").is_dir() else path
    found |= {file.parent.name: file for file in sorted(below.glob(f"*/{TRAIL}"))}
    # Of a station's other products, and of the golden samples of each: a trail each.
    products = (*sorted(below.glob(f"*/recipes/*/{TRAIL}")), *sorted(path.glob(f"recipes/*/{TRAIL}")))
    found |= {f"{file.parents[2].name}/{file.parent.name}": file for file in products}
    golden = (*below.glob(f"*/golden/{TRAIL}"), *below.glob(f"*/recipes/*/golden/{TRAIL}"))
    return found | {_golden(file): file for file in sorted(golden)}


def _golden(file: Path) -> str:
    """Return the name of a trail of golden samples: ``top/golden`` or ``top/housing/golden``."""
    names = [one.name for one in file.parents[:4]]
    return f"{names[3]}/{names[1]}/golden" if names[2] == "recipes" else f"{names[1]}/golden"


def _verify(arguments: argparse.Namespace) -> int:
    from agent.audit.hash_chain import verify

    found = _found(arguments)
    heads = _heads(arguments.head, found)
    well = True
    for name, file in found.items():
        try:
            report = verify(file, heads.get(name))
        except OSError as error:
            raise StoreError(f"{file}: cannot be read: {error.strerror or error}") from error
        for line in report.problems:
            put(line)
        put(f"{name}: {report.lines} lines, head {report.head}{'' if report.ok else ': NOT WHOLE'}")
        well = well and report.ok
    return EXIT_OK if well else EXIT_CHECK_FAILED


def _export(arguments: argparse.Namespace) -> int:
    if arguments.out.exists() and not arguments.force:
        raise UsageError(f"{arguments.out}: is there already: choose another name, or --force")
    first, last = (None if m is None else _timestamp(m) for m in (arguments.first, arguments.last))
    # Each trail is in the order of time: merging them needs one line of each in memory.
    rows = heapq.merge(
        *(_rows(name, file) for name, file in _found(arguments).items()), key=lambda row: row["at"]
    )
    wanted = (
        row for row in rows if (first is None or row["at"] >= first) and (last is None or row["at"] < last)
    )
    half = arguments.out.with_name(f".{arguments.out.name}.part")
    try:
        with half.open("w", encoding="utf-8", newline="") as file:
            count = (_csv if arguments.format == "csv" else _json)(file, wanted)
        half.replace(arguments.out)
    except OSError as error:
        raise UsageError(f"{arguments.out}: {error.strerror or error}") from error
    finally:
        half.unlink(missing_ok=True)
    say(f"{arguments.out}: {count} rows; whether nobody changed them says mekiki audit verify")
    return EXIT_OK


def _rows(name: str, path: Path) -> Iterator[dict[str, Any]]:
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                entry = loads(line)
                row = {key: entry.get(key) for key in _COLUMNS if key not in ("trail", "line")}
                row["at"] = str(row["at"])
            except (ValueError, AttributeError) as error:
                raise StoreError(
                    f"{path}:{number}: cannot be read: {error}: see mekiki audit verify"
                ) from error
            yield {**row, "trail": name, "line": number}


def _csv(file: TextIO, rows: Iterator[dict[str, Any]]) -> int:
    from agent.store.export import cell

    writer, count = csv.writer(file), 0
    writer.writerow(_COLUMNS)
    for row in rows:
        plain = {
            key: json.dumps(v, ensure_ascii=False, allow_nan=False) if isinstance(v, dict | list) else v
            for key, v in row.items()
        }
        writer.writerow([cell(plain[name]) for name in _COLUMNS])
        count += 1
    return count


def _json(file: TextIO, rows: Iterator[dict[str, Any]]) -> int:
    """One object a line."""
    count = 0
    for row in rows:
        file.write(
            json.dumps({name: row[name] for name in _COLUMNS}, ensure_ascii=False, allow_nan=False) + "\n"
        )
        count += 1
    return count


def _found(arguments: argparse.Namespace) -> dict[str, Path]:
    if arguments.path is not None:
        if not arguments.path.exists():
            raise UsageError(f"{arguments.path}: is not there")
        path = arguments.path
    else:
        from agent.config.absent import whatever_is_spared
        from agent.config.loader import load

        path = Path(load(Path(arguments.config), whatever_is_spared).config.agent.data_dir)
    found = trails(path)
    if not found:
        raise UsageError(f"{path}: no trail ({TRAIL}) lies there")
    return found


def _heads(given: list[str], found: dict[str, Path]) -> dict[str, str]:
    heads = {}
    for text in given:
        name, _, head = text.rpartition("=")
        if not name and len(found) > 1:
            raise UsageError(f"--head {text}: of which trail? TRAIL=HASH, with one of {', '.join(found)}")
        name = name or next(iter(found))
        if name not in found:
            raise UsageError(f"--head {text}: no trail is called {name}: there is {', '.join(found)}")
        heads[name] = head
    return heads


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text} is no date: 2026-11-30 or 2026-11-30T08:00:00Z") from None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def _timestamp(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
