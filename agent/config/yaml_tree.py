"""A YAML text as a tree: values that know the lines where they stand. `yaml_reader` makes it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeAlias

from agent.base.errors import AgentError

Path = tuple[str | int, ...]
Scalar = str | int | float | bool | None
Data: TypeAlias = "Scalar | list[Data] | dict[str, Data]"
"""A value without its places, as JSON knows it."""

Place = tuple[int, Path]
"""Line and path."""


@dataclass(frozen=True, slots=True)
class Node:
    """One value with the place where it stands.

    Attributes:
        line: counted from 1; of a value in a mapping the line of its key.
        path: keys and indexes from the root to where the value, or its alias, is written.
        anchor: name that it may be called by elsewhere.
        origin: of an alias, line and path of what it stands for.
    """

    value: Scalar | list[Node] | dict[str, Node]
    line: int
    path: Path
    anchor: str | None = None
    origin: Place | None = None

    def problem(self, path: Path, what: str) -> Problem:
        """Return what is wrong at `path`, with the place where it is written, or would have to be added.

        Within an alias that is the place of the alias: what it stands for may be good where it is written.
        """
        node, origin, rest = self, self.origin, path
        used: Place | None = None
        for depth, part in enumerate(path):
            child = node._child(part)
            if child is None:
                break
            node, rest, origin = child, path[depth + 1 :], child.origin
            if node.origin and used is None:
                used = node.line, (*node.path, *rest)
        line, start = origin or (node.line, node.path)
        written = line, (*start, *rest)
        return Problem(*written, what) if used is None else Problem(*used, what, written)

    def get(self, path: Path) -> Node | None:
        """Return the node at `path`, or None where nothing is written."""
        node: Node | None = self
        for part in path:
            node = node._child(part) if node else None
        return node

    def plain(self, text: Callable[[Node, Path], Scalar] | None = None, at: Path = ()) -> Data:
        """Return the value without its places.

        Args:
            text: what to take for a node that is text, instead of its value; given too is where it stands in
                this tree, which may be another place than where it is written.
            at: path of this node.
        """
        if isinstance(self.value, dict):
            return {key: node.plain(text, (*at, key)) for key, node in self.value.items()}
        if isinstance(self.value, list):
            return [node.plain(text, (*at, number)) for number, node in enumerate(self.value)]
        return text(self, at) if text and isinstance(self.value, str) else self.value

    def _child(self, part: str | int) -> Node | None:
        if isinstance(self.value, dict):
            return self.value.get(str(part))
        if isinstance(self.value, list) and isinstance(part, int) and part < len(self.value):
            return self.value[part]
        return None


def with_value(tree: Data, path: Path, value: Data) -> Data:
    """Return `tree` with another value at `path`; the mappings that lead there exist."""
    if not path:
        return value
    assert isinstance(tree, dict)
    key = str(path[0])
    return {**tree, key: with_value(tree[key], path[1:], value)}


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong at one place.

    Attributes:
        path: where it is wrong; empty where the text as a whole is.
        what: ``what: hint``, on one line.
        origin: where that is written which an alias brings to this place.
    """

    line: int
    path: Path
    what: str
    origin: Place | None = None


class YamlError(AgentError):
    """The text gives no tree at all; says why as one `Problem`."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        super().__init__(problem.what)


def merged(base: Node, over: Node) -> Node:
    """Return `over` with what only `base` says: maps merge, everything else is replaced.

    Two maps that are of different `kind` or `mode` have nothing in common: `over` stands alone.
    """
    if not isinstance(base.value, dict) or not isinstance(over.value, dict):
        return over
    for tag in ("kind", "mode"):
        ours, theirs = base.value.get(tag), over.value.get(tag)
        if ours and theirs and ours.value != theirs.value:
            return over
    both = {
        key: merged(base.value[key], node) if key in base.value else node for key, node in over.value.items()
    }
    return replace(over, value={**base.value, **both})
