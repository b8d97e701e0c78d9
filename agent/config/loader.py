"""config.yaml from text to `Config`: every problem at once, each as ``file:line: key.path: what: hint``.

The text becomes a tree that knows its lines, `station_defaults` goes under every station, references are
resolved, and only then the models look at it. What is printed and what the digest covers is the tree as
it was written, so a secret has no way into either.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field, JsonValue, ValidationError

from agent.base.errors import ConfigError
from agent.base.secret_refs import without_references
from agent.config import absent, cross_checks, migrations, yaml_reader, yaml_tree
from agent.config.absent import Absent, Excuse
from agent.config.diagnostics import SHARED, kind_of, problems_of, shown
from agent.config.models import Config
from agent.config.voting import hidden_part_problems, voting_problems
from agent.config.watched_folders import watching_problems
from agent.config.yaml_tree import Data, Node, Problem, YamlError
from camera.core.address import MASK

MAX_PROBLEMS = 100
_PYDANTIC_MASK = "**********"
_PLAIN_KEY = re.compile(r"[\w-]{1,64}")
# Where the blank behind a colon is missing, the value is a part of the key.
_VALUE_IN_KEY = re.compile(r"[:=@].*", re.DOTALL)
# A device, a file, or a URL whose user and password were references. Anything else may hold a password:
# cameras take it in the path as well as in the query.
_HARMLESS_SOURCE = re.compile(r"[\w./ -]+|\w+://:?@[\w.-]+(:\d+)?(/[\w./-]*)?")


class _ConfigFile(Config):
    """Config as it may be written: with defaults that every station starts from."""

    station_defaults: dict[str, JsonValue] = Field(
        default_factory=dict, description="a part of a station that all start from; maps merge, lists replace"
    )


@dataclass(frozen=True, slots=True)
class Loaded:
    """A config with where it came from.

    Attributes:
        digest: ``sha256:...`` of the effective config, defaults included, secrets as their references.
        text: the file, as it was read.
        effective: what `print_config` prints: no value of a reference, no secret.
        absent: what it names and cannot be had now, where that was excused.
    """

    config: Config
    digest: str
    path: Path
    text: str = field(repr=False)
    effective: Data = field(repr=False)
    _tree: Node = field(repr=False)
    absent: tuple[Absent, ...] = ()

    def lacking(self, *prefix: str) -> Absent | None:
        """Return what cannot be had now of the settings below `prefix`; None where nothing lacks."""
        found = (one for one in self.absent if one.path[: len(prefix)] == prefix)
        # One that has no value at all says more than one whose file is missing.
        return min(found, key=lambda one: not one.reference, default=None)

    def says(self, *path: str) -> bool:
        """Whether a setting stands in the file, where it could stand with its default."""
        node: Node | None = self._tree
        for key in path:
            node = node.value.get(key) if node is not None and isinstance(node.value, dict) else None
        return node is not None

    def unchanged(self, path: yaml_tree.Path, node: Node) -> bool:
        """Excuse what cannot be had where another file says the same; see `agent.config.absent`."""
        return absent.unchanged(self._tree)(path, node)

    def but(self, config: Config, effective: Data, missing: tuple[Absent, ...] | None = None) -> Loaded:
        """Return what is in force where that is not all that the file says, and what is missing of it."""
        gone = self.absent if missing is None else missing
        return replace(self, config=config, effective=effective, digest=_digest(effective), absent=gone)

    def problem(self, path: yaml_tree.Path, what: str) -> str:
        """Return ``file:line: key.path: what`` for something that came to light only after loading."""
        return _line(self.path, self._tree.problem(path, what))


def load(path: Path, excuse: Excuse = absent.nothing) -> Loaded:
    """Read, check and resolve the config file at `path`.

    Args:
        path: of the file.
        excuse: what may be missing of the things that it names.

    Raises:
        ConfigError: with all that is wrong; nothing of it was started.
    """
    return load_text(read_text(path), path, excuse)


def load_text(text: str, path: Path, excuse: Excuse = absent.nothing) -> Loaded:
    """Check and resolve what stands, or stood, in the config file at `path`; see `load`."""
    folder = path.absolute().parent
    tree, problems = _tree(text, path)
    search = absent.Search(excuse, folder)
    data = tree.plain(search.resolved)
    problems += search.unresolved
    lost = search.without_a_value()
    unresolved = {problem.path for problem in (*problems, *lost)}
    others = [
        *search.missing(tree, cross_checks.missing(data, tree, folder)),
        *cross_checks.problems(data, tree),
    ]
    try:
        config = Config.model_validate_json(json.dumps(data, allow_nan=False))
    except ValidationError as error:
        found = problems_of(error, _ConfigFile, tree) + others
        problems += [problem for problem in found if not unresolved & set(_paths(problem))]
        # Of what has no value nothing is excused that the other settings need.
        problems += lost
        raise ConfigError(_lines(path, problems)) from None  # its text shows resolved values
    problems += others
    if not problems:  # every recipe is there
        found_later = [
            *hidden_part_problems(config),
            *voting_problems(config),
            *watching_problems(cross_checks.anchored(config, folder)),
        ]
        problems += [tree.problem(where, what) for where, what in found_later]
    if problems:
        raise ConfigError(_lines(path, problems))
    effective = _as_written(config.model_dump(mode="json"), tree, ())
    gone = tuple(
        Absent(at, _line(path, problem), reference) for at, (problem, reference) in search.excused.items()
    )
    return Loaded(
        cross_checks.anchored(config, folder), _digest(effective), path, text, effective, tree, gone
    )


def _tree(text: str, path: Path) -> tuple[Node, list[Problem]]:
    """Return the settings as they are written, defaults of stations within, and what is wrong with them."""
    try:
        tree, problems = yaml_reader.parse(text)
    except YamlError as error:
        raise ConfigError([_line(path, error.problem)]) from None
    if not isinstance(tree.value, dict):
        what = f"should be a mapping of settings, is {kind_of(tree.value)}"
        raise ConfigError([_line(path, Problem(tree.line, (), what))])
    tree, migrated = migrations.up_to_date(tree)
    tree, found = _with_station_defaults(tree)
    return tree, [*problems, *migrated, *found]


def print_config(loaded: Loaded) -> str:
    """Return the effective config as YAML; `load` reads it back as the same, but for masked secrets."""
    return str(yaml.dump(loaded.effective, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=1000))


def schema() -> dict[str, Any]:
    """Return the JSON Schema of config.yaml, for editors."""
    made = _ConfigFile.model_json_schema()
    models = made["$defs"]
    # A station may leave to station_defaults what its models need, and either may hold a part of a map.
    for name in ("Station", "OpenCVCamera", "FolderCamera", "Interval"):
        del models[name]["required"]
    station = models["Station"]["properties"]
    for key in ("camera", "trigger"):
        del station[key]["discriminator"]
        station[key]["anyOf"] = station[key].pop("oneOf")
    models["OpenCVCamera"]["properties"]["source"]["type"] = ["string", "integer"]
    made["properties"]["station_defaults"] = {
        "$ref": "#/$defs/Station",
        "description": made["properties"]["station_defaults"]["description"],
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **made,
        "title": "Mekiki config.yaml",
        "description": "Settings of the inspection agent.",
    }


class _Dumper(yaml.SafeDumper):
    """Quotes what `yamltree` would not read back as text."""


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = None if yaml_reader.is_text(text) else "'"
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _represent_text)


def _digest(effective: Data) -> str:
    canonical = json.dumps(effective, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return f"sha256:{hashlib.sha256(canonical.encode()).hexdigest()}"


def read_text(path: Path) -> str:
    """Return a config file as text.

    Raises:
        ConfigError: it cannot be read, is too large or not UTF-8.
    """
    try:
        with path.open("rb") as file:
            content = file.read(yaml_reader.MAX_BYTES + 1)
    except OSError as error:
        raise ConfigError([f"{path}:1: cannot be read: {error.strerror}: name a config file"]) from error
    if len(content) > yaml_reader.MAX_BYTES:
        limit = yaml_reader.MAX_BYTES // 1024**2
        raise ConfigError([f"{path}:1: larger than {limit} MiB: make it smaller"])
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise ConfigError([f"{path}:{line}: not UTF-8: save it as UTF-8"]) from error


def _with_station_defaults(tree: Node) -> tuple[Node, list[Problem]]:
    """Return the tree with its `station_defaults` merged under each station."""
    entries = dict(tree.value) if isinstance(tree.value, dict) else {}
    defaults, stations = entries.pop("station_defaults", None), entries.get("stations")
    if defaults is None:
        return tree, []
    if not isinstance(defaults.value, dict):
        what = f"should be a mapping of keys, is {kind_of(defaults.value)}"
        return replace(tree, value=entries), [Problem(defaults.line, defaults.path, what)]
    if stations is not None and isinstance(stations.value, dict):
        full = {name: yaml_tree.merged(defaults, station) for name, station in stations.value.items()}
        entries["stations"] = replace(stations, value=full)
    return replace(tree, value=entries), []


def _as_written(value: Data, node: Node | None, path: yaml_tree.Path) -> Data:
    """Return a dumped `value` with every text as it stands in the file, and literal secrets masked."""
    written = node.value if node else None
    if isinstance(value, dict):
        entries = written if isinstance(written, dict) else {}
        return {key: _as_written(item, entries.get(key), (*path, key)) for key, item in value.items()}
    if isinstance(value, list):
        nodes = written if isinstance(written, list) else []
        return [_as_written(item, each, path) for item, each in zip_longest(value, nodes)]
    if value == _PYDANTIC_MASK:
        return MASK if _holds_secret(str(written), path) else str(written)
    return written if isinstance(written, str) else value


def _holds_secret(written: str, path: yaml_tree.Path) -> bool:
    """Whether a secret field has to be masked: it holds more than references and a harmless address."""
    literal = without_references(written)
    return bool(literal) and not (path[-2:] == ("camera", "source") and _HARMLESS_SOURCE.fullmatch(literal))


def _lines(path: Path, problems: Sequence[Problem]) -> list[str]:
    """Return one line per problem in the order of the file, the first `MAX_PROBLEMS` of them."""
    told = {(problem.line, problem.path, problem.what) for problem in problems}
    # What is wrong where it is written already is not told again of each alias.
    once = (one for one in problems if one.origin is None or (*one.origin, one.what) not in told)
    unique = sorted(dict.fromkeys(once), key=lambda problem: problem.line)
    lines = [_line(path, problem) for problem in unique[:MAX_PROBLEMS]]
    if len(unique) > MAX_PROBLEMS:
        lines.append(f"{path}:{unique[MAX_PROBLEMS].line}: more problems follow from here: mend these first")
    return lines


def _line(path: Path, problem: Problem) -> str:
    keys = _keys(problem.path)
    what = problem.what
    if problem.origin is not None:
        line, written = problem.origin
        hint = f"; {SHARED}" if problem.path[:1] == ("stations",) else ""
        what += f" (here by an alias; it is written in line {line}, as {_keys(written)}{hint})"
    return f"{path}:{problem.line}: {f'{keys}: ' if keys else ''}{what}"


def _paths(problem: Problem) -> Iterator[yaml_tree.Path]:
    """Yield the places of a problem."""
    yield problem.path
    if problem.origin is not None:
        yield problem.origin[1]


def _keys(path: yaml_tree.Path) -> str:
    return ".".join(_key(str(part)) for part in path)


def _key(key: str) -> str:
    return key if _PLAIN_KEY.fullmatch(key) else shown(_VALUE_IN_KEY.sub("...", key))
