"""What a config names and cannot be had now: a picture folder, a certificate, a secret kept elsewhere.

In a file that somebody edits it is a mistake. In a config that was in force before, and has not changed
there, it is not: a disk was unplugged, or is mounted later. What inspection can do without is then started
without it, and looked for again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from agent.base.secret_refs import UnresolvedError, blanked, resolve
from agent.config import yaml_tree

_SPARED = (
    ("stations", "*", "camera"),
    ("mqtt", "tls"),
    ("mqtt", "username"),
    ("mqtt", "password"),
    ("metrics", "token"),
)
"""Settings, with all below them, without which the other stations inspect; ``*`` is any name."""

Excuse = Callable[[yaml_tree.Path, yaml_tree.Node], bool]
"""Whether what is written at a path is no mistake where it cannot be had now."""


@dataclass(frozen=True, slots=True)
class Absent:
    """One thing that cannot be had now.

    Attributes:
        path: of the setting that names it.
        what: for people, ``file:line: key.path: what: hint``.
        reference: the setting has no value at all: its reference leads nowhere.
    """

    path: yaml_tree.Path
    what: str
    reference: bool


def nothing(_path: yaml_tree.Path, _node: yaml_tree.Node) -> bool:
    """Excuse nothing: for a file that is being edited."""
    return False


def whatever_it_is(_path: yaml_tree.Path, _node: yaml_tree.Node) -> bool:
    """Excuse everything: for who asks whether a file is understood, and is not where the agent will run."""
    return True


def whatever_is_spared(path: yaml_tree.Path, _node: yaml_tree.Node) -> bool:
    """Excuse everything that inspection can do without."""
    return any(_below(path, pattern) for pattern in _SPARED)


def unchanged(before: yaml_tree.Node) -> Excuse:
    """Return what excuses the same where it is written as in `before`, a config that was in force."""

    def excuse(path: yaml_tree.Path, node: yaml_tree.Node) -> bool:
        old = before.get(path)
        same = old is not None and old.value == node.value
        return same and whatever_is_spared(path, node)

    return excuse


class Search:
    """Sorts what cannot be had now into what is wrong and what is excused; for one reading of a file.

    Args:
        excuse: says which is which.
        folder: where relative paths start.

    Attributes:
        unresolved: references that lead nowhere and are not excused.
        excused: path of the setting -> what is missing, and whether it is a reference.
    """

    def __init__(self, excuse: Excuse, folder: Path) -> None:
        self.unresolved: list[yaml_tree.Problem] = []
        self.excused: dict[yaml_tree.Path, tuple[yaml_tree.Problem, bool]] = {}
        self._excuse, self._folder = excuse, folder

    def resolved(self, node: yaml_tree.Node, at: yaml_tree.Path) -> str:
        """Return a text with its references resolved, or what can stand there without them."""
        text = str(node.value)
        try:
            return resolve(text, self._folder)
        except UnresolvedError as error:
            problem = yaml_tree.Problem(node.line, node.path, str(error))
        if self._excuse(at, node):
            self.excused[at] = problem, True
            return blanked(text)
        self.unresolved.append(problem)
        return text

    def missing(
        self, tree: yaml_tree.Node, found: Iterable[tuple[yaml_tree.Path, yaml_tree.Problem]]
    ) -> Iterator[yaml_tree.Problem]:
        """Yield what is named in the file system, is not there, and is not excused."""
        for at, problem in found:
            node = tree.get(at)
            if node is not None and self._excuse(at, node):
                self.excused.setdefault(at, (problem, False))
            else:
                yield problem

    def without_a_value(self) -> list[yaml_tree.Problem]:
        """Return the excused references."""
        return [problem for problem, reference in self.excused.values() if reference]


def _below(path: yaml_tree.Path, pattern: tuple[str, ...]) -> bool:
    return len(path) >= len(pattern) and all(
        each in ("*", part) for part, each in zip(path, pattern, strict=False)
    )
