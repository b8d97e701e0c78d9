"""YAML text, read within limits into a tree that knows its lines.

PyYAML's own constructors follow YAML 1.1, where ``no`` is false and ``12:30`` a number, let the last of
two equal keys win, and expand aliases without a limit. Here the core schema of YAML 1.2 holds
(https://yaml.org/spec/1.2.2/#103-core-schema), equal keys are a problem, and size and depth are bounded.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import yaml

from agent.config.yaml_tree import Node, Path, Problem, Scalar, YamlError

MAX_BYTES = 4 * 1024 * 1024
MAX_DEPTH = 32
MAX_COST = 16 * 1024 * 1024
"""Limit of the tree with its aliases expanded: `_NODE_COST` for each node and one for each character."""

_NODE_COST = 32
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_CONSTANTS = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_NO_TEXT = re.compile("[\0\ud800-\udfff]")  # what escapes in quotes can make
_INT = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(
    r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"
)


def parse(text: str) -> tuple[Node, list[Problem]]:
    """Return the tree of one YAML document, and what is wrong in places that do not stop the reading.

    Raises:
        YamlError: it is empty, not YAML, more than one document, or beyond a limit.
    """
    composer = _Composer(text)
    try:
        return composer.document(), composer.problems
    except yaml.reader.ReaderError as error:
        line = text.encode()[: error.position].count(b"\n") + 1
        raise YamlError(Problem(line, (), "not valid YAML: a control character: remove it")) from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        tab = any(re.match(r" *\t", wrong) for wrong in text.split("\n")[line - 1 : line])
        what = "a tab: indent with spaces" if tab else _unquoted(f"{error.problem or error.context}")
        raise YamlError(Problem(line, (), f"not valid YAML: {what}")) from error


def is_text(plain: str) -> bool:
    """Whether `plain`, written without quotes, is read as text."""
    return plain not in _CONSTANTS and not _INT.fullmatch(plain) and not _FLOAT.fullmatch(plain)


class _Composer:
    """Builds the tree from the parser's events, and stops at the first limit.

    Aliases share the node of their anchor, but cost as much as if it were written again.
    """

    def __init__(self, text: str) -> None:
        self._events: Iterator[yaml.Event] = yaml.parse(text, Loader=_LOADER)
        self._anchors: dict[str, tuple[Node, int]] = {}
        self._cost = 0
        self.problems: list[Problem] = []

    def document(self) -> Node:
        next(self._events)  # start of the stream
        start = next(self._events)
        if isinstance(start, yaml.StreamEndEvent):
            raise YamlError(Problem(1, (), "is empty: start from the config.yaml that ships with the agent"))
        root = self._node(next(self._events), ())
        next(self._events)  # end of the document
        after = next(self._events)
        if not isinstance(after, yaml.StreamEndEvent):
            line = _line_of(after)
            raise YamlError(Problem(line, (), "a second document starts here: keep one, without ---"))
        return root

    def _node(self, event: yaml.Event, path: Path, line: int | None = None) -> Node:
        line = line or _line_of(event)
        if len(path) > MAX_DEPTH:
            raise YamlError(Problem(line, (), f"nested deeper than {MAX_DEPTH} levels"))
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event, path, line)
        assert isinstance(event, yaml.ScalarEvent | yaml.CollectionStartEvent)
        before = self._cost
        self._spend(_NODE_COST, line)
        if event.tag is not None and event.tag != "!":
            # Not shown: a password may begin with an exclamation mark, and so with an asterisk.
            what = "a tag: tags are not used here: remove it; text that begins with ! stands in quotes"
            self.problems.append(Problem(line, path, what))
        if isinstance(event, yaml.ScalarEvent):
            self._spend(len(event.value), line)
            node = Node(self._scalar(event, path, line), line, path)
        elif isinstance(event, yaml.SequenceStartEvent):
            node = Node(self._list(path), line, path)
        else:
            node = Node(self._mapping(path), line, path)
        if event.anchor:
            node = replace(node, anchor=event.anchor)
            self._anchors[event.anchor] = (node, self._cost - before)
        return node

    def _alias(self, event: yaml.AliasEvent, path: Path, line: int) -> Node:
        if event.anchor not in self._anchors:
            what = "an alias stands before the end of its anchor, or has none"
            raise YamlError(
                Problem(line, (), f"not valid YAML: {what}; text that begins with * stands in quotes")
            )
        node, cost = self._anchors[event.anchor]
        self._spend(cost, line)
        return _used(node, path, line)

    def _list(self, path: Path) -> list[Node]:
        items: list[Node] = []
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            items.append(self._node(event, (*path, len(items))))
        return items

    def _mapping(self, path: Path) -> dict[str, Node]:
        entries: dict[str, Node] = {}
        merges: list[Node] = []
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            line = _line_of(event)
            if not isinstance(event, yaml.ScalarEvent):
                raise YamlError(Problem(line, path, "a key should be text"))
            key = self._text(event.value, path, line)
            self._spend(len(key), line)
            node = self._node(next(self._events), (*path, key), line)
            if key == "<<" and event.implicit[0]:
                what = "a merge key: those are not used here: write out what it brings"
                brought = node.value if isinstance(node.value, list) else [node]
                origin = next((one.origin for one in brought if one.origin), None)
                self.problems.append(Problem(line, (*path, key), what, origin))
                merges += brought
            elif key in entries:
                first = entries[key].line
                self.problems.append(Problem(line, (*path, key), f"stands here twice: first in line {first}"))
            else:
                entries[key] = node
        # As it was meant, so that nothing else is told to be missing.
        for merge in merges:
            if isinstance(merge.value, dict):
                used = {key: _used(one, (*path, key), merge.line) for key, one in merge.value.items()}
                entries = used | entries
        return entries

    def _scalar(self, event: yaml.ScalarEvent, path: Path, line: int) -> Scalar:
        text = self._text(event.value, path, line)
        if not event.implicit[0]:  # quoted, or a block
            return text
        if text in _CONSTANTS:
            return _CONSTANTS[text]
        if is_text(text):
            return text
        number = _number(text)
        if number is None:
            self.problems.append(Problem(line, path, "should be a number of usual size"))
        return number

    def _text(self, text: str, path: Path, line: int) -> str:
        if not _NO_TEXT.search(text):
            return text
        self.problems.append(Problem(line, path, "holds a character that is no text: remove it"))
        return _NO_TEXT.sub("?", text)

    def _spend(self, cost: int, line: int) -> None:
        self._cost += cost
        if self._cost > MAX_COST:
            raise YamlError(Problem(line, (), "too much in it, aliases counted each time: make it smaller"))


def _used(node: Node, path: Path, line: int) -> Node:
    """Return a node where an alias brings it to."""
    return replace(node, line=line, path=path, origin=node.origin or (node.line, node.path))


def _unquoted(problem: str) -> str:
    """Return what PyYAML says without what it quotes of the file, but for single characters and its terms."""
    return re.sub(r"(['\"])(?!<)(?!.\1).*\1", "text", problem)


def _line_of(event: yaml.Event) -> int:
    return event.start_mark.line + 1 if event.start_mark else 1


def _number(text: str) -> int | float | None:
    """Return the number that `text` is, None for an infinite one or one of more than 64 bits."""
    if not _INT.fullmatch(text):
        number = float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
        return number if math.isfinite(number) else None
    if len(text) > 24:
        return None
    whole = int(text, 0) if text[:2] in ("0o", "0x") else int(text)
    return whole if abs(whole) < 2**63 else None
